# SPDX-License-Identifier: Apache-2.0
"""A copy of an ISO on a further control plane: kept when it is the one that was verified, or nothing is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.media import custody, notes
from installer.operations import replica
from tests.unit.installer.helpers import make_tree
from tests.unit.installer.operations.isos import PAUSE, IsoHost

NAME = "0.1.0-20261102.bb"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IsoHost:
    made = IsoHost(tmp_path, monkeypatch)
    monkeypatch.setattr(replica, "run", made.run)
    monkeypatch.setattr(replica, "read_mounts", lambda: tuple(made.mounts))
    manifest = made.paths.at(replica.MANIFEST_FILE)
    manifest.parent.mkdir(parents=True)
    manifest.write_text("a pod")
    return made


@pytest.fixture
def copy(host: IsoHost) -> Path:
    return host.iso("20261102.bb", {PAUSE: b"in use"})


def sums_of(copy: Path) -> str:
    return notes.sums_digest(copy.with_suffix(".tree"))


def keep(host: IsoHost, copy: Path, sums: str = "") -> bool:
    return replica.keep(copy, NAME, sums or sums_of(copy), host.paths, say=host.said.append)


def is_serving(host: IsoHost) -> bool:
    return host.paths.at(replica.MANIFEST_FILE).exists()


def test_one_is_verified_mounted_and_noted_once(host: IsoHost, copy: Path) -> None:
    assert keep(host, copy)
    assert NAME in [one.name for one in replica.kept(host.paths) if not one.missing]
    before = host.traces()
    host.commands.clear()
    assert not keep(host, copy)
    assert (host.traces(), host.commands) == (before, [])
    assert is_serving(host)


@pytest.mark.parametrize("spoil", ["other sums", "other build", "a byte", "anybody's", "gone"])
def test_one_that_is_not_what_was_verified_refuses_to_serve(host: IsoHost, copy: Path, spoil: str) -> None:
    sums = sums_of(copy)
    tree = copy.with_suffix(".tree")
    if spoil == "other sums":
        sums = "0" * 64
    elif spoil == "other build":
        copy = host.iso("20261103.cc", {PAUSE: b"in use"})
        sums = sums_of(copy)
    elif spoil == "a byte":
        blob = next((tree / "oci/blobs/sha256").iterdir())
        blob.write_bytes(blob.read_bytes()[::-1])
    elif spoil == "anybody's":
        copy.chmod(0o666)
    else:
        host.failing.add("mount iso9660")
    with pytest.raises(MediaError):
        keep(host, copy, sums)
    assert not is_serving(host)
    assert NAME not in [one.name for one in replica.kept(host.paths)]
    assert str(host.paths.media_dir(NAME)) not in [mount.mount_point for mount in host.mounts]


def test_one_that_was_changed_later_refuses_to_serve_too(host: IsoHost, copy: Path) -> None:
    keep(host, copy)
    sums = sums_of(copy)
    make_tree(copy.with_suffix(".tree"), {"bootstrap.sh": "evil"})
    host.mounts = [mount for mount in host.mounts if mount.source != str(copy)]
    with pytest.raises(MediaError, match=r"is not 0\.1\.0-20261102\.bb as the bootstrap node verified it"):
        keep(host, copy, sums)
    assert not is_serving(host)


def test_a_run_that_was_killed_before_the_note_is_gone_on_with(host: IsoHost, copy: Path) -> None:
    keep(host, copy)
    (host.paths.media_notes_dir / f"{NAME}.json").unlink()
    assert keep(host, copy)
    assert not keep(host, copy)


def test_what_the_bootstrap_node_has_no_more_is_given_up_with_its_copy(host: IsoHost, copy: Path) -> None:
    keep(host, copy)
    assert replica.forget_others([host.own.full_version, NAME], host.paths) == []
    assert replica.forget_others([host.own.full_version], host.paths) == [NAME]
    assert copy.exists(), "no copy of Caisson's own: it lies elsewhere"
    assert NAME not in [one.name for one in replica.kept(host.paths)]
    assert str(host.paths.media_dir(NAME)) not in [mount.mount_point for mount in host.mounts]


def test_a_copy_that_was_begun_and_that_nobody_goes_on_with_is_deleted(host: IsoHost) -> None:
    place = host.paths.at(custody.PLACE)
    place.mkdir(parents=True, exist_ok=True)
    for name in (f"{NAME}.iso.part", "0.1.0-gone.iso.part", "mine.iso"):
        (place / name).write_text("x")
    replica.forget_others([host.own.full_version, NAME], host.paths)
    assert sorted(file.name for file in place.iterdir()) == [f"{NAME}.iso.part", "mine.iso"]


def test_one_whose_note_a_power_cut_emptied_is_verified_and_noted_again(host: IsoHost, copy: Path) -> None:
    keep(host, copy)
    (host.paths.media_notes_dir / f"{NAME}.json").write_text("")
    assert NAME not in [one.name for one in replica.kept(host.paths)]
    assert keep(host, copy)
    assert NAME in [one.name for one in replica.kept(host.paths)]


def test_what_is_wrong_with_a_copy_is_told_with_the_command(host: IsoHost, copy: Path) -> None:
    keep(host, copy)
    assert replica.faults(host.paths, "cp2") == ()
    host.mounts = [mount for mount in host.mounts if NAME not in mount.mount_point]
    (fault,) = replica.faults(host.paths, "cp2")
    assert fault.text.startswith(f"the copy of {NAME}: nothing is mounted at ")
    assert "caisson media replicate cp2" in fault.fix
