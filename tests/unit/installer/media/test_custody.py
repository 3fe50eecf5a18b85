# SPDX-License-Identifier: Apache-2.0
"""Who can change the ISO file: its owner, those who may write to it, and those who may replace it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.base.mounts import Mount
from installer.media import custody
from installer.media import mounting as media


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    """Return an ISO file in a directory of its own, both of whoever runs the tests alone."""
    file = tmp_path / "home/media/c.iso"
    file.parent.mkdir(parents=True, mode=0o755)
    file.touch(0o644)
    for place in (file.parent.parent, file.parent):
        place.chmod(0o755)
    return file


def faults(file: Path) -> list[str]:
    """Return the faults below the directory of the test."""
    return [fault for fault in custody.find_faults(file) if "/home" in fault]


def test_a_file_of_root_alone(iso: Path) -> None:
    assert faults(iso) == []


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_who_may_write_to_any_part_of_the_path_is_named(iso: Path, place: str) -> None:
    part = {".": iso, "..": iso.parent, "../..": iso.parent.parent}[place]
    part.chmod(part.stat().st_mode | 0o002)
    assert faults(iso) == [f"{part}: everybody may write to it"]


def test_a_sticky_directory_lets_nobody_replace_it(iso: Path) -> None:
    iso.parent.chmod(0o1777)
    assert faults(iso) == []
    iso.chmod(0o666)
    assert faults(iso) == [f"{iso}: everybody may write to it"]


def status(mode: int, user: int, group: int = 0) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("place", "child", "expected"),
    [
        (status(0o100644, 0), None, []),
        (status(0o100664, 0), None, []),
        (status(0o100664, 0, 4711), None, ["the group 4711 may write to it"]),
        (status(0o100600, 4711), None, ["owned by user 4711"]),
        (status(0o100666, 4711), None, ["owned by user 4711", "everybody may write to it"]),
        (status(0o041777, 0), status(0o100644, 0), []),
        (status(0o041777, 0), status(0o100644, 4711), ["everybody may write to it"]),
        (status(0o041775, 4711, 4711), status(0o100644, 0), ["owned by user 4711"]),
        (status(0o040775, 0, 4711), status(0o100644, 0), ["the group 4711 may write to it"]),
    ],
)
def test_owners_and_groups(place: os.stat_result, child: os.stat_result | None, expected: list[str]) -> None:
    assert list(custody._faults_of(place, child)) == expected


def test_it_is_refused_with_a_way_out(iso: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iso.chmod(0o666)
    mounts = (
        Mount("/", "/", "xfs", "/dev/vda1"),
        Mount(str(iso.parent / "mnt"), "/", "fuse.iso9660", str(iso)),
    )
    monkeypatch.setattr(media, "read_mounts", lambda: mounts)
    with pytest.raises(MediaError, match="can be changed by another user than root") as caught:
        media.check_custody(iso.parent / "mnt")
    assert f"{iso}: everybody may write to it" in caught.value.details
    assert f"install -D -t /var/lib/caisson-media -o root -g root -m 0644 {iso}\n" in caught.value.resolution


def test_what_is_no_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "read_mounts", lambda: (Mount(str(tmp_path), "/", "iso9660", "/dev/sr0"),))
    media.check_custody(tmp_path)
    monkeypatch.setattr(media, "read_mounts", lambda: (Mount("/", "/", "xfs", "/dev/vda1"),))
    media.check_custody(tmp_path)
