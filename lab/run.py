# SPDX-License-Identifier: Apache-2.0
"""The lab's only door to other programs.

Argument lists, never a shell string; a rebuilt environment; standard input closed; always a time limit.
A command is a process group of its own, which ends with the call, whatever ends the call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lab.errors import CommandError

STDERR_TAIL_LINES = 20

#: What a command may see of our own environment: where things are, how the network is reached, tool caches.
_KEPT = frozenset(
    {
        "CAISSON_CACHE", "HOME", "LOGNAME", "PATH", "TMPDIR", "USER", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    }
)  # fmt: skip
_KEPT_PREFIXES = ("GO", "PIP_", "CGO_")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a command left: its code (negative: the signal that ended it) and its two outputs as text."""

    returncode: int
    stdout: str
    stderr: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: a few kept variables, plain C.UTF-8 messages, then ``extra``."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    kept.setdefault("PATH", _SYSTEM_PATH)
    kept.setdefault("HOME", "/root")
    if not {"/usr/sbin", "/sbin"} & set(kept["PATH"].split(":")):
        kept["PATH"] += ":/usr/sbin:/sbin"
    return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    check: bool = True,
    input_text: str | None = None,
    control_groups: Sequence[Path] = (),
    label: str = "",
) -> Completed:
    """Run one command to its end and return its outputs.

    ``env`` is added to the rebuilt environment. Bytes that are no UTF-8 come back as U+FFFD. The command
    joins each of ``control_groups`` (directories) before it starts. ``label`` is what messages call it.

    Raises:
        CommandError: it could not be started, took longer than ``timeout_s``, or (with ``check``) ended
            with another code than 0.
    """
    words = [str(word) for word in args]
    with _started(
        words, cwd=cwd, env=env, takes_input=input_text is not None, control_groups=control_groups
    ) as process:
        try:
            out, err = process.communicate(_encoded(input_text), timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            _end_group(process)
            out, err = process.communicate()
            raise _timed_out(words, timeout_s, _text(err), label) from exc
    completed = Completed(returncode=process.returncode, stdout=_text(out), stderr=_text(err))
    if check and completed.returncode != 0:
        raise failure(words, completed, label)
    return completed


def stream(
    args: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    input_text: str | None = None,
    control_groups: Sequence[Path] = (),
    label: str = "",
) -> int:
    """Run one command, hand on each line of its two outputs (merged, without the newline) as it comes.

    Returns the exit code; negative: the signal. ``input_text`` must be small (it is written at once).

    Raises:
        CommandError: it could not be started or took longer than ``timeout_s``.
    """
    words = [str(word) for word in args]
    ends_at = time.monotonic() + timeout_s
    with _started(
        words, cwd=cwd, env=env, takes_input=input_text is not None, control_groups=control_groups, merge=True
    ) as process:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(_encoded(input_text) or b"")
        last_lines: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        try:
            for raw in _lines_of(process, ends_at):
                line = _text(raw).rstrip("\r\n")
                last_lines.append(line)
                on_line(line)
            return process.wait(max(ends_at - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired as exc:
            raise _timed_out(words, timeout_s, "\n".join(last_lines), label) from exc


def spawn(
    args: Sequence[str | Path],
    *,
    output_file: Path,
    env: Mapping[str, str] | None = None,
    control_groups: Sequence[Path] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that outlives this call, both outputs appended to ``output_file``; the caller ends it.

    When it ends while we live, a thread takes note, so that it is no zombie to those who look for it.

    Raises:
        CommandError: it could not be started.
    """
    words = [str(word) for word in args]
    with output_file.open("ab") as output:
        process, release = _begin(
            words,
            control_groups,
            cwd="/",
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        release()
    except BaseException:
        _end_group(process)
        process.wait()
        raise
    threading.Thread(target=process.wait, name=f"reaper of {process.pid}", daemon=True).start()
    return process


def become(args: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by a program that talks to the user itself.

    Raises:
        CommandError: it could not be started.
    """
    words = [str(word) for word in args]
    try:
        os.execvpe(words[0], words, environment(env))  # noqa: S606 - the one place for it
    except OSError as exc:
        raise _cannot_start(words, exc) from exc


def _lines_of(process: subprocess.Popen[bytes], ends_at: float) -> Iterator[bytes]:
    """Yield the lines of a program's output as they come, the last one even if it has no newline.

    Ends with the output, or soon after the program when only something that it left behind holds the pipe.

    Raises:
        TimeoutExpired: ``ends_at`` (monotonic clock) came first.
    """
    pipe = process.stdout
    if pipe is None:
        return
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if not selector.select(min(left_s, 1.0)):
                if process.poll() is not None:
                    break
                continue
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    if rest:
        yield rest


def failure(words: Sequence[str], completed: Completed, label: str = "") -> CommandError:
    """Return the error for a command that ended badly: the command ready to paste, its end, last words."""
    ended = _end_of(completed.returncode)
    tail = _tail(completed.stderr) or _tail(completed.stdout) or "(no output)"
    return CommandError(
        f"{label or Path(words[0]).name} {ended}",
        details=f"{shlex.join(words)}\n{tail}",
        resolution="paste the command to see it fail by itself",
        returncode=completed.returncode,
    )


@contextlib.contextmanager
def _started(
    words: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    takes_input: bool,
    control_groups: Sequence[Path],
    merge: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    process, release = _begin(
        words,
        control_groups,
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.PIPE if takes_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
    )
    try:
        release()
        yield process
    finally:
        _end_group(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()


def _begin(
    words: Sequence[str], control_groups: Sequence[Path], **options: Any
) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """Start a process, in a session of its own; return it, and what lets signals come: they wait until then.

    Raises:
        CommandError: it could not be started.
    """
    release = _hold_signals()
    try:
        process = subprocess.Popen(
            words,
            start_new_session=True,
            preexec_fn=_joining(control_groups),  # noqa: PLW1509 - it only opens and writes
            **options,
        )
    except BaseException as exc:
        release()
        if isinstance(exc, OSError):
            raise _cannot_start(words, exc) from exc
        raise
    return process, release


def _hold_signals() -> Callable[[], None]:
    """Let the polite signals wait while a process is started; return what lets them come.

    One that came in the middle would end the work here and leave a process of which nobody knows: what it makes then,
    a network namespace say, nobody takes away. Only the main thread hears signals.
    """
    came: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda heard, _: came.append(heard))

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            before[number](number, None)

    return release


def _joining(control_groups: Sequence[Path]) -> Callable[[], None] | None:
    """Return what the child does between fork and exec: only plain writes, no allocation worth the name."""
    if not control_groups:
        return None
    files = [os.fspath(directory / "cgroup.procs") for directory in control_groups]

    def join() -> None:
        for file in files:
            descriptor = os.open(file, os.O_WRONLY)
            os.write(descriptor, b"0")
            os.close(descriptor)

    return join


def _cannot_start(words: Sequence[str], exc: OSError) -> CommandError:
    return CommandError(
        f"{words[0]} cannot be started: {exc.strerror}",
        details=shlex.join(words),
        resolution=f"install the program that provides {words[0]!r}" if exc.errno == errno.ENOENT else "",
        returncode=None,
    )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # Only while the leader is not yet reaped its number cannot have become somebody else's.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _timed_out(words: Sequence[str], timeout_s: float, stderr: str, label: str) -> CommandError:
    return CommandError(
        f"{label or Path(words[0]).name} did not end within {timeout_s:g} s",
        details=f"{shlex.join(words)}\n{_tail(stderr) or '(no output)'}",
        resolution="paste the command to see what it waits for",
        returncode=None,
    )


def _end_of(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-STDERR_TAIL_LINES:])


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="replace")
