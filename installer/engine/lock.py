# SPDX-License-Identifier: Apache-2.0
"""Let one caisson at a time change this host."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installer.base.errors import HostError, LockedError


@contextmanager
def hold(lock_file: Path) -> Iterator[None]:
    """Hold the exclusive lock for the time of the ``with`` block.

    The kernel gives it back when this process ends, however it ends: there is no stale lock. The file says
    who holds it and stays behind, empty.

    Raises:
        LockedError: somebody else holds it; the message names the process and since when.
        HostError: the file cannot be made.
    """
    descriptor = _open(lock_file)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise _locked(lock_file, _read(descriptor)) from exc
        _write(descriptor, json.dumps({"pid": os.getpid(), "since": _now()}) + "\n")
        try:
            yield
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _open(lock_file: Path) -> int:
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise HostError(
            f"the lock file {lock_file} cannot be opened: {exc.strerror}",
            resolution="run this as root, and check that /run is writable",
        ) from exc


def _locked(lock_file: Path, text: str) -> LockedError:
    try:
        holder = json.loads(text)
        who = f"process {int(holder['pid'])}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        who = "a process that has not written its number yet"
    return LockedError(
        f"another caisson is at work on this host: {who}",
        details=f"it holds {lock_file}",
        resolution="wait for it to end, or end it; an interrupted run is resumed by starting it again",
    )


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode("utf-8", errors="replace")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode("utf-8"), 0)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
