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

POLL_S = 0.1


class Lock:
    """The lock that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._said: dict[str, object] = {"pid": os.getpid(), "since": _now()}
        self._write()

    def give(self, *, job: str, operation: str) -> None:
        """Say for which job it is held; whoever is refused is told."""
        self._said.update(job=job, operation=operation)
        self._write()

    def _write(self) -> None:
        _write(self._descriptor, json.dumps(self._said) + "\n")


@contextmanager
def hold(lock_file: Path, *, patience_s: float = 0.0) -> Iterator[Lock]:
    """Hold the exclusive lock for the time of the ``with`` block; wait for it so long.

    The kernel gives it back when this process ends, however it ends: there is no stale lock. The file says
    who holds it and stays behind, empty.

    Raises:
        LockedError: somebody else holds it; the message names the job, or the process, and since when.
        HostError: the file cannot be made.
    """
    descriptor = _open(lock_file)
    try:
        _acquire(descriptor, lock_file, time.monotonic() + patience_s)
        lock = Lock(descriptor)
        try:
            yield lock
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, lock_file: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                raise _locked(lock_file, _read(descriptor)) from exc
            time.sleep(POLL_S)
        else:
            return


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
    who = "a process that has not written its number yet"
    try:
        holder = json.loads(text)
        who = f"process {int(holder['pid'])}, since {holder['since']}"
        if "job" in holder:
            return refusal(
                str(holder["job"]),
                str(holder["operation"]),
                since=str(holder["since"]),
                details=f"{who}\nit holds {lock_file}",
            )
    except (ValueError, KeyError, TypeError):
        pass
    return LockedError(
        f"another caisson is at work on this host: {who}",
        details=f"it holds {lock_file}",
        resolution="wait for it to end, or end it; an interrupted run is resumed by starting it again",
    )


def refusal(job: str, operation: str, *, since: str, details: str) -> LockedError:
    """Return the error of who is told that a job is at work."""
    return LockedError(
        f"another job is at work on this host: {job} ({operation}), since {since}",
        details=details,
        resolution=f"wait for it: caisson job {job} --follow\n"
        f"or end it: caisson job {job} --cancel\n"
        "where caisson is not installed yet, the ISO's bootstrap.sh takes the same words",
    )


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode("utf-8", errors="replace")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode("utf-8"), 0)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
