# SPDX-License-Identifier: Apache-2.0
"""Let one process at a time write into ``_out``, and clear away what killed ones left there."""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import IO

from build.base.errors import WorkspaceError
from build.base.files import sweep

LOCK_NAME = ".lock"
_GUARD = threading.Lock()
#: What this process holds until it ends; the kernel gives it back, however it ends.
_HELD: dict[Path, IO[str]] = {}


class HeldError(Exception):
    """Another open file has the lock; ``holder`` is what stands in it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def hold(file: Path, note: str) -> IO[str]:
    """Take the lock on a file until it is closed, however this process ends, and note in it who has it.

    Raises: HeldError when it is taken; OSError.
    """
    stream = file.open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        stream.close()
        raise HeldError(holder) from None
    stream.truncate(0)
    stream.write(f"{note}\n")
    stream.flush()
    return stream


def take_output(out_dir: Path) -> None:
    """Take the lock on a directory of products, unless this process has it; sweep what ended ones left.

    Raises: WorkspaceError when another process has it, or when it is no directory that can be written.
    """
    file = out_dir.absolute() / LOCK_NAME
    with _GUARD:
        if file in _HELD:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _HELD[file] = hold(file, f"{os.getpid()}: {shlex.join(sys.argv)}")
        except HeldError as exc:
            raise WorkspaceError(
                f"another build is at work in {out_dir}",
                details=f"held by process {exc.holder}",
                resolution="wait until it has ended, or end it; builds side by side need a checkout each",
            ) from exc
        except OSError as exc:
            raise WorkspaceError(
                f"{file.parent} is no directory that can be written",
                details=str(exc),
                resolution="move away what is there, or correct its owner and rights",
            ) from exc
        for directory, names, _ in os.walk(file.parent):
            sweep(Path(directory))
            names[:] = [name for name in names if not name.startswith(".")]
