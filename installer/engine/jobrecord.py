# SPDX-License-Identifier: Apache-2.0
"""Write a job down: when it is asked for, each time that a process begins it, and when it ends.

A directory takes its name with its ``job.json`` in it, and each file is on the disk before it counts: a power cut
leaves a job as it was before or as it is after.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from installer.base import processes
from installer.base.errors import HostError, InstallerError, from_exception, to_json
from installer.base.files import fsync_dir, write_file
from installer.base.paths import Paths
from installer.engine import jobunit
from installer.engine.jobs import FORMAT, IsActive, Job, Start, State, boot_id, read_all, stamp
from installer.engine.lock import refusal

KEPT_JOBS = 200
"""So many that have ended stay, the newest, and as many that were interrupted."""
ID = re.compile(r"\d{8}-\d{6}-[a-z]+(-[a-z]+)*-[0-9a-f]{6}")


@dataclass(frozen=True)
class Request:
    """What is asked: an operation with its arguments, which are JSON data without a secret in them.

    The same operation with equal arguments is the same request. ``command`` is what was typed, for people. ``key`` is
    that of the form by which it was asked for: sent twice, it is one job. ``asker``: who asks, and from where.
    """

    operation: str
    arguments: Mapping[str, Any]
    command: Sequence[str]
    key: str = ""
    asker: Mapping[str, str] = field(default_factory=dict)


def prepare(
    paths: Paths, request: Request, *, has_unit: bool = False, is_active: IsActive = jobunit.is_active
) -> Job:
    """Return the job of a request: the interrupted one, to be gone on with, or a new one.

    To be called with the lock held: nothing else may begin a job meanwhile.

    Raises:
        LockedError: a job runs that has not taken the lock yet.
        HostError: it cannot be written down.
    """
    found, _ = read_all(paths)
    unfinished = [job for job in found if job.result() is None]
    for job in unfinished:
        if job.state(is_active) is State.RUNNING:
            details = "it is just being started, or it is ending"
            raise refusal(job.id, job.operation, since=job.time, details=details)
    arguments = json.loads(json.dumps(request.arguments))
    same = [job for job in unfinished if (job.operation, job.arguments) == (request.operation, arguments)]
    now = time.gmtime()
    job = same[-1] if same else _new(paths, request, arguments, now)
    unit = jobunit.name(job.id, len(job.starts) + 1) if has_unit else ""
    job = replace(
        job,
        command=tuple(request.command),
        unit=unit,
        key=request.key or job.key,
        asker=dict(request.asker),
    )
    interrupted = [old.directory for old in unfinished if old.id != job.id]
    ended = [old.directory for old in found if old not in unfinished]
    try:
        _tidy(paths, ended, interrupted)
        _write_new(job)
    except OSError as exc:
        raise _unwritable(job.directory, exc) from exc
    return job


def _new(paths: Paths, request: Request, arguments: Mapping[str, Any], now: time.struct_time) -> Job:
    name = f"{time.strftime('%Y%m%d-%H%M%S', now)}-{request.operation}-{os.urandom(3).hex()}"
    if not ID.fullmatch(name):
        raise ValueError(f"'{request.operation}' cannot be the name of an operation")
    return Job(paths.jobs_dir / name, request.operation, arguments, tuple(request.command), stamp(now))


def _tidy(paths: Paths, *kinds: Sequence[Path]) -> None:
    """Remove the oldest of each kind, and what a kill has left of others."""
    paths.jobs_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.jobs_dir.chmod(0o700)
    for directory in (directory for kind in kinds for directory in sorted(kind)[:-KEPT_JOBS]):
        directory.rename(directory.with_name(f".{directory.name}.old"))
    for leftover in paths.jobs_dir.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _write_new(job: Job) -> None:
    """Write ``job.json``; a directory that has a job's name has one in it at any moment."""
    if job.directory.exists():
        _write(job, job.directory)
        return
    temporary_dir = job.directory.with_name(f".{job.id}.new")
    temporary_dir.mkdir(mode=0o700)
    _write(job, temporary_dir)
    temporary_dir.rename(job.directory)
    fsync_dir(job.directory.parent)


def _write(job: Job, directory: Path) -> None:
    content = {"format": FORMAT, "id": job.id, **asdict(job)}
    del content["directory"]
    write_file(directory / "job.json", json.dumps(content, indent=1) + "\n", mode=0o600)


# ---- to carry it out -------------------------------------------------------------------------------------


class Outcome:
    """What is said of a job when it has succeeded, in one line."""

    summary = ""


@contextlib.contextmanager
def carried_out(job: Job) -> Iterator[Outcome]:
    """Write down that this process carries the job out, and how the ``with`` block ends.

    Raises:
        HostError: it cannot be written down; and whatever the block raises.
    """
    begun = _begun(job)
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as exc:
        with contextlib.suppress(HostError):  # what it failed for is more to know than that the disk is full
            finish(begun, error=from_exception(exc))
        raise
    finish(begun, summary=outcome.summary)


def _begun(job: Job) -> Job:
    own = processes.find(os.getpid())
    start = Start(stamp(), os.getpid(), 0 if own is None else own.started, boot_id())
    begun = replace(job, starts=(*job.starts, start))
    try:
        _write(begun, begun.directory)
    except OSError as exc:
        raise _unwritable(job.directory, exc) from exc
    return begun


def finish(job: Job, *, summary: str = "", error: InstallerError | None = None) -> None:
    """Write down how a job ended.

    Raises:
        HostError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "time": stamp(),
        "exit_code": 0 if error is None else error.exit_code,
        "summary": summary,
        "error": None if error is None else to_json(error),
    }
    try:
        write_file(job.result_file, json.dumps(content, indent=1) + "\n", mode=0o600)
    except OSError as exc:
        raise _unwritable(job.result_file, exc) from exc


def _unwritable(file: Path, exc: OSError) -> HostError:
    return HostError(
        f"the job cannot be written down: {file}: {exc.strerror}",
        resolution="make room on its file system (df -h /var/lib), then run this again",
    )
