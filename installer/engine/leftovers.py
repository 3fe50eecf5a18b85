# SPDX-License-Identifier: Apache-2.0
"""Wait for what an installer that was killed has left running.

A kill of the installer does not end the dnf or the salt-call that it had started, and should not: half a
transaction is worse than a whole one. Every command is the leader of a session of its own and is noted in
``/run/caisson`` while it runs (run.py), so the next installer can see what still goes on, and wait.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from installer.base.errors import LockedError

TIMEOUT_S = 300.0
INTERVAL_S = 0.5
SAY_INTERVAL_S = 9.0


def wait(
    running_dir: Path,
    *,
    progress: Callable[[str], None],
    proc_dir: Path = Path("/proc"),
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
        shown = ", ".join(f"{name} (process {process_id})" for process_id, name in sorted(left.items()))
        if waited_s > timeout_s:
            raise LockedError(
                f"an interrupted run has left a command that still runs: {shown}",
                details=f"waited {timeout_s:g} s for it",
                resolution="wait for it to end, or end it, then start again",
            )
        if waited_s - said_at >= SAY_INTERVAL_S:
            progress(f"{waited_s:.0f} s  waiting for a command of the interrupted run: {shown}")
            said_at = waited_s
        time.sleep(INTERVAL_S)


def find(running_dir: Path, *, proc_dir: Path = Path("/proc")) -> dict[int, str]:
    """Return the processes (id to name) of noted commands that still run; drop the notes of the others."""
    notes = {int(file.name): file for file in running_dir.iterdir() if file.name.isdigit()}
    if not notes:
        return {}
    living: dict[int, str] = {}
    sessions: set[int] = set()
    for entry in proc_dir.glob("[0-9]*"):
        try:
            name, state, session = parse_stat((entry / "stat").read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            continue
        if session in notes and state != "Z":
            living[int(entry.name)] = name
            sessions.add(session)
    for session in set(notes) - sessions:
        notes[session].unlink(missing_ok=True)
    return living


def parse_stat(text: str) -> tuple[str, str, int]:
    """Return name, state and session of a process. Source: proc_pid_stat(5).

    >>> parse_stat("77 (a (b) c) S 1 76 75 0 -1 4194304")
    ('a (b) c', 'S', 75)
    """
    name = text[text.index("(") + 1 : text.rindex(")")]
    state, _, _, session = text[text.rindex(")") + 1 :].split()[:4]
    return name, state, int(session)
