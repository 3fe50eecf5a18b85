# SPDX-License-Identifier: Apache-2.0
"""Follow a block device down to what holds its bytes: a disk, a file behind a loop device, or another computer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REMOTE_NAME = re.compile(r"(?:nbd|rnbd|rbd|drbd)\d|etherd!|ublkb\d")
"""Drivers whose bytes another computer, or a program (ublk), hands out."""
ISCSI_PART = re.compile(r"/session\d+/")
"""In the path of a disk in sysfs, by scsi_transport_iscsi."""
REMOTE_TRANSPORTS = ("tcp", "rdma", "fc")
"""Source: nvme's attribute ``transport``, drivers/nvme/host/sysfs.c."""


def ends_of(device: str, *, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the directory in sysfs of each device at the end: through partitions, device mapper and RAID.

    ``device`` is absolute; a link such as /dev/mapper/NAME is followed. What the kernel does not list has none.
    """
    place = (root / device.lstrip("/")).resolve()
    try:
        name = str(place.relative_to((root / "dev").resolve())).replace("/", "!")
    except ValueError:
        return
    yield from _ends_of(root / "sys/class/block" / name)


def _ends_of(directory: Path) -> Iterator[Path]:
    if not directory.is_dir():
        return
    real = directory.resolve()
    if (real / "partition").is_file():
        real = real.parent
    below = sorted((real / "slaves").glob("*"))
    if not below:
        yield real
    for link in below:
        yield from _ends_of(link)


def file_behind(directory: Path) -> str:
    """Return the file behind a loop device as the kernel names it; empty for another device."""
    try:
        text = (directory / "loop/backing_file").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return text.rstrip("\n")


def is_remote(directory: Path) -> bool:
    """Say whether another computer, or a program, hands out the bytes of a device, so that its word is all there is."""
    if REMOTE_NAME.match(directory.name) or ISCSI_PART.search(str(directory)):
        return True
    files = [*directory.glob("device/transport"), *directory.glob("device/nvme*/transport")]
    return any(file.read_text(encoding="utf-8").strip() in REMOTE_TRANSPORTS for file in files)
