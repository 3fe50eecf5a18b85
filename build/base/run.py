# SPDX-License-Identifier: Apache-2.0
"""The only door through which the builder starts commands.

Commands are argument lists, never shell text; the environment is rebuilt from a short list of names; standard
input is empty unless text is given; every command has a timeout.
"""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import sh

from build.base.errors import CommandError

_STDERR_LINES = 20
_CANCEL_PERIOD_S = 0.2

# What a command may see of the caller's environment: enough to find programs, temporary space, proxies,
# certificates and the user's own pip and registry configuration. Locale and time zone are set, not passed.
PASSED_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
        "http_proxy", "https_proxy", "no_proxy", "all_proxy",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "NETRC", "SOURCE_DATE_EPOCH",
    }
)  # fmt: skip
PASSED_PREFIXES = ("PIP_",)
SET_VALUES = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ended. ``stdout_bytes`` is verbatim; a signal ``n`` gives ``returncode`` ``-n``."""

    args: tuple[str, ...]
    returncode: int
    stdout_bytes: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        """Return standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout_bytes.decode(errors="replace")


def plan_environment(current: Mapping[str, str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a command's environment: the passed names of ``current``, fixed locale and zone, ``extra``."""
    passed = {
        name: value
        for name, value in current.items()
        if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }
    return passed | SET_VALUES | dict(extra or {})


def run(
    args: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    only_env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 600,
    input_text: str | None = None,
    check: bool = True,
    log_file: Path | None = None,
    cancel: threading.Event | None = None,
    pass_fd: int | None = None,
) -> Completed:
    """Run a command to its end and return what it said.

    ``env`` is added to the rebuilt environment; with ``only_env`` the command gets that and nothing else.
    With ``log_file`` the command and its whole output are appended there. The command is killed soon
    after ``cancel`` is set. ``pass_fd`` is an open descriptor that it gets too, as ``/dev/fd/NUMBER``.

    Raises: CommandError when the program is not installed, when the timeout is over and, with ``check``, when
    the exit code is not 0.
    """
    words = tuple(str(arg) for arg in args)
    environment = plan_environment(os.environ, env)
    try:
        program = sh.Command(words[0], search_paths=environment.get("PATH", os.defpath).split(os.pathsep))
    except sh.CommandNotFound as exc:
        raise CommandError(
            f"program '{words[0]}' is not installed",
            details=f"needed for: {shlex.join(words)}",
            resolution=f"install the package that has '{words[0]}' (./doit.sh lists what the build needs)",
        ) from exc
    if pass_fd is not None:
        os.set_inheritable(pass_fd, True)  # noqa: FBT003 - os's form; commands that were not given it have it closed
    output, errors = io.BytesIO(), io.BytesIO()  # sh's own buffers keep only the last 3 MiB
    process = program(
        *words[1:],
        _env=environment if only_env is None else dict(only_env),
        _cwd=None if cwd is None else str(cwd),
        _in=input_text or None,
        _out=output,
        _err=errors,
        _tty_out=False,
        _new_session=True,
        _pass_fds={pass_fd} if pass_fd is not None else set(),
        _bg=True,
        _bg_exc=False,
        _ok_code=list(range(-64, 256)),
        _return_cmd=True,
    )
    is_late = _wait(process, timeout_s, cancel)
    if is_late:
        raise CommandError(
            f"command '{words[0]}' did not end within {timeout_s:g} s",
            details=f"command: {shlex.join(words)}",
            resolution="run the command by hand to see what it waits for",
        )
    completed = Completed(
        args=words,
        returncode=process.exit_code,
        stdout_bytes=output.getvalue(),
        stderr=errors.getvalue().decode(errors="replace"),
    )
    if log_file is not None:
        _append_log(log_file, completed)
    if check and completed.returncode != 0:
        raise command_error(completed, log_file=log_file)
    return completed


def _wait(process: sh.RunningCommand, timeout_s: float, cancel: threading.Event | None) -> bool:
    """Wait for the end; end the whole session of the command when time is up or somebody gives up.

    Return whether time was up. sh's own ``_timeout`` polls ten times a second, which every command would pay.
    """
    is_late = threading.Event()
    has_ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(process, timeout_s, cancel, is_late, has_ended), name="command", daemon=True
    )
    watcher.start()
    try:
        process.wait()
    except BaseException:
        process.kill_group()
        raise
    finally:
        has_ended.set()
        watcher.join()
    return is_late.is_set()


def _watch(
    process: sh.RunningCommand,
    timeout_s: float,
    cancel: threading.Event | None,
    is_late: threading.Event,
    has_ended: threading.Event,
) -> None:
    """End the command when time is up or ``cancel`` is set, whichever comes before its own end."""
    deadline = time.monotonic() + timeout_s
    while not has_ended.wait(min(_CANCEL_PERIOD_S if cancel else timeout_s, timeout_s)):
        if time.monotonic() >= deadline:
            is_late.set()
        if is_late.is_set() or (cancel is not None and cancel.is_set()):
            process.kill_group()
            return


def command_error(
    completed: Completed, *, log_file: Path | None = None, resolution: str = ""
) -> CommandError:
    """Make the error of a command that failed: the command to paste, how it ended, its last words."""
    last = "\n".join(completed.stderr.strip().splitlines()[-_STDERR_LINES:])
    details = f"command: {shlex.join(completed.args)}"
    if last:
        details += f"\n{last}"
    if log_file is not None:
        details += f"\nlog: {log_file}"
    return CommandError(
        f"command '{completed.args[0]}' {_ending(completed.returncode)}",
        details=details,
        resolution=resolution or "see the last lines above; the command can be pasted into a shell",
    )


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by signal {signal.Signals(-returncode).name}"
    return f"failed with exit code {returncode}"


def _append_log(log_file: Path, completed: Completed) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(completed.args)}\n{completed.stdout}{completed.stderr}")
        log.write(f"[{_ending(completed.returncode) if completed.returncode else 'exit code 0'}]\n")
