# SPDX-License-Identifier: Apache-2.0
"""The mounts of a process, from real lines of /proc/self/mountinfo."""

from __future__ import annotations

from pathlib import Path

from installer.base.mounts import find_mount, is_mounted, parse_mountinfo, read_mounts

TEXT = """\
22 1 252:0 / / rw,relatime shared:1 - xfs /dev/vda3 rw,seclabel,attr2
40 22 7:0 / /mnt/my\\040iso ro,relatime shared:9 master:2 - iso9660 /dev/loop0 ro,nojoliet
41 22 0:45 / /srv/caisson/0.1.0 ro,nosuid,nodev - fuse.iso9660 /dev/loop1 rw,user_id=0
42 22 0:46 / /var/lib/containerd rw,noexec - ext4 /dev/vdb rw
no line
"""


def test_the_longest_mount_point_wins_and_the_last_of_equals() -> None:
    mounts = parse_mountinfo(TEXT + "50 40 0:9 / /mnt/my\\040iso rw - tmpfs tmpfs rw\n")
    assert len(mounts) == 5
    over = find_mount(Path("/mnt/my iso/installer"), mounts)
    assert over is not None
    assert over.fstype == "tmpfs"
    root = find_mount(Path("/mnt/my iso2"), mounts)
    assert root is not None
    assert root.mount_point == "/"
    assert find_mount(Path("/x"), ()) is None


def test_options_are_those_of_the_mount_and_of_the_file_system() -> None:
    mount = find_mount(Path("/srv/caisson/0.1.0"), parse_mountinfo(TEXT))
    assert mount is not None
    assert (mount.source, mount.options) == ("/dev/loop1", ("ro", "nosuid", "nodev", "rw", "user_id=0"))
    assert is_mounted(Path("/srv/caisson/0.1.0"), parse_mountinfo(TEXT))
    assert not is_mounted(Path("/srv/caisson"), parse_mountinfo(TEXT))


def test_our_own_mounts_can_be_read() -> None:
    assert find_mount(Path("/"), read_mounts()) is not None
