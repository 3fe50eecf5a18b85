# SPDX-License-Identifier: Apache-2.0
"""The host's disks. Codes CSN3xx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from installer.base.errors import MediaError
from installer.base.mounts import find_mount, parse_mountinfo, read_mounts
from installer.base.paths import Paths
from installer.base.ui import format_bytes
from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity, SkippedError
from installer.media import custody, mounting, state

MINIMUM_DISK_BYTES = 6 * 1024**3
IMAGE_GROWTH = 3
"""Compressed layer + its unpacked files, with some room: what containerd needs for each byte on the media."""
MINIMUM_DISK_OURS_BYTES = 1024**3
MINIMUM_INODES = 100_000
DATA_DIRS = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd")
SUITABLE_TYPES = frozenset({"xfs", "ext4", "btrfs"})
SYNC_LIMIT_S = 0.010
EXECUTED_DIRS = ("/var/lib/containerd", "/opt/cni/bin", "/opt/saltstack", "/usr/bin")
"""What is started from there: programs of containers, CNI plugins, Salt's Python, the packages' programs."""
VOLUMES_DIR = "/var/lib/kubelet"
LASTING_DIRS = (*DATA_DIRS, "/opt/caisson", *EXECUTED_DIRS[1:], "/etc", "/var/log")


def has_disk_space(host: Host) -> Iterator[Finding]:
    """Measure the free space where images, pods and etcd will be; a full disk evicts pods and stops etcd."""
    needed_bytes = MINIMUM_DISK_BYTES
    if host.product is not None:
        images_bytes = sum(image.size_bytes for image in host.product.images.values())
        needed_bytes = max(needed_bytes, images_bytes * IMAGE_GROWTH + 2 * 1024**3)
    if host.is_ours:
        needed_bytes = MINIMUM_DISK_OURS_BYTES
    for directories, device in _by_file_system(host, DATA_DIRS).items():
        free_bytes = device.f_bavail * device.f_frsize
        if free_bytes < needed_bytes:
            shown = f"{format_bytes(free_bytes)} free for {', '.join(directories)}"
            yield Finding(f"{shown}; {format_bytes(needed_bytes)} needed")


def has_inodes(host: Host) -> Iterator[Finding]:
    """Count the free inodes: an image is many small files, and a disk can be full of them with space left."""
    for directories, device in _by_file_system(host, DATA_DIRS).items():
        if device.f_files and device.f_favail < MINIMUM_INODES:
            yield Finding(f"{device.f_favail} free for {', '.join(directories)}; {MINIMUM_INODES} needed")


def _by_file_system(host: Host, directories: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    """Group directories (or what exists above them) by the file system that they are on."""
    groups: dict[int, tuple[list[str], Any]] = {}
    for directory in directories:
        existing = host.existing(directory)
        names, _ = groups.setdefault(existing.stat().st_dev, ([], host.statvfs(existing)))
        names.append(directory)
    return {tuple(names): status for names, status in groups.values()}


def has_usable_mounts(host: Host) -> Iterator[Finding]:
    """Look at the mount options of the disks that the directories are on, wherever links lead.

    noexec stops the node only where a program is started from; etcd's data and the installer's Python are read.
    """
    mounts = parse_mountinfo(host.read("/proc/self/mountinfo") or "")
    for directory in LASTING_DIRS:
        place = host.resolve(directory)
        mount = find_mount(Path(place), mounts)
        if mount is None:
            continue
        name = directory if place == directory else f"{directory} (a link to {place})"
        options = {"ro", *(("noexec",) if directory in EXECUTED_DIRS else ())}.intersection(mount.options)
        if options:
            yield Finding(f"{name}: {mount.mount_point} is mounted {', '.join(sorted(options))}")
        elif directory == VOLUMES_DIR and "noexec" in mount.options:
            yield Finding(
                f"{name}: {mount.mount_point} is mounted noexec: no program starts from a pod's volume",
                severity=Severity.WARNING,
            )
        elif directory in DATA_DIRS and "nodev" in mount.options:
            # Hardening guides want it, and only volumes that are raw block devices need what it forbids.
            yield Finding(
                f"{name}: {mount.mount_point} is mounted nodev: raw block volumes will not work",
                severity=Severity.WARNING,
            )


def has_suitable_file_systems(host: Host) -> Iterator[Finding]:
    """Look at the file systems: layers of images need one that overlayfs takes, data needs one that lasts.

    XFS made with ftype=0 (before EL7.3) cannot carry an overlay.
    """
    mounts = parse_mountinfo(host.read("/proc/self/mountinfo") or "")
    for directory in DATA_DIRS:
        mount = find_mount(Path(host.resolve(directory)), mounts)
        if mount is None:
            continue
        if mount.fstype not in SUITABLE_TYPES:
            yield Finding(f"{directory}: {mount.mount_point} is {mount.fstype}")
        elif mount.fstype == "xfs" and "ftype=0" in host.run(["xfs_info", mount.mount_point]).stdout:
            yield Finding(f"{directory}: {mount.mount_point} is XFS with ftype=0")


def is_fast_enough_for_etcd(host: Host) -> Iterator[Finding]:
    """Write and sync as etcd does, and take the time: it answers nobody before its log is on the disk.

    The file has no name, so none is left; 2300 bytes are written at a time. Source: etcd's documentation,
    "Hardware recommendations": 99 of 100 syncs within 10 ms.
    """
    times_s = sorted(host.trials.time_syncs(host.existing("/var/lib/etcd")))
    if not times_s:
        raise SkippedError("this file system has no nameless files")
    slow_s = times_s[min(len(times_s) - 1, int(len(times_s) * 0.99))]
    if slow_s > SYNC_LIMIT_S:
        shown = f"of {len(times_s)} syncs one in a hundred takes {slow_s * 1000:.0f} ms or more"
        yield Finding(f"{shown}, {SYNC_LIMIT_S * 1000:.0f} ms is the limit")


def has_an_iso_of_root_alone(host: Host) -> Iterator[Finding]:
    """Look whether the ISO is still there, and who can change it: a user, who has it open, another computer.

    The phases verify-media and mount-media refuse the same, also where this check is accepted. A tree that is not
    mounted from an ISO or a drive is passed over here.
    """
    if host.media_dir is None:
        raise SkippedError("the media is not mounted")
    mounts = read_mounts(root=host.root)  # with every byte of a name, for the ISO's own is compared
    try:
        mounting.check_source(host.media_dir, root=host.root, mounts=mounts)
    except MediaError as exc:
        facts = "; ".join(exc.details.splitlines())
        yield Finding(f"{exc.message}: {facts}", fix="; ".join(exc.resolution.splitlines()))


def has_its_iso(host: Host) -> Iterator[Finding]:
    """Look whether the ISO that this host is installed from is where it should be, now and after the next boot."""
    paths = Paths(host.root)
    version = host.product.full_version if host.product is not None else ""
    unit_file = paths.units_dir / mounting.unit_name(paths.media_dir(version))
    kept = (unit_file, paths.media_notes_dir / f"{version}.json")
    if host.product is None or not any(file.exists() for file in kept):
        return  # a host before its bootstrap, or a further node
    found = state.media_state(host.product, paths)
    if found.missing:
        yield Finding(found.missing, fix="; ".join(found.resolution.splitlines()))


DISKS: tuple[Check, ...] = (
    Check(
        "CSN301",
        Severity.ERROR,
        "there is disk space enough",
        has_disk_space,
        "make room, or mount a larger disk there",
    ),
    Check(
        "CSN302",
        Severity.ERROR,
        "there are inodes enough",
        has_inodes,
        "make the file system again with more inodes (this deletes its data), or use XFS",
    ),
    Check(
        "CSN303",
        Severity.ERROR,
        "the file systems can be used",
        has_usable_mounts,
        "mount it with rw,exec",
    ),
    Check(
        "CSN304",
        Severity.ERROR,
        "the file systems are suitable",
        has_suitable_file_systems,
        "put it on XFS (mkfs.xfs -n ftype=1) or ext4, on a disk of this host",
    ),
    Check(
        "CSN305",
        Severity.WARNING,
        "the disk is fast enough for etcd",
        is_fast_enough_for_etcd,
        "put /var/lib/etcd on an SSD of its own; on a slow disk the API stalls under load",
        is_trial=True,
    ),
    Check(
        "CSN306",
        Severity.ERROR,
        "the ISO is there, and root's alone",
        has_an_iso_of_root_alone,
        f"copy it to {custody.PLACE}, as root, and mount the copy with 'mount -o loop,ro'",
    ),
    Check(
        "CSN307",
        Severity.WARNING,
        "the ISO that this host is installed from is mounted, now and after a boot",
        has_its_iso,
        "'caisson status' says what is missing",
    ),
)
