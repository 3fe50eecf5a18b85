# SPDX-License-Identifier: Apache-2.0
"""Run commands: the only door to other programs in the installer.

Argument lists, never a shell string; a rebuilt environment; stdin empty; always a timeout; a session of its
own, which a timeout or a signal ends as a whole (session.py). When ``/var/log/caisson`` is there (the bootstrap makes
it, ``check`` does not), each command is logged in ``commands.log`` with code, time and what it said.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base import interruption
from installer.base.errors import CommandError
from installer.base.files import append_private
from installer.base.processes import Process
from installer.base.session import Session

COMMANDS_LOG_FILE = Path("/var/log/caisson/commands.log")
RUNNING_DIR = Path("/run/caisson")
LAST_LINES = 20
LOGGED_CHARACTERS = 2_000
LOGGED_FAILURE_CHARACTERS = 16_000
SIGN_INTERVAL_S = 1.0
END_GRACE_S = 10.0


@dataclass(frozen=True)
class Completed:
    """What a command left: code (negative: the signal) and outputs (UTF-8, bad bytes replaced)."""

    returncode: int
    stdout: str
    stderr: str


def run(
    args: Sequence[str | Path],
    *,
    timeout_s: float,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    is_secret: bool = False,
    log_file: Path = COMMANDS_LOG_FILE,
    running_dir: Path = RUNNING_DIR,
) -> Completed:
    """Run one command to its end and return what it left; with ``check=False`` any exit code is returned.

    ``env`` adds to the rebuilt environment; ``stdin`` is kept in memory. What the command says is not logged when it
    ``is_secret``; what it is told never is.

    Raises:
        HostError: there is no such program.
        CommandError: it took longer than ``timeout_s``, or (``check``) exited with another code than 0.
    """
    words = [str(word) for word in args]
    started = time.monotonic()
    left: list[Process] | None = None
    with _memory_file("stdin") as source, _memory_file("stdout") as out, _memory_file("stderr") as err:
        _fill(source, stdin)
        session = Session(words, stdin=source, stdout=out, stderr=err, env=env, running_dir=running_dir)
        try:
            if not session.wait(timeout_s):
                left = session.end()
            elif (session.returncode or 0) < 0:
                session.end()  # its leader was killed: what that had started is nobody's now
        except BaseException:
            session.end()
            raise
        finally:
            session.forget()
        completed = Completed(session.returncode or 0, _read(out), _read(err))
    logged = Completed(completed.returncode, "", "") if is_secret else completed
    if left is not None:
        ending = f"no end within {timeout_s:g} s, {_describe_end(session, left)}"
        _log(log_file, words, logged, time.monotonic() - started, ending=ending)
        raise CommandError(
            f"'{words[0]}' did not finish within {timeout_s:g} s",
            details=_facts(words, ending, logged, log_file),
            resolution="see the last lines above for what it waited for",
        )
    _log(log_file, words, logged, time.monotonic() - started)
    if check and completed.returncode != 0:
        raise CommandError(
            f"'{words[0]}' failed: {describe_code(completed.returncode)}",
            details=_facts(words, describe_code(completed.returncode), logged, log_file),
            resolution="run the command above by hand to see more",
        )
    return completed


class Conversation:
    """A command that stays and answers one line of text for each line that it is told.

    Like :func:`run`: an argument list, a rebuilt environment, a session of its own that is noted while it runs.
    What it says on stderr is kept in memory for the error. When its stdin ends (this process closes it, or is
    killed), the command is expected to finish what it does and to end.
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        running_dir: Path = RUNNING_DIR,
    ) -> None:
        """Start the command; ``env`` adds to the rebuilt environment.

        Raises:
            HostError: there is no such program.
        """
        self._words = [str(word) for word in args]
        self._cleanup = contextlib.ExitStack()
        self._buffer = b""
        try:
            self._errors = self._cleanup.enter_context(_memory_file("stderr"))
            child_in, to_child = os.pipe()
            from_child, child_out = os.pipe()
            self._requests = self._cleanup.enter_context(os.fdopen(to_child, "wb", buffering=0))
            self._answers = self._cleanup.enter_context(os.fdopen(from_child, "rb", buffering=0))
            with os.fdopen(child_in, "rb"), os.fdopen(child_out, "wb"):
                self._session = Session(
                    self._words,
                    stdin=child_in,
                    stdout=child_out,
                    stderr=self._errors,
                    env=env,
                    running_dir=running_dir,
                )
            self._cleanup.callback(self._session.forget)
        except BaseException:
            self._cleanup.close()
            raise

    def ask(
        self,
        line: str,
        *,
        timeout_s: float,
        last_sign: Callable[[], float] = lambda: 0.0,
        log_file: Path = COMMANDS_LOG_FILE,
    ) -> str:
        """Tell the command one line and return the line that it answers, without its newline.

        ``timeout_s`` is counted from the question, and again from each sign of life: ``last_sign`` says when
        there was one, by the monotonic clock.

        Raises:
            CommandError: it ended, or did not answer in time: then it was ended, with all that it had started.
        """
        started = time.monotonic()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._requests.write(line.encode("utf-8") + b"\n")
            answer = self._read_line(lambda: max(started, last_sign()) + timeout_s)
        except BaseException:
            self.end()
            raise
        words = [*self._words, "<<", line]
        if answer is not None:
            _log(log_file, words, Completed(0, "", self.said), time.monotonic() - started)
            return answer.decode("utf-8", errors="replace")
        # Its leader may be gone while what that had started goes on.
        ending = f"no answer within {timeout_s:g} s, " if self._session.returncode is None else ""
        ending += _describe_end(self._session, self._session.end())
        shown = Completed(self._session.returncode or 0, "", self.said)
        _log(log_file, words, shown, time.monotonic() - started, ending=ending)
        self.end()
        raise CommandError(
            f"'{self._words[0]}' did not answer: {ending}",
            details=_facts(words, ending, shown, log_file),
            resolution="see the last lines above",
        )

    def tell(self, data: bytes) -> None:
        """Tell the command something that is logged nowhere; whether it listens shows in its answer."""
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[self._requests.write(view) :]

    def hear(self, *, timeout_s: float) -> bytes | None:
        """Return the next line that it says, without the newline; None when it has ended or said none in time."""
        deadline = time.monotonic() + timeout_s
        return self._read_line(lambda: deadline)

    @property
    def returncode(self) -> int | None:
        """The command's exit code, None as long as it runs."""
        return self._session.returncode

    @property
    def said(self) -> str:
        """Return what the command has said on stderr so far."""
        return _read(self._errors)

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Let the command end by itself; after ``timeout_s`` end it. May be called again."""
        self._requests.close()
        self._session.wait(timeout_s)
        self.end()

    def end(self) -> None:
        """End the command with all that it has started, if it still runs."""
        if self._session.returncode is None:
            self._session.end()
        self._cleanup.close()

    def _read_line(self, deadline: Callable[[], float]) -> bytes | None:
        """Return the next line; None when the command has ended or the time is over."""
        while b"\n" not in self._buffer:
            interruption.hear()
            left_s = deadline() - time.monotonic()
            is_over = left_s <= 0 or self._session.returncode is not None
            patience_s = 0.0 if is_over else min(left_s, SIGN_INTERVAL_S)
            ready, _, _ = select.select([self._answers], [], [], patience_s)
            if not ready and not is_over:
                continue
            chunk = self._answers.read(65_536) if ready else b""
            if not chunk:
                if ready:
                    self._session.wait(END_GRACE_S)
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def describe_code(returncode: int) -> str:
    """Say in words what a return code means.

    >>> describe_code(3), describe_code(-9)
    ('exit code 3', 'ended by SIGKILL')
    """
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"


@contextlib.contextmanager
def _memory_file(name: str) -> Iterator[int]:
    """Open a file in memory: no disk sees it, and unlike a pipe it outlives us.

    A command whose installer was killed goes on to its end: an rpm transaction that writes into a broken pipe
    would not.
    """
    descriptor = os.memfd_create(f"caisson-{name}")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, data: bytes) -> None:
    """Write all of it, and go back to the beginning: who gets the descriptor reads from there."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", errors="replace")


def _describe_end(session: Session, left: Sequence[Process]) -> str:
    """Say how a session ended, or what of it was left to finish."""
    if left:
        names = ", ".join(process.shown for process in left)
        return f"left to finish what rpm has begun: {names}; the next start waits for it"
    return describe_code(session.returncode or 0)


def _facts(words: Sequence[str], ending: str, shown: Completed, log_file: Path) -> str:
    """Return the details of a failed command: ready to paste, its end, its last lines, the log."""
    said = (shown.stderr if shown.stderr.strip() else shown.stdout).rstrip().splitlines()[-LAST_LINES:]
    lines = [f"command: {shlex.join(words)}", ending, *(f"| {line}" for line in said)]
    if log_file.parent.is_dir():
        lines.append(f"log: {log_file}")
    return "\n".join(lines)


def _log(log_file: Path, words: Sequence[str], shown: Completed, seconds: float, *, ending: str = "") -> None:
    """Append one command to the log, if its directory is there; a full disk must not stop the command."""
    if not log_file.parent.is_dir():
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = f"{stamp} {ending or describe_code(shown.returncode)} {seconds:.2f} s: {shlex.join(words)}\n"
    limit = LOGGED_FAILURE_CHARACTERS if ending or shown.returncode else LOGGED_CHARACTERS
    for name, output in (("out", shown.stdout), ("err", shown.stderr)):
        tail = output if len(output) <= limit else "[..]" + output[-limit:]
        text += "".join(f"  {name}| {line}\n" for line in tail.splitlines())
    append_private(log_file, text)
