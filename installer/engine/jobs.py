# SPDX-License-Identifier: Apache-2.0
"""Keep what was asked of this host and how it ended: a directory a job, ``/var/lib/caisson/jobs/ID``.

``job.json`` says what was asked and by which processes it was begun, ``journal.jsonl`` has its phases, ``output.log``
what it said, ``result.json`` how it ended. All are root's alone. How a job *is* stands nowhere, for it could be wrong
after a power cut: it is derived. A result says succeeded or failed; without one a living process, or an active unit,
says running; without these the job was interrupted.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Callable

from installer.base import processes
from installer.base.errors import HostError, InstallerError, from_json
from installer.base.paths import Paths
from installer.engine import jobunit

FORMAT = 1
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")

IsActive = Callable[[str], bool]
"""Says whether a unit of systemd is at work."""


class State(str, Enum):
    """How a job is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Start:
    """One time that a job was begun: by which process (``ticks``: when that began), in which boot of the host."""

    time: str
    process: int
    ticks: int
    boot: str


@dataclass(frozen=True)
class Result:
    """How a job ended: without an error it succeeded."""

    time: str
    summary: str = ""
    error: InstallerError | None = None

    @property
    def exit_code(self) -> int:
        """Return the exit code of the job."""
        return 0 if self.error is None else self.error.exit_code


@dataclass(frozen=True)
class Job:
    """A job, as its ``job.json`` has it; ``unit`` is empty where the command line itself carries it out.

    ``key`` is that of the form by which it was asked for, and ``asker`` who did so and from where; both are empty where
    that was root at the command line.
    """

    directory: Path
    operation: str
    arguments: Mapping[str, Any]
    command: tuple[str, ...]
    time: str
    unit: str = ""
    starts: tuple[Start, ...] = ()
    key: str = ""
    asker: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Return its name: when it was asked for, its operation, and six digits by chance."""
        return self.directory.name

    @property
    def shown_command(self) -> str:
        """Return what was typed, to be typed again."""
        return shlex.join(self.command)

    @property
    def journal_file(self) -> Path:
        """Return the journal of its phases."""
        return self.directory / "journal.jsonl"

    @property
    def output_file(self) -> Path:
        """Return what it said."""
        return self.directory / "output.log"

    @property
    def result_file(self) -> Path:
        """Return how it ended; it is there once the job has ended."""
        return self.directory / "result.json"

    def result(self) -> Result | None:
        """Return how it ended, or None; a result that cannot be read is one that says so."""
        try:
            data = json.loads(self.result_file.read_text(encoding="utf-8"))
            error = None if data["error"] is None else from_json(data["error"])
            return Result(str(data["time"]), str(data["summary"]), error)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            return Result("", error=_unreadable(self.result_file, exc))

    def process(self) -> int | None:
        """Return the process that carries it out now, or None."""
        if not self.starts or self.starts[-1].boot != boot_id():
            return None
        last = self.starts[-1]
        found = processes.find(last.process)
        is_it = found is not None and found.started == last.ticks and found.state != "Z"
        return last.process if is_it else None

    def state(self, is_active: IsActive = jobunit.is_active) -> State:
        """Look how the job is."""
        result = self.result()
        if result is None:
            if self.process() is not None or (self.unit and is_active(self.unit)):
                return State.RUNNING
            result = self.result()  # it may have ended since the first look
        if result is None:
            return State.INTERRUPTED
        return State.SUCCEEDED if result.error is None else State.FAILED


def read_all(paths: Paths) -> tuple[list[Job], list[HostError]]:
    """Return all jobs, the oldest first, and what is wrong with those that cannot be read."""
    found, faults = [], []
    for directory in sorted(paths.jobs_dir.glob("[!.]*")):
        try:
            found.append(read(directory))
        except HostError as exc:
            faults.append(exc)
    return found, faults


def read(directory: Path) -> Job:
    """Return one job.

    Raises:
        HostError: what stands there cannot be read, or a newer caisson has written it.
    """
    file = directory / "job.json"
    try:
        return _parse(directory, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise _unreadable(file, exc) from exc


def with_key(paths: Paths, key: str) -> Job | None:
    """Return the job that was asked for by the form of this key, None when there is none."""
    found, _ = read_all(paths)
    return next((job for job in reversed(found) if key and job.key == key), None)


def _parse(directory: Path, data: Mapping[str, Any]) -> Job:
    if data["format"] != FORMAT:
        raise ValueError(f"its format is {data['format']}; this caisson knows {FORMAT}")
    return Job(
        directory=directory,
        operation=str(data["operation"]),
        arguments=dict(data["arguments"]),
        command=tuple(map(str, data["command"])),
        time=str(data["time"]),
        unit=str(data["unit"]),
        starts=tuple(Start(**start) for start in data["starts"]),
        key=str(data.get("key", "")),
        asker={str(name): str(value) for name, value in data.get("asker", {}).items()},
    )


def _unreadable(file: Path, exc: Exception) -> HostError:
    return HostError(
        f"{file} cannot be read",
        details=str(exc),
        resolution=f"look into {file.parent}; when nothing of it is needed any more, remove that directory",
    )


def boot_id() -> str:
    """Return what tells this boot of the host from others."""
    return BOOT_FILE.read_text(encoding="ascii").strip()


def stamp(moment: time.struct_time | None = None) -> str:
    """Return a moment, or now, as it is written down: UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime() if moment is None else moment)
