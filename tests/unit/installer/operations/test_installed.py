# SPDX-License-Identifier: Apache-2.0
"""A host that is installed takes its own bundle only; one that is not takes any."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import HostError, OtherBundleError, PackageError
from installer.base.paths import Paths
from installer.media import dnf, rpmdb
from installer.operations import bootstrap, installed
from tests.unit.installer.helpers import make_context, make_product


def test_the_same_bundle_goes_on_and_any_other_is_refused(tmp_path: Path) -> None:
    paths, own = Paths(tmp_path), make_product(version="0.2.0", build="20261127.0a1b2c3d")
    installed.refuse_other(own, paths)
    assert installed.note(own, paths)
    assert not installed.note(own, paths)
    installed.refuse_other(own, paths)
    for version, build, kind in (
        ("0.2.0", "20261201.0a1b2c3d", "another build of the same version"),
        ("0.3.0", "20261127.0a1b2c3d", "another version"),
        ("0.1.0", "", "another version"),
    ):
        with pytest.raises(OtherBundleError, match=kind) as caught:
            installed.refuse_other(make_product(version=version, build=build), paths)
        assert "installed: 0.2.0-20261127.0a1b2c3d" in caught.value.details
        assert caught.value.exit_code == 13


@pytest.mark.parametrize(
    ("there", "is_noted"),
    [({"rpm"}, False), ({"rpm", "salt"}, True), ({"rpm", "kubelet"}, True), (set(), True)],
)
def test_a_first_transaction_that_fails_leaves_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], *, is_noted: bool
) -> None:
    """A corrected ISO is taken; not when a package got there, nor when rpm's database cannot be read."""

    def refuse(*_: object, **__: object) -> bool:
        raise PackageError("dnf refused")

    monkeypatch.setattr(dnf, "install", refuse)
    monkeypatch.setattr(
        rpmdb,
        "installed",
        lambda names: {name: rpmdb.Found(name, "1-1") for name in names if name in there},
    )
    context = make_context(tmp_path)
    with pytest.raises(PackageError, match="dnf refused"):
        bootstrap.run_install_minion(context)
    assert (installed.read(context.paths) is not None) is is_noted


@pytest.mark.parametrize("text", ["", "[]", '{"title": "x"}'])
def test_a_note_that_is_torn_is_told(tmp_path: Path, text: str) -> None:
    paths = Paths(tmp_path)
    paths.installed_file.parent.mkdir(parents=True)
    paths.installed_file.write_text(text)
    with pytest.raises(HostError, match=r"installed\.json cannot be read"):
        installed.refuse_other(make_product(), paths)
