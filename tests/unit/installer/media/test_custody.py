# SPDX-License-Identifier: Apache-2.0
"""Who can change the ISO: its owner, who may write to it or replace it, who has it open, and what hands it out."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.base.mounts import Mount
from installer.media import custody
from installer.media import mounting as media

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a loop device is set up: needs root")
ROOT_MOUNT = Mount("/", "/", "xfs", "/dev/vda1")


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


# ---- access control lists ------------------------------------------------------------------------------------

NOBODY = 0xFFFFFFFF
OWNER, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def access_list(*more: tuple[int, int, int], group: int = 4, mask: int = 7) -> bytes:
    """Return a list as the kernel takes and hands it out: owner rw, others r, and what is given."""
    entries = [
        (OWNER, 6, NOBODY),
        (GROUP_OBJ, group, NOBODY),
        *more,
        (MASK, mask, NOBODY),
        (OTHER, 4, NOBODY),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (access_list((USER, 6, 4711)), ["its access control list lets user 4711 write to it"]),
        (access_list((USER, 4, 4711)), []),
        (access_list((USER, 6, 4711), mask=4), []),
        (access_list((USER, 6, 0), (GROUP, 6, 0)), []),
        (access_list((GROUP, 6, 4711)), ["the group 4711 may write to it"]),
        (
            access_list((USER, 4, 4711), (USER, 6, 4712), (GROUP, 6, 4713)),
            ["its access control list lets user 4712 write to it", "the group 4713 may write to it"],
        ),
    ],
)
@pytest.mark.parametrize("place", [".", ".."])
def test_whom_an_access_list_lets_write_is_named(
    iso: Path, access: bytes, expected: list[str], place: str
) -> None:
    """The group's bits of the mode are the list's mask then, and the group of a file of root's is root's."""
    part = iso if place == "." else iso.parent
    os.setxattr(part, "system.posix_acl_access", access)
    assert faults(iso) == [f"{part}: {fault}" for fault in expected]


def test_the_list_s_entry_of_the_owning_group() -> None:
    found, writing = status(0o100664, 0, 4711), access_list((USER, 4, 1), group=6)
    assert list(custody._faults_of(found, None, writing)) == ["the group 4711 may write to it"]
    assert list(custody._faults_of(found, None, access_list((USER, 4, 1)))) == []
    assert list(custody._faults_of(status(0o100664, 0), None, writing)) == []


@pytest.mark.parametrize("access", [b"\1\0\0\0", b"\2\0", access_list()[:-1]])
def test_a_list_of_an_unknown_form_is_no_good_sign(access: bytes) -> None:
    assert list(custody._faults_of(status(0o100644, 0), None, access)) == [
        "its access control list is of an unknown form"
    ]


def test_the_list_for_new_files_lets_nobody_write(iso: Path) -> None:
    os.setxattr(iso.parent, "system.posix_acl_default", access_list((USER, 6, 4711)))
    assert faults(iso) == []


def test_a_sticky_directory_s_list_lets_nobody_replace_it(iso: Path) -> None:
    os.setxattr(iso.parent, "system.posix_acl_access", access_list((USER, 7, 4711)))
    iso.parent.chmod(0o1775)
    assert faults(iso) == []


# ---- who has it open -----------------------------------------------------------------------------------------


@contextmanager
def opened(file: Path, flags: int) -> Iterator[int]:
    handle = os.open(file, flags)
    try:
        yield handle
    finally:
        os.close(handle)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_a_file_that_somebody_has_open_for_writing_is_refused(iso: Path, flags: int) -> None:
    """What was opened before the file became root's still writes."""
    with opened(iso, flags), pytest.raises(MediaError, match="is open for writing") as caught:
        custody.refuse_changeable(iso)
    assert f"fuser -v {iso}; losetup -j {iso}\n" in caught.value.resolution
    custody.refuse_changeable(iso)


def test_a_mapping_is_enough(iso: Path) -> None:
    iso.write_bytes(bytes(mmap.PAGESIZE))
    with opened(iso, os.O_RDWR) as handle:
        mapping = mmap.mmap(handle, mmap.PAGESIZE)
    assert custody.is_written(iso)
    mapping.close()
    assert not custody.is_written(iso)


def test_readers_do_no_harm_and_the_lease_is_given_back(iso: Path) -> None:
    with opened(iso, os.O_RDONLY):
        assert not custody.is_written(iso)
        assert not custody.is_written(iso)
    with opened(iso, os.O_RDWR | os.O_NONBLOCK):  # would fail where a lease was left
        assert custody.is_written(iso)


def test_what_cannot_be_opened_is_not_known(tmp_path: Path) -> None:
    assert not custody.is_written(tmp_path / "none.iso")


@needs_root
@pytest.mark.subprocess
@pytest.mark.parametrize(("options", "is_written"), [(["--read-only"], False), ([], True)])
def test_a_loop_device_writes_unless_it_is_read_only(iso: Path, options: list[str], is_written: bool) -> None:
    """A real loop device, as mount(8) makes one with ``loop,ro`` and with ``loop`` (losetup)."""
    iso.write_bytes(bytes(1 << 20))
    command = ["losetup", "--find", "--show", *options, str(iso)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        assert custody.is_written(iso) == is_written
        assert custody._is_held_by_loop(iso, Path("/")) == is_written
        custody.refuse_changeable(iso)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


# ---- what it lies on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fstype",
    ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse", "9p", "virtiofs", "ceph", "fuse.glusterfs", "gfs2"],
)
def test_where_the_owner_is_another_s_word_it_is_refused(iso: Path, fstype: str) -> None:
    mounts = (ROOT_MOUNT, Mount(str(iso.parent), "/", fstype, "server:/iso"))
    with pytest.raises(MediaError, match="cannot be told") as caught:
        custody.refuse_changeable(iso, mounts=mounts)
    assert f"it lies on server:/iso, of type {fstype}, at {iso.parent}" in caught.value.details
    assert f"install -D -t /var/lib/caisson-media -o root -g root -m 0644 {iso}\n" in caught.value.resolution


@pytest.mark.parametrize(
    "fstype", ["ext4", "xfs", "btrfs", "vfat", "exfat", "fuseblk", "iso9660", "tmpfs", "overlay"]
)
def test_a_disk_of_this_host_is_judged_by_its_files(iso: Path, fstype: str) -> None:
    mounts = (ROOT_MOUNT, Mount(str(iso.parent), "/", fstype, "/dev/sdb1"))
    custody.refuse_changeable(iso, mounts=mounts)
    iso.chmod(0o666)
    with pytest.raises(MediaError, match="by another user than root"):
        custody.refuse_changeable(iso, mounts=mounts)


def test_the_media_s_own_mount_may_be_a_program_s(iso: Path) -> None:
    """As the lab's is: what counts is the file that the program shows."""
    mounts = (ROOT_MOUNT, Mount(str(iso.parent / "mnt"), "/", "fuse.iso9660", str(iso)))
    media.check_custody(iso.parent / "mnt", mounts=mounts)


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("/var/lib/caisson-media/c.iso", "/var/lib/caisson-media-copy"),
        ("/var/lib/caisson-media-copy/c.iso", "/var/lib/caisson-media"),
        ("/home/x/c.iso", "/var/lib/caisson-media"),
    ],
)
def test_the_way_out_never_copies_a_file_to_itself(file: str, place: str) -> None:
    mounts = (Mount("/", "/", "nfs4", "server:/iso"),)
    with pytest.raises(MediaError) as caught:
        custody.refuse_changeable(Path(file), mounts=mounts)
    assert caught.value.resolution.startswith(f"install -D -t {place} -o root -g root -m 0644 {file}\n")


# ---- block devices -------------------------------------------------------------------------------------------


def device(root: Path, path: str, *, backing: str = "", below: str = "", transport: str = "") -> None:
    """Make a block device below a root as sysfs shows it; ``path`` is relative to /sys/devices."""
    directory = root / "sys/devices" / path
    (directory / "slaves").mkdir(parents=True)
    links = root / "sys/class/block"
    links.mkdir(parents=True, exist_ok=True)
    (links / directory.name).symlink_to(directory)
    if directory.parent.name == directory.name.rpartition("p")[0]:
        (directory / "partition").write_text("1\n")
    if backing:
        (directory / "loop").mkdir()
        (directory / "loop/backing_file").write_text(backing + "\n")
    if below:
        (directory / "slaves" / below).symlink_to(links / below)
    if transport:
        (directory / "device").mkdir()
        (directory / "device/transport").write_text(transport + "\n")


@pytest.fixture
def host(tmp_path: Path, iso: Path) -> Path:
    """Return a root with an ISO behind loop0, its partition, and a device of device mapper on that."""
    device(tmp_path, "virtual/block/loop0", backing="/home/media/c.iso")
    device(tmp_path, "virtual/block/loop0/loop0p1")
    device(tmp_path, "virtual/block/dm-0", below="loop0p1")
    (tmp_path / "dev/mapper").mkdir(parents=True)
    (tmp_path / "dev/dm-0").touch(0o600)
    (tmp_path / "dev/mapper/media").symlink_to("../dm-0")
    return tmp_path


@pytest.mark.parametrize("source", ["/dev/loop0p1", "/dev/dm-0", "/dev/mapper/media"])
def test_a_device_is_followed_down_to_a_file(host: Path, iso: Path, source: str) -> None:
    mounts = (ROOT_MOUNT, Mount("/mnt", "/", "iso9660", source))
    media.check_custody(Path("/mnt"), root=host, mounts=mounts)
    iso.chmod(0o666)
    with pytest.raises(MediaError, match="by another user than root") as caught:
        media.check_custody(Path("/mnt"), root=host, mounts=mounts)
    assert f"{iso}: everybody may write to it" in caught.value.details
    (host / "sys/devices/virtual/block/loop0/loop/backing_file").write_text("/home/c.iso (deleted)\n")
    with pytest.raises(MediaError, match="by others than root"):
        media.check_custody(Path("/mnt"), root=host, mounts=mounts)


@pytest.mark.parametrize(
    ("path", "transport"),
    [
        ("virtual/block/nbd0", ""),
        ("virtual/block/rbd1", ""),
        ("virtual/block/ublkb0", ""),
        ("virtual/block/etherd!e1.0", ""),
        ("platform/host3/session1/target3:0:0/3:0:0:1/block/sdb", ""),
        ("virtual/nvme-fabrics/ctl/nvme1/nvme1n1", "tcp"),
    ],
)
def test_a_disk_that_another_computer_hands_out_is_refused(tmp_path: Path, path: str, transport: str) -> None:
    device(tmp_path, path, transport=transport)
    source = "/dev/" + Path(path).name.replace("!", "/")
    with pytest.raises(MediaError, match="by others than root") as caught:
        media.check_custody(
            Path("/mnt"), root=tmp_path, mounts=(ROOT_MOUNT, Mount("/mnt", "/", "iso9660", source))
        )
    assert (
        f"dd if={source} of=/var/lib/caisson-media/caisson.iso bs=4M conv=excl\n" in caught.value.resolution
    )


@pytest.mark.parametrize(
    ("path", "transport"),
    [
        ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sr0", ""),
        ("pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb", ""),
        ("pci0000:00/0000:00:02.0/virtio1/block/vdb", ""),
        ("pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1", "pcie"),
    ],
)
def test_a_drive_of_this_host_is_taken(tmp_path: Path, path: str, transport: str) -> None:
    device(tmp_path, path, transport=transport)
    source = f"/dev/{Path(path).name}"
    (tmp_path / "dev").mkdir()
    (tmp_path / source.lstrip("/")).touch(0o660)
    media.check_custody(
        Path("/mnt"), root=tmp_path, mounts=(ROOT_MOUNT, Mount("/mnt", "/", "iso9660", source))
    )


@pytest.mark.parametrize(("name", "is_refused"), [("sdb", True), ("sr0", False)])
def test_a_stick_that_everybody_may_write_to_is_refused(tmp_path: Path, name: str, is_refused: bool) -> None:
    node = tmp_path / "dev" / name
    node.parent.mkdir()
    node.touch()
    node.chmod(0o666)
    mounts = (ROOT_MOUNT, Mount("/mnt", "/", "iso9660", f"/dev/{name}"))
    if not is_refused:
        media.check_custody(Path("/mnt"), root=tmp_path, mounts=mounts)
        return
    with pytest.raises(MediaError, match="by others than root") as caught:
        media.check_custody(Path("/mnt"), root=tmp_path, mounts=mounts)
    assert f"{node}: everybody may write to it" in caught.value.details


@pytest.mark.parametrize(
    ("point", "backing", "is_refused"),
    [
        ("/home/media", "/images/disk.img", True),
        ("/home/media", "/images/disk.img (deleted)", True),
        ("/home/media", "/not/seen/from/here.img", False),
        ("/", "/images/disk.img", False),
    ],
)
def test_the_file_system_s_own_file_counts_too(
    tmp_path: Path, iso: Path, point: str, backing: str, is_refused: bool
) -> None:
    device(tmp_path, "virtual/block/loop5", backing=backing)
    image = tmp_path / "images/disk.img"
    image.parent.mkdir()
    image.touch()
    image.chmod(0o666)
    mounts = (ROOT_MOUNT, Mount(point, "/", "ext4", "/dev/loop5"))
    if not is_refused:
        custody.refuse_changeable(iso, mounts=mounts, root=tmp_path)
        return
    with pytest.raises(MediaError, match="by another user than root"):
        custody.refuse_changeable(iso, mounts=mounts, root=tmp_path)


def test_a_partition_s_disk_and_the_disk_below_a_file_system_count_too(tmp_path: Path, iso: Path) -> None:
    device(tmp_path, "pci0/nvme/nvme0/nvme0n1", transport="pcie")
    device(tmp_path, "pci0/nvme/nvme0/nvme0n1/nvme0n1p1")
    disk = tmp_path / "dev/nvme0n1"
    disk.parent.mkdir()
    disk.touch()
    mounts = (ROOT_MOUNT, Mount("/home/media", "/", "ext4", "/dev/nvme0n1p1"))
    custody.refuse_changeable(iso, mounts=mounts, root=tmp_path)
    disk.chmod(0o666)
    with pytest.raises(MediaError, match="by another user than root") as caught:
        custody.refuse_changeable(iso, mounts=mounts, root=tmp_path)
    assert f"{disk}: everybody may write to it" in caught.value.details
    with pytest.raises(MediaError, match="by others than root"):
        custody.refuse_device("/dev/nvme0n1p1", root=tmp_path)
