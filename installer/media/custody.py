# SPDX-License-Identifier: Apache-2.0
"""Look who can change the ISO after it was verified: states and programs from it run as root, after each boot too.

A loop device shows whatever the file holds now, so a good signature says something only as long as nobody but root
can write to the file, or put another one in its place. Where another computer or a program hands out the bytes, the
owner and the mode are its word only, and nothing here can judge it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shlex
import signal
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from installer.base.errors import MediaError
from installer.base.mounts import Mount, find_mount
from installer.media import devices

PLACE = "/var/lib/caisson-media"
OTHER_PLACE = "/var/lib/caisson-media-copy"
"""For a copy of what lies in the first: install(1) refuses to copy a file to itself, and it may be the fault."""
LOCAL_TYPES = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "nilfs2", "bcachefs"),
        *("zfs", "vxfs", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "hfsplus"),
        *("iso9660", "udf", "squashfs", "erofs", "tmpfs", "ramfs", "overlay"),
    }
)
"""File systems of which this host's kernel says itself who owns a file. ``fuseblk`` is root's alone to mount."""
ACCESS_LIST = "system.posix_acl_access"
ACL_VERSION = 2
ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK = 0x02, 0x04, 0x08, 0x10
ACL_WRITE = 0x02
DELETED = " (deleted)"


def refuse_changeable(file: Path, *, mounts: Sequence[Mount] = (), root: Path = Path("/")) -> None:
    """Refuse an ISO file that another user than root (or who runs this) can change or replace, or may be changing.

    ``file`` is resolved, and lies below ``root``; ``mounts`` say what it lies on.

    Raises:
        MediaError: one can; each place that lets them is named.
    """
    foreign = find_foreign(file, mounts, root)
    if foreign:
        raise MediaError(
            f"who can change the ISO {file} cannot be told",
            details=foreign,
            resolution=_copy_of(file),
        )
    faults = [*find_faults(file), *_find_faults_behind(file, mounts, root)]
    if faults:
        raise MediaError(
            f"the ISO {file} can be changed by another user than root",
            details="\n".join(
                [*faults, "what was verified is then not what is installed, now and after a boot"]
            ),
            resolution=_copy_of(file),
        )
    if is_written(file) and not _is_held_by_loop(file, root):
        raise MediaError(
            f"the ISO {file} is open for writing",
            details="who has it open can change it, whoever owns the file now",
            resolution=f"see who has it: fuser -v {shlex.quote(str(file))}; losetup -j {shlex.quote(str(file))}\n"
            "wait for a copy to end, or install from a copy:\n" + _copy_of(file),
        )


def refuse_device(device: str, *, mounts: Sequence[Mount] = (), root: Path = Path("/")) -> None:
    """Refuse a block device that leads to a file which is not root's alone, to another computer, or that users own.

    Raises:
        MediaError: it does.
    """
    faults = list(_faults_of_nodes(device, root))
    for end in devices.ends_of(device, root=root):
        behind = devices.file_behind(end)
        if behind.endswith(DELETED):
            faults.append(f"/dev/{end.name}: its file {behind} has no name any more")
        elif behind:
            refuse_changeable((root / behind.lstrip("/")).resolve(), mounts=mounts, root=root)
        elif devices.is_remote(end):
            faults.append(f"/dev/{end.name}: another computer, or a program, hands out its bytes")
    if faults:
        raise MediaError(
            f"the media on {device} can be changed by others than root",
            details="\n".join(faults),
            resolution=f"install -d -m 0755 {PLACE}\n"
            f"dd if={shlex.quote(device)} of={PLACE}/caisson.iso bs=4M conv=excl\n"
            "unmount the media, mount that file instead, and start its bootstrap.sh",
        )


def _copy_of(file: Path) -> str:
    place = OTHER_PLACE if Path(PLACE) in file.parents else PLACE
    return (
        f"install -D -t {place} -o root -g root -m 0644 {shlex.quote(str(file))}\n"
        "unmount the media, mount that file instead, and start its bootstrap.sh"
    )


# ---- what the file lies on -----------------------------------------------------------------------------------


def mount_of(file: Path, mounts: Sequence[Mount], root: Path) -> Mount | None:
    """Return the mount that a file lies on, as the host names its places."""
    base = root.resolve()
    inside = Path("/") / file.relative_to(base) if base in file.parents else file
    return find_mount(inside, mounts)


def find_foreign(file: Path, mounts: Sequence[Mount], root: Path) -> str:
    """Say on which file system a file lies whose owners and modes are somebody else's word; empty for a local one."""
    mount = mount_of(file, mounts, root)
    if mount is None or mount.fstype.partition(".")[0] in LOCAL_TYPES:
        return ""
    return (
        f"it lies on {mount.source}, of type {mount.fstype}, at {mount.mount_point}\n"
        "owner, mode and bytes are there what another computer or a program says"
    )


def _find_faults_behind(file: Path, mounts: Sequence[Mount], root: Path) -> Iterator[str]:
    """Name the faults of the files that the file's own file system is made from, by loop devices.

    The host's own root is passed over, and a file that is not seen from here (that of a container, of a live image).
    """
    mount = mount_of(file, mounts, root)
    if mount is None or mount.mount_point == "/" or not mount.source.startswith("/dev/"):
        return
    yield from _faults_of_nodes(mount.source, root)
    for end in devices.ends_of(mount.source, root=root):
        behind = devices.file_behind(end)
        place = (root / behind.lstrip("/")).resolve()
        if behind.endswith(DELETED):
            yield f"{mount.mount_point}: it is made from a file that has no name any more, {behind}"
        elif behind and place.is_file() and place != file:
            foreign = find_foreign(place, mounts, root)
            yield from [f"{place}: {foreign}"] if foreign else find_faults(place)


def _is_held_by_loop(file: Path, root: Path) -> bool:
    """Say whether a loop device holds a file for writing, as ``mount -o loop`` makes one: it hides who else does.

    The device itself is root's; that nobody beside it has the file open cannot be told then.
    """
    loops = (root / "sys/block").glob("loop*")
    return any(
        devices.file_behind(loop) == str(file) and (loop / "ro").read_text("utf-8").strip() == "0"
        for loop in loops
    )


# ---- who may write -------------------------------------------------------------------------------------------


def find_faults(file: Path) -> Iterator[str]:
    """Name each part of the path, from the file up, that somebody else owns or may write to.

    What lies in a directory with the sticky bit can be replaced by its owner only.
    """
    child: os.stat_result | None = None
    for place in (file, *file.parents):
        try:
            found, access = place.lstat(), _read_access_list(place)
        except OSError as exc:
            yield f"{place}: {exc.strerror}"
            return
        yield from (f"{place}: {fault}" for fault in _faults_of(found, child, access))
        child = found


def find_faults_below(directory: Path) -> Iterator[str]:
    """Name what is in a directory, at any depth, that somebody else owns or may write to; a link counts as its target.

    The directory itself and its path: :func:`find_faults`.
    """
    for place in sorted(directory.rglob("*")):
        try:
            if place.is_symlink():
                yield from find_faults(place.resolve())
                continue
            found, access = place.lstat(), _read_access_list(place)
        except (OSError, RuntimeError) as exc:
            yield f"{place}: {exc}"
            continue
        yield from (f"{place}: {fault}" for fault in _faults_of(found, None, access))


def _faults_of(found: os.stat_result, child: os.stat_result | None, access: bytes = b"") -> Iterator[str]:
    if not _is_trusted(found.st_uid):
        yield f"owned by {_name(found.st_uid)}"
    if child is not None and found.st_mode & stat.S_ISVTX and _is_trusted(child.st_uid):
        return
    if found.st_mode & stat.S_IWOTH:
        yield "everybody may write to it"
    elif access:  # then the group's bits of the mode are the mask of the list
        yield from _faults_of_list(access, found.st_gid)
    elif found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        yield f"the group {found.st_gid} may write to it"


def _faults_of_nodes(device: str, root: Path) -> Iterator[str]:
    """Name who else may write to a device or to those below it; an optical drive writes to no disc that is mounted.

    Groups are passed over: ``disk``, as EL has it, can write to every disk anyway.
    """
    ends = [root / "dev" / end.name.replace("!", "/") for end in devices.ends_of(device, root=root)]
    for node in dict.fromkeys([(root / device.lstrip("/")).resolve(), *ends]):
        try:
            found = node.stat()
        except OSError:
            continue  # as in a container, which has no node of the disk
        if node.name.startswith("sr"):
            continue
        if not _is_trusted(found.st_uid):
            yield f"{node}: owned by {_name(found.st_uid)}"
        if found.st_mode & stat.S_IWOTH:
            yield f"{node}: everybody may write to it"


def _read_access_list(place: Path) -> bytes:
    """Return the access control list of a file as the kernel hands it out; empty when it has none.

    Raises:
        OSError: it cannot be told.
    """
    try:
        return os.getxattr(place, ACCESS_LIST, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def _faults_of_list(access: bytes, group_id: int) -> Iterator[str]:
    """Name whom an access control list lets write, but root; its mask is what it lets anybody do at most.

    Source: linux/posix_acl_xattr.h: a version, then tag, permissions and id of each entry, little-endian; acl(5).
    """
    if len(access) % 8 != 4 or struct.unpack_from("<I", access) != (ACL_VERSION,):
        yield "its access control list is of an unknown form"
        return
    entries = list(struct.iter_unpack("<HHI", access[4:]))
    mask = next((allowed for tag, allowed, _ in entries if tag == ACL_MASK), ACL_WRITE)
    for tag, allowed, number in entries:
        if not allowed & mask & ACL_WRITE:
            continue
        if tag == ACL_USER and not _is_trusted(number):
            yield f"its access control list lets {_name(number)} write to it"
        group = group_id if tag == ACL_GROUP_OBJ else number
        if tag in (ACL_GROUP_OBJ, ACL_GROUP) and group != 0:
            yield f"the group {group} may write to it"


def _is_trusted(user_id: int) -> bool:
    return user_id in (0, os.geteuid())


def _name(user_id: int) -> str:
    try:
        return f"{pwd.getpwuid(user_id).pw_name} (user {user_id})"
    except KeyError:
        return f"user {user_id}"


# ---- who is writing ------------------------------------------------------------------------------------------


def is_written(file: Path) -> bool:
    """Say whether somebody has a file open for writing: neither owner nor mode ends what was opened before.

    The kernel grants a lease for reading only where nobody has, be it a process, a mapping or a loop device. Where it
    grants none to anybody (some file systems), or not to this user, it is not known: False.
    Source: fcntl(2), F_SETLEASE.
    """
    try:
        # Somebody else's lease would let this wait for its end.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except BlockingIOError:
        return True
    except OSError:
        return False
    try:
        # Who opens it in this very moment has this process told, by a signal that would end it: take one that does not.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    finally:
        os.close(handle)
    return False
