# SPDX-License-Identifier: Apache-2.0
"""Wait for what an installer that was killed has left running.

A kill of the installer does not end the dnf or the salt-call that it had started, and should not: half a
transaction is worse than a whole one. Every command is the leader of a session of its own and is noted in
``/run/caisson`` while it runs (base/session.py), so the next installer can see what still goes on, and wait.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from installer.base import processes
from installer.base.errors import LockedError
from installer.base.processes import Process

TIMEOUT_S = 1800.0
"""As long as one transaction of packages may take."""
INTERVAL_S = 0.5
SAY_INTERVAL_S = 9.0


def wait(
    running_dir: Path,
    *,
    progress: Callable[[str], None],
    proc_dir: Path = processes.PROC_DIR,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Wait until nothing is left of earlier runs; forget what has ended.

    Raises:
        LockedError: something still runs after ``timeout_s``; it is named.
    """
    started = time.monotonic()
    said_at = -SAY_INTERVAL_S
    while True:
        left = find(running_dir, proc_dir=proc_dir)
        if not left:
            return
        waited_s = time.monotonic() - started
        shown = ", ".join(process.shown for process in left)
        if waited_s > timeout_s:
            raise LockedError(
                f"an interrupted run has left a command that still runs: {shown}",
                details=f"waited {timeout_s:g} s for it",
                resolution="wait for it to end, then start again; see what it does: "
                f"ps -o pid,lstart,args --sid {','.join(sorted({str(process.session) for process in left}))}",
            )
        if waited_s - said_at >= SAY_INTERVAL_S:
            progress(f"{waited_s:.0f} s  waiting for a command of the interrupted run: {shown}")
            said_at = waited_s
        time.sleep(INTERVAL_S)


def find(running_dir: Path, *, proc_dir: Path = processes.PROC_DIR) -> list[Process]:
    """Return the processes of noted commands that still run; drop the notes of the others.

    A number that the kernel has given to another process since is nobody of ours: the note says when its own began.
    """
    notes = {int(file.name): file for file in running_dir.iterdir() if file.name.isdigit()}
    if not notes:
        return []
    own = {number for number, note in notes.items() if not _is_another(number, note, proc_dir)}
    left = processes.in_sessions(own, proc_dir=proc_dir)
    for number in set(notes) - {process.session for process in left}:
        notes[number].unlink(missing_ok=True)
    return sorted(left, key=lambda process: process.process_id)


def _is_another(number: int, note: Path, proc_dir: Path) -> bool:
    """Say whether the process of this number is a later one than that of the note (program, then its start).

    A note that has vanished is that of a command that has ended just now.
    """
    leader = processes.find(number, proc_dir=proc_dir)
    try:
        noted = note.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return True
    return leader is not None and len(noted) > 1 and noted[1] != str(leader.started)
