# SPDX-License-Identifier: Apache-2.0
"""Follow a job to its end, or end it, from another process than its own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Callable

from installer.base.errors import CommandError, InterruptedJobError, StoppedError
from installer.base.paths import Paths
from installer.base.ui import format_seconds
from installer.engine import jobrecord, jobs, jobunit
from installer.engine import lock as lockfile
from installer.engine.jobs import IsActive, Job, Result, State

POLL_S = 0.2
SAY_INTERVAL_S = 9.0
END_LIMIT_S = 30.0
"""Between the result of a job and the end of its process."""

Say = Callable[[str], None]


def follow(job: Job, say: Say, *, from_start: bool = True, is_active: IsActive = jobunit.is_active) -> Result:
    """Tell each line that the job says until it has ended; return its result.

    Raises:
        InterruptedJobError: it ended without one.
        StoppedError: Ctrl-C; the job goes on.
    """
    output = _Tail(job.output_file, from_start=from_start)
    try:
        while True:
            job = jobs.read(job.directory)
            state = job.state(is_active)
            for line in output.lines(to_end=state is not State.RUNNING):
                say(line)
            if state is not State.RUNNING:
                break
            time.sleep(POLL_S)
        _wait_for_process(job)
    except KeyboardInterrupt as exc:
        raise StoppedError(
            f"no longer following job {job.id}, which goes on", resolution="\n".join(ways(job))
        ) from exc
    result = job.result()
    if result is None:
        raise interrupted(job)
    return result


def ways(job: Job) -> tuple[str, str]:
    """Return how a job that runs is followed, and how it is ended."""
    return f"follow it again: caisson job {job.id} --follow", f"end it: caisson job {job.id} --cancel"


def interrupted(job: Job) -> InterruptedJobError:
    """Return the error that says how an interrupted job is gone on with."""
    since = f", begun {job.starts[-1].time}" if job.starts else ", never begun"
    details = f"{job.operation}{since}\nwhat it said: {job.output_file}"
    details += f"\nwhat systemd says: journalctl -u {job.unit}" if job.unit else ""
    return InterruptedJobError(
        f"job {job.id} was interrupted: nothing of it runs, and it has no result",
        details=details,
        resolution=f"run the same command again to go on with it: {job.shown_command}\n"
        f"or give it up: caisson job {job.id} --cancel",
    )


def cancel(
    job: Job,
    say: Say,
    *,
    is_active: IsActive = jobunit.is_active,
    stop: Say = jobunit.stop,
    limit_s: float = jobunit.STOP_LIMIT_S,
) -> State:
    """Tell a running job to end and wait until it has; return how it then is.

    It ends what it has started, and lets a transaction of rpm finish first.

    Raises:
        CommandError: it still runs after ``limit_s``.
        StoppedError: Ctrl-C; the job was told, and ends when it can.
    """
    started, said_at, told = time.monotonic(), -SAY_INTERVAL_S, -1
    try:
        while (state := (job := jobs.read(job.directory)).state(is_active)) is State.RUNNING:
            waited_s = time.monotonic() - started
            if waited_s > limit_s:
                raise _still_running(job, waited_s)
            if told != len(job.starts):  # once, and again if it was only being started
                told = len(job.starts)
                tell_to_end(job, stop)
            if waited_s - said_at >= SAY_INTERVAL_S:
                say(
                    f"{waited_s:.0f} s  waiting for the job to end; packages that are being installed are finished"
                )
                said_at = waited_s
            time.sleep(POLL_S)
        _wait_for_process(job)
    except KeyboardInterrupt as exc:
        raise StoppedError(
            f"no longer waiting for job {job.id}, which was told to end", resolution="\n".join(ways(job)[:1])
        ) from exc
    return state


def give_up(paths: Paths, job: Job, *, is_active: IsActive = jobunit.is_active) -> None:
    """Give an interrupted job up: it has failed. One that was gone on with meanwhile is left alone.

    Raises:
        LockedError: a job is at work.
        HostError: it cannot be written down.
    """
    with lockfile.hold(paths.lock_file):
        job = jobs.read(job.directory)
        if job.state(is_active) is State.INTERRUPTED:
            jobrecord.finish(job, error=StoppedError("given up after it was interrupted"))


def tell_to_end(job: Job, stop: Say = jobunit.stop) -> None:
    """Send SIGTERM to the process of the job, and to no other that may have its number by now."""
    number = job.process()
    if number is None:
        stop(job.unit)
        return
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(number)
        try:
            if job.process() == number:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        finally:
            os.close(descriptor)


def _still_running(job: Job, waited_s: float) -> CommandError:
    return CommandError(
        f"job {job.id} was told to end and still runs after {format_seconds(waited_s)}",
        details=f"process {job.process() or 'not known'}; {job.unit or 'no unit of its own'}",
        resolution=f"see what it does: caisson job {job.id} --follow",
    )


def _wait_for_process(job: Job) -> None:
    """Wait until the process of a job that has ended is gone, and the lock with it."""
    deadline = time.monotonic() + END_LIMIT_S
    while job.process() is not None and time.monotonic() < deadline:
        time.sleep(POLL_S / 4)


class _Tail:
    """The lines of a file that grows, and that may not be there yet."""

    def __init__(self, file: Path, *, from_start: bool) -> None:
        self._file = file
        self._offset = 0
        self._rest = b""
        if not from_start:
            with contextlib.suppress(FileNotFoundError):
                self._offset = file.stat().st_size

    def lines(self, *, to_end: bool) -> list[str]:
        """Return the new lines; ``to_end`` takes a last one without its end of line too."""
        with contextlib.suppress(FileNotFoundError), self._file.open("rb") as source:
            source.seek(self._offset)
            self._rest += source.read()
            self._offset = source.tell()
        *whole, self._rest = self._rest.split(b"\n")
        if to_end and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        return [line.decode("utf-8", errors="replace") for line in whole]
