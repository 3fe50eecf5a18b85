# SPDX-License-Identifier: Apache-2.0
"""Ask for a job, which systemd then starts, and carry it out there.

Whoever asks holds the lock until the unit runs; the job waits for it. So a second command, or a second job, cannot come
in between and be told of it only later.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import InstallerError, LockedError, from_exception
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.engine import jobrecord, jobs, jobsecrets, jobunit, leftovers, logs
from installer.engine import lock as lockfile
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job

LOCK_PATIENCE_S = 60.0
"""Longer than whoever asks takes to have the unit started."""

SAME_KEY_LIMIT_S = 2.0
"""Longer than whoever has the lock takes to write a job down."""


@dataclass(frozen=True)
class Task:
    """What the work of a job is given; the lock is held, and nothing of an earlier run goes on any more."""

    job: Job
    secrets: Mapping[str, str]
    ui: Ui
    paths: Paths
    tree_dir: Path


Work = Callable[[Task], str]
"""What an operation does as a job; it returns what to say of it in one line."""


def ask(
    paths: Paths, request: Request, program: Sequence[str], *, secrets: Mapping[str, str] | None = None
) -> Job:
    """Write a job down and have systemd start it; the interrupted one of the same request is gone on with.

    A request whose key is that of a job is that job, however it is, and starts nothing.

    ``program`` is the command line of this installer, without the words of a command.

    Raises:
        LockedError: another job is at work.
        HostError, CommandError: it cannot be written down, or not be started.
    """
    same = jobs.with_key(paths, request.key)
    if same is not None:
        return same
    try:
        return _ask(paths, request, program, secrets or {})
    except LockedError:
        same = _wait_for_key(paths, request.key)
        if same is None:
            raise
        return same


def _wait_for_key(paths: Paths, key: str) -> Job | None:
    """Return the job of this key, which another process may be about to write down at this moment."""
    deadline = time.monotonic() + (SAME_KEY_LIMIT_S if key else 0.0)
    while (same := jobs.with_key(paths, key)) is None and time.monotonic() < deadline:
        time.sleep(lockfile.POLL_S)
    return same


def _ask(paths: Paths, request: Request, program: Sequence[str], secrets: Mapping[str, str]) -> Job:
    with lockfile.hold(paths.lock_file) as lock:
        same = jobs.with_key(paths, request.key)
        if same is not None:
            return same
        job = jobrecord.prepare(paths, request, has_unit=True)
        lock.give(job=job.id, operation=job.operation)
        try:
            jobsecrets.put(paths, job.id, secrets)
            jobunit.start(job.unit, [*program, "job", job.id, "--run"])
        except BaseException as exc:  # Ctrl-C too: no secret is left to a job that never was
            with contextlib.suppress(InstallerError):  # what it was not started for is more to know
                _take_back(job, paths, from_exception(exc))
            raise
    return job


def _take_back(job: Job, paths: Paths, error: InstallerError) -> None:
    """Write down that a job was not started, unless it was."""
    if not jobunit.is_active(job.unit):
        jobsecrets.put(paths, job.id, {})
        jobrecord.finish(job, error=error)


def carry_out(job: Job, work: Work, *, paths: Paths, tree_dir: Path) -> None:
    """Carry a job out in this process, which its unit has started; write down how it ends.

    Raises:
        InstallerError: what it failed for.
    """
    ui = Ui(sys.stdout, log_file=logs.file(paths, job.operation), copy_file=job.output_file)
    with jobrecord.carried_out(job) as outcome:
        try:
            secrets = jobsecrets.take(paths, job.id)
            with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S) as lock:
                lock.give(job=job.id, operation=job.operation)
                logs.begin(paths, job.operation)
                ui.detail(f"job {job.id}: {job.shown_command}")
                paths.running_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
                leftovers.wait(paths.running_dir, progress=ui.note)
                outcome.summary = work(Task(job, secrets, ui, paths, tree_dir))
        except InstallerError as exc:
            ui.detail(f"job {job.id}: error: {exc}")
            raise
        except Exception:
            ui.note(traceback.format_exc())
            raise
        finally:
            ui.close()
