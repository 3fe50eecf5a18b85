# SPDX-License-Identifier: Apache-2.0
"""Each way in which an ISO is not where it should be is told, with what puts it right."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.mounts import Mount
from installer.base.paths import Paths
from installer.media import mounting, notes, state
from installer.media.notes import Note
from installer.media.state import MediaState
from tests.unit.installer.helpers import make_product, make_tree, product_bytes

DRIVE = "/dev/disk/by-id/usb-stick"


def iso_bytes(name: bytes, *, blocks: int = 20) -> bytes:
    """Return an ISO of a name: sixteen empty sectors, the volume descriptor, its blocks."""
    found = bytearray(b"\1CD001" + name.ljust(74, b"\0") + blocks.to_bytes(4, "little") + b"\0" * 44)
    found += (2048).to_bytes(2, "little")
    return (b"\0" * 32_768 + bytes(found)).ljust(blocks * 2048, b"\0")


class Place:
    """A host whose ISO is mounted, from a file or a drive."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, *, is_drive: bool) -> None:
        self.paths = Paths(root)
        self.product = make_product()
        self.mount_point = self.paths.media_dir("0.1.0")
        make_tree(self.mount_point, {"product.json": product_bytes().decode()})
        self.what = DRIVE if is_drive else str(root / "c.iso")
        source = "/dev/sdb" if is_drive else "/dev/loop0"
        self.file = self.paths.at(source) if is_drive else root / "c.iso"
        for file in {self.file, self.paths.at(source)}:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(iso_bytes(b"one"))
        if is_drive:
            self.paths.at(DRIVE).parent.mkdir(parents=True)
            self.paths.at(DRIVE).symlink_to("../../sdb")
        else:
            self.loop_is(self.what)
        self.unit = mounting.unit_name(self.mount_point)
        unit_file = self.paths.units_dir / self.unit
        unit_file.parent.mkdir(parents=True)
        unit_file.write_text(f"[Mount]\nWhat={self.what}\n")
        notes.write(notes.make(self.product, self.mount_point, self.file), self.paths.media_notes_dir)
        self.mounts = [Mount(str(self.mount_point), "/", "iso9660", source)]
        monkeypatch.setattr(state, "read_mounts", lambda: tuple(self.mounts))

    def loop_is(self, text: str) -> None:
        file = self.paths.at("/sys/block/loop0/loop/backing_file")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def look(self) -> MediaState:
        return state.media_state(self.product, self.paths)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, monkeypatch, is_drive=False)
    assert made.look().missing == ""
    return made


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path, monkeypatch, is_drive=True)
    assert made.look().missing == ""
    return made


# ---- a file --------------------------------------------------------------------------------------------------


def test_the_file_was_deleted_while_mounted(place: Place) -> None:
    place.file.unlink()
    place.loop_is(f"{place.what} (deleted)")
    found = place.look()
    assert found.missing == f"{place.what} is no longer there: the media is lost with the next reboot"
    assert (
        found.resolution == f"do not reboot; write it again from what is mounted: cp /dev/loop0 {place.what}"
    )


def test_the_file_was_replaced_while_mounted(place: Place) -> None:
    place.loop_is(f"{place.what} (deleted)")
    place.file.write_bytes(iso_bytes(b"two"))
    assert "is another file than the one that is mounted" in place.look().missing


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (iso_bytes(b"two"), "is another ISO than the one that was verified"),
        (b"text" * 20_000, "is no ISO any more"),
        (b"", "is no ISO any more"),
        (iso_bytes(b"one")[:-2048], "is cut off: 38912 bytes of 40960"),
    ],
)
def test_the_file_was_written_over_in_place(place: Place, content: bytes, said: str) -> None:
    place.file.write_bytes(content)
    found = place.look()
    assert found.missing == f"{place.what} {said}"
    assert found.resolution == f"put the ISO that was verified back as {place.what}"
    place.mounts.clear()
    found = place.look()
    assert found.missing == f"nothing is mounted at {place.mount_point}: {place.what} {said}"
    assert found.resolution.endswith(f"then: systemctl start '{place.unit}'")


def test_what_is_mounted_was_changed(place: Place) -> None:
    with (place.mount_point / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  evil\n")
    found = place.look()
    assert found.missing == f"the media at {place.mount_point} was changed since it was verified"
    assert "caisson media add FILE" in found.resolution
    (place.mount_point / "SHA256SUMS").unlink()
    assert "SHA256SUMS cannot be read: No such file" in place.look().missing


def test_it_was_unmounted(place: Place) -> None:
    place.mounts.clear()
    found = place.look()
    assert (found.missing, found.resolution) == (
        f"nothing is mounted at {place.mount_point}",
        f"systemctl start '{place.unit}'",
    )


def test_it_was_unmounted_and_the_file_is_gone(place: Place) -> None:
    place.mounts.clear()
    place.file.unlink()
    found = place.look()
    assert found.missing.endswith(f"{place.what} is not there")
    assert found.resolution.splitlines() == [
        f"put the ISO back as {place.what}, then: systemctl start '{place.unit}'",
        "from another file or drive: caisson media add FILE",
    ]


@pytest.mark.parametrize("above", [False, True])
def test_something_is_mounted_over_it(place: Place, *, above: bool) -> None:
    over = place.mount_point.parent if above else place.mount_point
    place.mounts.append(Mount(str(over), "/", "tmpfs", "tmpfs"))
    (place.mount_point / "product.json").unlink()  # as it is seen then
    found = place.look()
    assert found.missing == f"tmpfs (tmpfs) is mounted over the media, at {over}"
    assert found.resolution == f"see 'findmnt --mountpoint {over}'; then: umount {over}"


def test_a_note_that_cannot_be_read_hides_nothing_else(place: Place) -> None:
    (file,) = place.paths.media_notes_dir.iterdir()
    file.write_text("{")
    assert place.look().missing == ""
    place.mounts.clear()
    assert "nothing is mounted" in place.look().missing


# ---- a drive -------------------------------------------------------------------------------------------------


def test_the_drive_was_pulled_out_while_mounted(drive: Place) -> None:
    drive.paths.at(DRIVE).unlink()
    drive.file.unlink()
    found = drive.look()
    assert found.missing == f"the drive {DRIVE} was pulled out while it was mounted"
    assert found.resolution.startswith(f"plug it in again, then: systemctl restart '{drive.unit}'")


def test_the_drive_came_back_under_another_name(drive: Place) -> None:
    drive.file.rename(drive.file.with_name("sdc"))
    drive.paths.at(DRIVE).unlink()
    drive.paths.at(DRIVE).symlink_to("../../sdc")
    found = drive.look()
    assert found.missing.endswith("was pulled out while it was mounted, and is /dev/sdc now")
    assert found.resolution == f"systemctl restart '{drive.unit}'"


def test_the_drive_is_gone_and_unmounted_with_it(drive: Place) -> None:
    drive.mounts.clear()
    drive.paths.at(DRIVE).unlink()
    found = drive.look()
    assert found.missing == f"nothing is mounted at {drive.mount_point}: {DRIVE} is not there"
    assert found.resolution.startswith(f"plug in the drive again, {DRIVE}, then: systemctl start")


def test_another_drive_is_in_its_place(drive: Place) -> None:
    drive.mounts.clear()
    drive.file.write_bytes(iso_bytes(b"two"))
    found = drive.look()
    assert "is another ISO than the one that was verified" in found.missing
    assert found.resolution.startswith(f"plug in the right drive as {DRIVE}, then: systemctl start")


def test_only_the_name_of_the_drive_is_gone(drive: Place) -> None:
    drive.paths.at(DRIVE).unlink()
    assert drive.look().missing == f"{DRIVE} is no longer there: the media is lost with the next reboot"


# ---- the note ------------------------------------------------------------------------------------------------


def test_a_note_is_written_once_and_read_again(place: Place) -> None:
    notes_dir = place.paths.media_notes_dir
    (note,) = notes.read_all(notes_dir)
    assert isinstance(note, Note)
    assert (note.full_version, note.size_bytes, note.signed_by) == ("0.1.0", 40_960, "")
    assert not notes.write(note, notes_dir)
    assert notes.read("0.2.0", notes_dir) is None
    notes.forget("0.1.0", notes_dir)
    assert not list(notes.read_all(notes_dir))
