# SPDX-License-Identifier: Apache-2.0
"""Look at the free space of a disk before much is written to it."""

from __future__ import annotations

import os
from pathlib import Path

from build.base.errors import BuildError
from build.base.ui import bytes_text


def free_bytes(directory: Path) -> int:
    """Return the free space of the file system that a directory is, or will be, on."""
    while not directory.exists():
        directory = directory.parent
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def require_space(
    size_bytes: int, directory: Path, what: str, *, kind: type[BuildError], resolution: str
) -> None:
    """Check that ``size_bytes`` can be written below a directory.

    Raises: an error of ``kind`` that says how much is needed, how much there is, and where.
    """
    free = free_bytes(directory)
    if free < size_bytes:
        needed, there = bytes_text(size_bytes), bytes_text(free)
        missing = f" ({size_bytes - free} bytes too few)" if needed == there else ""
        raise kind(
            f"not enough space for {what}",
            details=f"needed {needed}, free {there}{missing}, in {directory}",
            resolution=resolution,
        )
