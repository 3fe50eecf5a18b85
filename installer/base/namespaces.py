# SPDX-License-Identifier: Apache-2.0
"""Do things in namespaces of their own, which vanish with the thread that entered them, however it ends.

A namespace is a property of a thread: a new thread leaves those of the process, mounts or cables what it likes,
and starts programs there. When it ends, or the process is killed, the kernel takes everything away again.
Source: unshare(2), mount(2).
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

Value = TypeVar("Value")

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
SCRATCH_SIZE = "1g"
SCRATCH_DIRS = ("/media", "/mnt", "/srv", "/opt")
"""Directories that every host has; one of them is covered, in the namespace only."""


def _system_call(name: str, *arguments: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """Mount a file system in the namespace of this thread.

    Raises:
        OSError: the kernel refuses it.
    """
    _system_call(
        "mount", source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )


def detach(target: Path) -> None:
    """Take away what is mounted there, at once, whoever still has a file of it open; the kernel does the rest.

    A program that is being started beside this one holds a copy of every descriptor until its exec: an unmount that
    waited for nobody would be refused then, and say nothing about the host.

    Raises:
        OSError: the kernel refuses it.
    """
    _system_call("umount2", os.fsencode(target), MNT_DETACH)


def choose_scratch_dir(needed: Sequence[Path], candidates: Sequence[str] = SCRATCH_DIRS) -> Path:
    """Return a directory that may be covered: no directory of ``needed`` is in it.

    >>> choose_scratch_dir([Path("/media/iso")], ["/media", "/"])
    PosixPath('/')

    Raises:
        OSError: there is none.
    """
    for candidate in map(Path, candidates):
        is_needed = candidate != Path("/") and any(
            path == candidate or candidate in path.parents for path in needed
        )
        if candidate.is_dir() and not candidate.is_symlink() and not is_needed:
            return candidate
    raise OSError(f"all of {', '.join(candidates)} are in use or missing")


def with_scratch_dir(work: Callable[[Path], Value], *, needed: Sequence[Path] = ()) -> Value:
    """Call ``work`` with an empty directory in memory, which only it and the programs that it starts can see.

    Raises:
        OSError: the namespace cannot be made (this needs root); and whatever ``work`` raises.
    """

    def enter_and_work() -> Value:
        _system_call("unshare", CLONE_NEWNS)
        mount("none", Path("/"), "none", flags=MS_REC | MS_PRIVATE)
        scratch_dir = choose_scratch_dir(needed)
        mount("caisson", scratch_dir, "tmpfs", f"size={SCRATCH_SIZE},mode=0700")
        return work(scratch_dir)

    thread = _Worker("caisson-scratch")
    try:
        return thread.call(enter_and_work)
    finally:
        thread.close()


class Network:
    """A network namespace: ``call`` does something in it, ``path`` is how ``ip link set .. netns`` names it."""

    def __init__(self) -> None:
        self._worker = _Worker("caisson-network")
        self._worker.call(lambda: _system_call("unshare", CLONE_NEWNET))
        self.path = f"/proc/{os.getpid()}/task/{self._worker.call(threading.get_native_id)}/ns/net"

    def call(self, work: Callable[[], Value]) -> Value:
        """Call ``work`` in the namespace and return what it returns, or raise what it raises."""
        return self._worker.call(work)

    def close(self) -> None:
        """Leave it: the kernel removes it and what is in it."""
        self._worker.close()


class _Worker:
    """A thread that does what it is given, one thing after the other."""

    def __init__(self, name: str) -> None:
        self._given: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._done: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Value]) -> Value:
        self._given.put(work)
        value, error = self._done.get()
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]  # what ``work`` returned

    def close(self) -> None:
        self._given.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            work = self._given.get()
            if work is None:
                return
            try:
                self._done.put((work(), None))
            except BaseException as exc:  # noqa: BLE001  raised again where it was asked for
                self._done.put((None, exc))
