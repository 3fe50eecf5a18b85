# SPDX-License-Identifier: Apache-2.0
"""Start a program as the leader of a session of its own, note it while it runs, and end all that it started.

The one place of the installer that starts programs; others use run.py. The note is a file in ``/run/caisson``
that is named by the session and holds the program and when its process began: what an installer that was killed
has left running is found, and waited for, by the next one (engine/leftovers.py).
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable

from installer.base import interruption, processes
from installer.base.errors import HostError

SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINATION_GRACE_S = 30.0
"""Between SIGTERM and SIGKILL."""
TRANSACTION_GRACE_S = 600.0
"""How long a transaction of rpm is waited for that somebody wants to end. Half of one is worse than a late answer."""
POLL_S = 0.1
LOOKER_GRACE_S = 0.5


class Looker:
    """Who only looks at a host: what it starts is noted nowhere, and is ended with it.

    A command of ``caisson status`` that hangs is none that the next bootstrap has to wait for.
    """

    def __init__(self) -> None:
        """Begin with nothing started."""
        self._lock = threading.Lock()
        self._started: set[Session] = set()
        self._is_over = False

    def add(self, session: Session) -> None:
        """Take note of a program; when the look is over already it is ended at once."""
        with self._lock:
            self._started.add(session)
            is_over = self._is_over
        if is_over:
            _end_soon([session])

    def remove(self, session: Session) -> None:
        """Forget a program that has ended."""
        with self._lock:
            self._started.discard(session)

    def end(self) -> None:
        """End what still runs: politely, then for certain, within a second."""
        with self._lock:
            self._is_over = True
            started = list(self._started)
        _end_soon(started)


_LOOKER: contextvars.ContextVar[Looker | None] = contextvars.ContextVar("looker", default=None)


@contextlib.contextmanager
def only_looking(looker: Looker | None = None) -> Iterator[None]:
    """Note nothing that is started in here, also by threads with this context; on leaving end what of it still runs.

    Within another one it is part of that. Who gives the ``looker`` can end all of it from outside.
    """
    if _LOOKER.get() is not None:
        yield
        return
    looker = Looker() if looker is None else looker
    token = _LOOKER.set(looker)
    try:
        yield
    finally:
        _LOOKER.reset(token)
        looker.end()


def _end_soon(sessions: Sequence[Session]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        members = [member for session in sessions for member in session.members()]
        writing = processes.write_packages(members)
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                if member not in writing:
                    os.kill(member.process_id, number)
        deadline = time.monotonic() + LOOKER_GRACE_S
        while time.monotonic() < deadline and any(session.members() for session in sessions):
            time.sleep(POLL_S / 2)


class Session:
    """A program that runs, with all that it starts: in its session, and in those that its own children lead.

    What it starts as a service, or what leaves its parent to be one, is not its own any more.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        running_dir: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the program in a rebuilt environment (``env`` adds to it); note it where the directory for that is.

        Raises:
            HostError: there is no such program, or it cannot be executed.
        """
        interruption.hear()
        self._process = _start(words, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        self._sessions = {self.number}
        self._note = running_dir / str(self.number)
        self._was_ended = False
        self._looker = _LOOKER.get()
        if self._looker is not None:
            self._looker.add(self)
        elif running_dir.is_dir():
            leader = processes.find(self.number)
            started = "" if leader is None else f"{leader.started}\n"
            with contextlib.suppress(OSError):  # it runs already: a full /run must not lose hold of it
                self._note.write_text(f"{words[0]}\n{started}", encoding="utf-8")

    @property
    def number(self) -> int:
        """The session, which is also the process of its leader."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The leader's code (negative: the signal), or None as long as it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the leader; return whether it has ended within that time.

        Raises:
            KeyboardInterrupt: somebody wants an end (base/interruption.py).
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            interruption.hear()
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            patience_s = left_s
            if interruption.is_possible():
                patience_s = (
                    interruption.HEAR_INTERVAL_S
                    if left_s is None
                    else min(left_s, interruption.HEAR_INTERVAL_S)
                )
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                if left_s is not None and left_s <= interruption.HEAR_INTERVAL_S:
                    return False
            else:
                return True

    def end(self) -> list[processes.Process]:
        """End all that was started: politely, then for certain, but never in the middle of rpm's work.

        As long as one of them is in a transaction of rpm nobody is signalled: rpm would leave half a package, or
        be killed by what it writes to. Returns who is left: only when such a transaction does not end in time.
        """
        self._was_ended = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self._wait_until(
                lambda: not processes.write_packages(self.members()), TRANSACTION_GRACE_S
            ):
                break
            for member in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.process_id, number)
            if self._wait_until(lambda: not self.members(), TERMINATION_GRACE_S):
                break
        return self.members()

    def forget(self) -> None:
        """Take the note away, unless something was to be ended and still runs."""
        if self._looker is not None:
            self._looker.remove(self)
        elif not (self._was_ended and self.members()):
            self._note.unlink(missing_ok=True)

    def members(self) -> list[processes.Process]:
        """Return who is left; a session that was seen once stays one of ours when its parent has died."""
        self._process.poll()
        members = processes.family(self._sessions)
        self._sessions |= {member.session for member in members}
        return members

    def _wait_until(self, is_so: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def _start(
    words: Sequence[str], *, stdin: int, stdout: int, stderr: int, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**_environment(), **(env or {})},
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        raise HostError(
            f"there is no command '{words[0]}' on this host",
            details=f"searched in {SEARCH_PATH}\ncommand: {shlex.join(words)}",
            resolution="install the package that holds it, then run this again",
        ) from exc
    except OSError as exc:
        raise HostError(
            f"'{words[0]}' cannot be executed: {exc.strerror or exc}",
            details=f"command: {shlex.join(words)}",
            resolution="check its permissions, and that its file system is not mounted noexec",
        ) from exc


def _environment() -> dict[str, str]:
    """Return the environment of every command: nothing of ours is inherited."""
    return {"PATH": SEARCH_PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
