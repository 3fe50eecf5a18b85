# SPDX-License-Identifier: Apache-2.0
"""Debian packages are fetched once with an apt state of their own, and unpacked as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import debs
from lab.errors import LabError
from lab.run import run

# Stands for apt: counts its calls; "download" copies the test's package, "install" simulates two.
FAKE_APT = """\
#!/bin/sh
set -eu
echo "$*" >>"$HOME/calls"
case "$*" in
  *indextargets*) echo "http://mirror.example/debian/ bookworm" ;;
  *download*hello*) cp "$HOME/hello.deb" "$PWD/hello_2%3a1.0-1_amd64.deb" ;;
  *download*) exit 100 ;;
  *--simulate*) echo "Inst libc6 (1 X [amd64])"; echo "Inst hello (1 X [amd64])" ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a cache, a fake apt-get, and a real package of one program and one link."""
    tree_dir = tmp_path / "hello"
    (tree_dir / "DEBIAN").mkdir(parents=True)
    (tree_dir / "DEBIAN" / "control").write_text(
        "Package: hello\nVersion: 2:1.0-1\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: says hello\n"
    )
    (tree_dir / "sbin").mkdir()
    (tree_dir / "sbin" / "hello").write_text("#!/bin/sh\n")
    (tree_dir / "sbin" / "hallo").symlink_to("hello")
    programs_dir = tmp_path / "bin"
    programs_dir.mkdir()
    (programs_dir / "apt-get").write_text(FAKE_APT)
    (programs_dir / "apt-get").chmod(0o755)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(debs, "KEYRING_FILE", keyring)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs_dir}:/usr/bin:/bin")
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(debs.MIRROR_VARIABLE, raising=False)
    return tmp_path


def calls(home: Path) -> list[str]:
    return [line.split("/dev/null -o Dir::State")[-1] for line in (home / "calls").read_text().splitlines()]


@pytest.mark.subprocess
def test_a_package_is_fetched_once_and_unpacked(home: Path) -> None:
    """Starts the fake apt-get above and the real dpkg-deb."""
    run(["dpkg-deb", "--root-owner-group", "--build", home / "hello", home / "hello.deb"])
    deb = debs.unpack(["hello"])["hello"]
    assert deb.version == "2:1.0-1"
    assert ":" not in str(deb.tree_dir)
    assert (deb.tree_dir / "sbin" / "hallo").readlink() == Path("hello")
    before = calls(home)
    assert debs.unpack(["hello", "hello"]) == {"hello": deb}
    assert debs.versions(["hello"]) == {"hello": "2:1.0-1"}
    assert calls(home) == before
    assert sum("update" in call for call in before) == 1


@pytest.mark.subprocess
def test_apt_verifies_and_keeps_to_its_own_state(home: Path) -> None:
    """Starts the fake apt-get above."""
    assert debs.closure(["hello"]) == ("hello", "libc6")
    assert debs.closure(["hello"]) == ("hello", "libc6")
    lines = (home / "calls").read_text().splitlines()
    assert sum("--simulate" in line for line in lines) == 1
    state_dir = home / "cache" / "lab" / "debs" / "bookworm" / "apt"
    for line in lines[1:]:
        assert f"Dir::State={state_dir} " in line
        assert "Acquire::AllowInsecureRepositories=false" in line
    sources = (state_dir / "sources.sources").read_text()
    assert "http://mirror.example/debian/" in sources
    assert sources.count("Signed-By:") == 2


@pytest.mark.subprocess
def test_old_lists_are_fetched_again_before_a_download_fails(home: Path) -> None:
    """Starts the fake apt-get above, which has no package of that name."""
    with pytest.raises(LabError):
        debs.unpack(["absent"])
    assert sum("update" in call for call in calls(home)) == 2


@pytest.mark.subprocess
def test_a_machine_without_a_mirror_is_told_what_to_set(home: Path) -> None:
    """Starts a fake apt-get that knows no mirror."""
    (home / "bin" / "apt-get").write_text("#!/bin/sh\n")
    with pytest.raises(LabError, match="no Debian mirror") as caught:
        debs.unpack(["hello"])
    assert debs.MIRROR_VARIABLE in caught.value.resolution


def test_a_named_mirror_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debs.MIRROR_VARIABLE, "http://own.example/debian")
    sources = debs.render_sources(debs._mirror(), suite="trixie", keyring_file=Path("/k.gpg"))
    assert sources == (
        "Types: deb\nURIs: http://own.example/debian\nSuites: trixie trixie-updates\nComponents: main\n"
        "Signed-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://own.example/debian-security/\nSuites: trixie-security\nComponents: main\n"
        "Signed-By: /k.gpg\n"
    )


def test_without_the_keyring_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debs, "KEYRING_FILE", tmp_path / "absent")
    with pytest.raises(LabError) as caught:
        debs._keyring_file()
    assert "debian-archive-keyring" in caught.value.resolution


def test_sources_of_other_distributions_are_no_mirror() -> None:
    assert debs.parse_mirrors("http://other.example/ubuntu/ jammy\n") is None
