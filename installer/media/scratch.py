# SPDX-License-Identifier: Apache-2.0
"""Mount an ISO where nobody else looks, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installer.base.errors import CommandError, MediaError
from installer.base.mounts import is_mounted, read_mounts
from installer.base.run import run

MOUNT_TIMEOUT_S = 90.0
UNMOUNT_TIMEOUT_S = 60.0


@contextmanager
def mounted(
    file: Path, directory: Path, *, types: str, options: str = "ro,nosuid,nodev", resolution: str
) -> Iterator[Path]:
    """Mount an ISO file or a drive at ``directory`` for the ``with`` block; what a kill has left there goes first.

    Taking it off again hides no error of the block: what is busy is let go of when it is read no more.

    Raises:
        MediaError: it cannot be mounted; ``resolution`` says what to do then.
    """
    _unmount(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = f"{'loop,' if file.is_file() else ''}{options}"
    try:
        run(["mount", "-t", types, "-o", words, file, directory], timeout_s=MOUNT_TIMEOUT_S)
    except CommandError as exc:
        _remove(directory)
        raise MediaError(
            f"{file} cannot be mounted", details=exc.details or exc.message, resolution=resolution
        ) from exc
    try:
        yield directory
    finally:
        _unmount(directory)
        _remove(directory)


def _unmount(directory: Path) -> None:
    for more in ([], ["--lazy"]):
        if is_mounted(directory, read_mounts()):
            run(["umount", *more, directory], timeout_s=UNMOUNT_TIMEOUT_S, check=False)


def _remove(directory: Path) -> None:
    """Remove the place; where something is in it, or still mounted on it, the next run finds it."""
    with contextlib.suppress(OSError):
        directory.rmdir()
