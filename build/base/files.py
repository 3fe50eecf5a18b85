# SPDX-License-Identifier: Apache-2.0
"""Write a file whole or not at all: a temporary sibling, on disk before it gets the name.

A sibling is called ``.NAME.PID.tmp``. What a killed build leaves is found by its process id, which no running
process has any more, and removed by :func:`sweep`. The id is the thread's, which Linux numbers like processes:
two threads may write the same file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]+)\.tmp")


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well, that becomes ``file``, else ``file`` stays as it was.

    The bytes are on disk (fsync) before the name shows them, and the name before this returns. Directories
    above ``file`` are made. A block that writes nothing raises FileNotFoundError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{threading.get_native_id()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(file)
        sync(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(file: Path, data: bytes) -> None:
    """Write ``data`` as the whole of ``file``; see :func:`replacing`."""
    with replacing(file) as temporary:
        temporary.write_bytes(data)


def write_if_changed(file: Path, text: str) -> bool:
    """Write a text file unless it has this text already; say whether it was written."""
    data = text.encode()
    if file.is_file() and file.read_bytes() == data:
        return False
    write_atomically(file, data)
    return True


def sweep(directory: Path) -> tuple[Path, ...]:
    """Remove the temporary siblings that ended processes left in a directory; return what was removed.

    A process that is still running keeps its own, whoever it is: at worst one stays until the next sweep.
    """
    removed: list[Path] = []
    for file in sorted(directory.glob(".*.tmp")) if directory.is_dir() else []:
        found = _TEMPORARY.fullmatch(file.name)
        if found and not Path("/proc", found["pid"]).exists():
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)
            removed.append(file)
    return tuple(removed)


def sync(path: Path) -> None:
    """Put a file, or the names in a directory, on the disk: a power cut loses neither from then on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
