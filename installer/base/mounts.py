# SPDX-License-Identifier: Apache-2.0
"""Read the mounts of this process."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo; the paths are without its escapes; the options are those of both."""

    mount_point: str
    root: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo, in its order.

    Source: proc_pid_mountinfo(5): ``id parent major:minor root point options [tags] - type source options``.
    """
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if separator and len(left) > 5 and len(right) > 2:
            options = tuple(dict.fromkeys([*left[5].split(","), *right[2].split(",")]))
            mounts.append(
                Mount(_unescape(left[4]), _unescape(left[3]), right[0], _unescape(right[1]), options)
            )
    return tuple(mounts)


def _unescape(text: str) -> str:
    r"""Undo the octal escapes of the kernel.

    >>> _unescape(r"/mnt/my\040iso")
    '/mnt/my iso'
    """
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), os.fsencode(text))
    return os.fsdecode(raw)


def find_mount(directory: Path, mounts: Sequence[Mount]) -> Mount | None:
    """Return the mount that ``directory`` (absolute, resolved) lies in: longest point, last of equals."""
    best: Mount | None = None
    for mount in mounts:
        point = mount.mount_point.rstrip("/")
        is_inside = str(directory) == point or str(directory).startswith(point + "/")
        if is_inside and (best is None or len(point) >= len(best.mount_point.rstrip("/"))):
            best = mount
    return best


def read_mounts(*, root: Path = Path("/")) -> tuple[Mount, ...]:
    """Return the mounts of this process."""
    text = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return parse_mountinfo(text)


def is_mounted(mount_point: Path, mounts: Sequence[Mount]) -> bool:
    """Say whether something is mounted exactly there."""
    return any(mount.mount_point == str(mount_point) for mount in mounts)
