# SPDX-License-Identifier: Apache-2.0
"""Run commands: the only door to subprocesses in the installer.

Argument lists, never a shell string; a rebuilt environment; stdin empty; always a timeout; its own process
group, which a timeout or a signal ends as a whole. When ``/var/log/caisson`` is there (the bootstrap makes
it, ``check`` does not), each command is logged in ``commands.log`` with code, time and what it said.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import CommandError, HostError

COMMANDS_LOG_FILE = Path("/var/log/caisson/commands.log")
RUNNING_DIR = Path("/run/caisson")
SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
LAST_LINES = 20
LOGGED_CHARACTERS = 2_000
LOGGED_FAILURE_CHARACTERS = 16_000
TERMINATION_GRACE_S = 30.0
"""Between SIGTERM and SIGKILL: rpm must be able to finish what it has begun to write."""


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
    env: Mapping[str, str] | None = None,
    input_text: str | None = None,
    check: bool = True,
    is_secret: bool = False,
    log_file: Path = COMMANDS_LOG_FILE,
    running_dir: Path = RUNNING_DIR,
) -> Completed:
    """Run one command to its end and return what it left.

    ``env`` adds to the rebuilt environment. ``input_text`` goes to stdin and is never logged: secrets belong
    there, not into ``args``. What an ``is_secret`` command says is not logged either.
    With ``check=False`` any exit code is returned.

    Raises:
        HostError: there is no such program.
        CommandError: it took longer than ``timeout_s``, or (``check``) exited with another code than 0.
    """
    words = [str(word) for word in args]
    started = time.monotonic()
    with (
        _memory_file("stdin", input_text or "") as source,
        _memory_file("stdout") as out,
        _memory_file("stderr") as err,
    ):
        process = _start(words, stdin=source, stdout=out, stderr=err, env=env)
        is_late = False
        with _registered(process.pid, words[0], running_dir):
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                is_late = True
                _end(process)
            except BaseException:
                _end(process)
                raise
        completed = Completed(process.returncode, _read(out), _read(err))
    shown = Completed(process.returncode, "", "") if is_secret else completed
    _log(log_file, words, shown, time.monotonic() - started)
    if is_late:
        raise CommandError(
            f"'{words[0]}' did not finish within {timeout_s:g} s",
            details=_facts(words, f"ended after {timeout_s:g} s", shown, log_file),
            resolution="see the last lines above for what it waited for",
        )
    if check and completed.returncode != 0:
        raise CommandError(
            f"'{words[0]}' failed: {describe_code(completed.returncode)}",
            details=_facts(words, describe_code(completed.returncode), shown, log_file),
            resolution="run the command above by hand to see more",
        )
    return completed


class Conversation:
    """A command that stays and answers one line of text for each line that it is told.

    Like :func:`run`: an argument list, a rebuilt environment, a session of its own that is noted while it runs.
    What it says on stderr is kept in memory for the error. When its stdin ends (this process closes it, or is
    killed), the command is expected to finish what it does and to end.
    """

    def __init__(self, args: Sequence[str | Path], *, running_dir: Path = RUNNING_DIR) -> None:
        """Start the command.

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
                self._process = _start(self._words, stdin=child_in, stdout=child_out, stderr=self._errors)
            self._cleanup.enter_context(_registered(self._process.pid, self._words[0], running_dir))
        except BaseException:
            self._cleanup.close()
            raise

    def ask(self, line: str, *, timeout_s: float, log_file: Path = COMMANDS_LOG_FILE) -> str:
        """Tell the command one line and return the line that it answers, without its newline.

        Raises:
            CommandError: it ended, or did not answer within ``timeout_s``: then it was ended, with all it started.
        """
        started = time.monotonic()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._requests.write(line.encode("utf-8") + b"\n")
            answer = self._read_line(started + timeout_s)
        except BaseException:
            self.end()
            raise
        words = [*self._words, "<<", line]
        if answer is not None:
            _log(log_file, words, Completed(0, "", self.said), time.monotonic() - started)
            return answer.decode("utf-8", errors="replace")
        ending = ""
        if self._process.poll() is None:
            ending = f"no answer within {timeout_s:g} s, "
            _end(self._process)
        ending += describe_code(self._process.returncode)
        shown = Completed(self._process.returncode, "", self.said)
        _log(log_file, words, shown, time.monotonic() - started, ending=ending)
        self.end()
        raise CommandError(
            f"'{self._words[0]}' did not answer: {ending}",
            details=_facts(words, ending, shown, log_file),
            resolution="see the last lines above",
        )

    @property
    def said(self) -> str:
        """Return what the command has said on stderr so far."""
        return _read(self._errors)

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Let the command end by itself; after ``timeout_s`` end it. May be called again."""
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.end()

    def end(self) -> None:
        """End the command with all that it has started, if it still runs."""
        if self._process.poll() is None:
            _end(self._process)
        self._cleanup.close()

    def _read_line(self, deadline: float) -> bytes | None:
        """Return the next line; None when the command has ended or the time is over."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            chunk = self._answers.read(65_536) if ready else b""
            if not chunk:
                if ready:
                    self._process.wait()
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _start(
    words: Sequence[str], *, stdin: int, stdout: int, stderr: int, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a session of its own.

    Raises:
        HostError: there is no such program, or it cannot be executed.
    """
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


def _environment() -> dict[str, str]:
    """Return the environment of every command: nothing of ours is inherited."""
    return {"PATH": SEARCH_PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


@contextlib.contextmanager
def _memory_file(name: str, text: str = "") -> Iterator[int]:
    """Open a file in memory: no disk sees it, and unlike a pipe it outlives us.

    A command whose installer was killed goes on to its end: an rpm transaction that writes into a broken pipe
    would not.
    """
    descriptor = os.memfd_create(f"caisson-{name}")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as writer:
            writer.write(text.encode("utf-8"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", errors="replace")


@contextlib.contextmanager
def _registered(process_id: int, name: str, running_dir: Path) -> Iterator[None]:
    """Note a running command as a file named by its session, where the directory for that exists.

    What is left there by an installer that was killed is waited for by the next one (leftovers.py).
    """
    file = running_dir / str(process_id)
    if not running_dir.is_dir():
        yield
        return
    file.write_text(name + "\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group of ``process``, first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATION_GRACE_S)
            return


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
    try:
        descriptor = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as log:
            log.write(text)
    except OSError:
        return
