# SPDX-License-Identifier: Apache-2.0
"""Look at the processes of a session: who belongs to it, since when, and whether rpm is writing."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC_DIR = Path("/proc")
RPM_LOCK_NAME = ".rpm.lock"
"""What a transaction of rpm holds a lock on, in the directory of its database. Source: rpm, ``%_rpmlock_path``."""


@dataclass(frozen=True)
class Process:
    """One process; ``started`` counts clock ticks from the boot of the machine to its start."""

    process_id: int
    name: str
    state: str
    parent: int
    session: int
    started: int

    @property
    def shown(self) -> str:
        """Name and number, as they are shown."""
        return f"{self.name} (process {self.process_id})"


def parse_stat(text: str) -> Process:
    """Parse /proc/PID/stat. Source: proc_pid_stat(5).

    >>> parse_stat("77 (a (b) c) S 1 76 75 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0")
    Process(process_id=77, name='a (b) c', state='S', parent=1, session=75, started=4711)

    Raises:
        ValueError: it has another shape.
    """
    process_id, _, rest = text.partition(" (")
    name, _, rest = rest.rpartition(")")
    words = rest.split()
    if len(words) < 20:
        raise ValueError(f"no line of /proc/PID/stat: {text[:100]!r}")
    return Process(int(process_id), name, words[0], int(words[1]), int(words[3]), int(words[19]))


def find(process_id: int, *, proc_dir: Path = PROC_DIR) -> Process | None:
    """Return one process (it may have ended and wait for its parent, state Z), or None when there is none."""
    try:
        return parse_stat((proc_dir / str(process_id) / "stat").read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return None


def in_sessions(sessions: Collection[int], *, proc_dir: Path = PROC_DIR) -> list[Process]:
    """Return the processes that belong to one of these sessions and have not ended."""
    return [process for process in _living(proc_dir) if process.session in sessions]


def family(sessions: Collection[int], *, proc_dir: Path = PROC_DIR) -> list[Process]:
    """Return the processes of these sessions, with those of every session that one of them has begun."""
    living = _living(proc_dir)
    found: set[Process] = set()
    begun = set(sessions)
    while True:
        numbers = {process.process_id for process in found}
        more = {
            process for process in living if process.session in begun or process.parent in numbers
        } - found
        if not more:
            return sorted(found, key=lambda process: process.process_id)
        found |= more
        begun |= {process.session for process in more}


def _living(proc_dir: Path) -> list[Process]:
    found = (find(int(entry.name), proc_dir=proc_dir) for entry in proc_dir.glob("[0-9]*"))
    return [process for process in found if process and process.state != "Z"]


def write_packages(processes: Iterable[Process], *, proc_dir: Path = PROC_DIR) -> list[Process]:
    """Return those that are in a transaction of rpm: they hold the lock of its database.

    The kernel's list of locks is asked, not only who has the file open: who merely reads may have that.
    Source: proc_locks(5); rpm, lib/rpmlock.c (an fcntl lock, exclusive for a writer).
    """
    holders = _write_locks(proc_dir)
    return [
        process
        for process in processes
        if holders.get(process.process_id, set()) & _lock_files(process, proc_dir)
    ]


def _write_locks(proc_dir: Path) -> dict[int, set[int]]:
    """Return process -> inodes of the files on which it holds an exclusive lock."""
    found: dict[int, set[int]] = {}
    try:
        lines = (proc_dir / "locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.split()
        # 1: POSIX  ADVISORY  WRITE 4711 00:2f:12345 0 EOF; those that wait for one have "->" in between.
        if len(words) >= 6 and words[1] == "POSIX" and words[3] == "WRITE":
            found.setdefault(int(words[4]), set()).add(int(words[5].rpartition(":")[2]))
    return found


def _lock_files(process: Process, proc_dir: Path) -> set[int]:
    """Return the inodes of rpm's locks that a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (proc_dir / str(process.process_id) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if link.readlink().name == RPM_LOCK_NAME:
                    found.add(link.stat().st_ino)
    return found
