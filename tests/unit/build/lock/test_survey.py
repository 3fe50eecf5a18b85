# SPDX-License-Identifier: Apache-2.0
"""One look at upstream: a row for each thing that is wanted, whatever becomes of the others."""

from __future__ import annotations

import pytest

from build.base.errors import BuildError, NotFoundError
from build.lock.survey import run_survey
from tests.unit.build.fakesite import Site

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]


def survey(site: Site) -> None:
    run_survey(site.profile_file, site.root_dir / "cache", sources=site.sources)


def rows(text: str) -> dict[str, str]:
    """Return the rows of a table: mark and what was found, by what."""
    found = {}
    for line in text.splitlines():
        mark, _, rest = line.partition(" ")
        if mark in ("ok", "FAULT", "-"):
            what, _, said = rest.strip().partition("  ")
            found[what] = f"{mark} {said.strip()}"
    return found


def test_every_wanted_thing_has_a_row(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    survey(site)
    said = capsys.readouterr().err
    found = rows(said)
    assert list(found) == [
        "keys of repository 'baseos'", "keys of repository 'tools'", "repository 'baseos'", "repository 'tools'",
        "baseline 'el9'", "package tool 1.0", "image registry.k8s.io/pause:3.10", "image registry.k8s.io/old:1",
        "manifest 'net'",
    ]  # fmt: skip
    assert all(row.startswith("ok") for row in found.values())
    assert site.key.fingerprint in found["keys of repository 'tools'"]
    assert "group 'core': 1 names" in found["baseline 'el9'"]
    assert "1.0-1.el9" in found["package tool 1.0"]
    assert "sha256:" in found["image registry.k8s.io/old:1"]
    assert "all 9 things" in said
    assert not site.lock_file.exists()
    assert not [seen for seen in site.upstream.seen if seen.path.endswith(".rpm")]


def test_bad_rows_are_shown_with_the_good_ones(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    del site.upstream.content["/v2/k8s/old/manifests/1"]
    del site.upstream.content["/tools/repodata/repomd.xml"]
    site.key.key_file.with_name("other.asc").write_text("none", encoding="ascii")
    with pytest.raises(NotFoundError) as caught:
        survey(site)
    assert caught.value.message == "upstream site has 2 faults"
    found = rows(capsys.readouterr().err)
    assert "upstream does not have image registry.k8s.io/old:1" in found["image registry.k8s.io/old:1"]
    assert found["image registry.k8s.io/old:1"].startswith("FAULT")
    assert found["repository 'tools'"].startswith("FAULT")
    assert found["package tool 1.0"].startswith("-")
    assert "not looked at" in found["package tool 1.0"]
    assert found["manifest 'net'"].startswith("ok")


def test_each_mirror_is_asked(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A lock would be content with the good one; here the other is told of."""
    text = site.profile_file.read_text(encoding="utf-8")
    url = f"{site.upstream.url}/tools/"
    site.profile_file.write_text(text.replace(f'"{url}"', f'["{url}gone/", "{url}"]'), encoding="utf-8")
    with pytest.raises(BuildError):
        survey(site)
    said = capsys.readouterr().err
    assert [line[:5].strip() for line in said.splitlines() if "repository 'tools'" in line and url in line] == [
        "FAULT", "ok",
    ]  # fmt: skip
    assert rows(said)["package tool 1.0"].startswith("ok")


def test_a_key_that_is_not_there(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.key.key_file.unlink()
    with pytest.raises(BuildError) as caught:
        survey(site)
    assert caught.value.exit_code == 20
    found = rows(capsys.readouterr().err)
    assert found["keys of repository 'tools'"].startswith("FAULT")
    assert "not looked at: its keys cannot be read" in found["repository 'tools'"]
    assert "not looked at" in found["baseline 'el9'"]
    assert found["manifest 'net'"].startswith("ok")
