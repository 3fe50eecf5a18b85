# SPDX-License-Identifier: Apache-2.0
"""Show jobs: as a table, one with its phases, and as JSON (``jobs.schema.json``)."""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from installer.base.errors import InstallerError, to_json
from installer.base.ui import format_seconds
from installer.engine import following, jobunit, journal
from installer.engine.jobs import IsActive, Job, Result, State
from installer.operations import host_results
from installer.operations.host_results import HostResult
from installer.operations.report import phase_rows

INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Look:
    """How a job was at one moment."""

    job: Job
    state: State
    result: Result | None
    entries: Sequence[journal.Entry]
    hosts: Sequence[HostResult] = ()

    @property
    def error(self) -> InstallerError | None:
        """Return what it failed for; an interrupted one says so."""
        if self.state is State.INTERRUPTED:
            return following.interrupted(self.job)
        return None if self.result is None else self.result.error

    @property
    def exit_code(self) -> int:
        """Return the exit code of the job; 0 as long as it runs."""
        return 0 if self.error is None else self.error.exit_code

    @property
    def begun(self) -> str:
        """Return when it was begun the last time, or, before that, when it was asked for."""
        return self.job.starts[-1].time if self.job.starts else self.job.time

    @property
    def seconds(self) -> float | None:
        """Return how long it took, or takes already; None where nobody knows."""
        ended = time.time() if self.state is State.RUNNING else None
        if self.result is not None and self.result.time:
            ended = _moment(self.result.time)
        return None if ended is None else max(0.0, ended - _moment(self.begun))

    @property
    def open_phase(self) -> str:
        """Return the phases that were begun and not closed, each with its host where there are several."""
        last = {entry.operation: entry for entry in self.entries}
        found = [entry for entry in last.values() if entry.event == journal.START]
        is_one = len(last) < 2
        return ", ".join(entry.phase if is_one else f"{self._host(entry)}: {entry.phase}" for entry in found)

    def _host(self, entry: journal.Entry) -> str:
        """Return the host that a phase is about, by its name, else its address; empty where it is this one."""
        address = host_of(entry)
        names = {result.address: result.name for result in self.hosts}
        return names.get(address) or address

    @property
    def said(self) -> str:
        """Say in one line how it ended, or what it does."""
        if self.state is State.INTERRUPTED:
            where = f" in {self.open_phase}" if self.open_phase else ""
            return f"interrupted{where}; the same command goes on with it"
        if self.error is not None:
            return f"{self.error.code()} {self.error.message}"
        return self.open_phase if self.result is None else self.result.summary

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "id": self.job.id,
            "operation": self.job.operation,
            "arguments": dict(self.job.arguments),
            "command": list(self.job.command),
            "unit": self.job.unit,
            "state": self.state.value,
            "asked": self.job.time,
            "starts": [asdict(start) for start in self.job.starts],
            "ended": None if self.result is None else self.result.time,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "exit_code": self.exit_code if self.state is not State.RUNNING else None,
            "summary": "" if self.result is None else self.result.summary,
            "error": None if self.error is None else to_json(self.error),
            "directory": str(self.job.directory),
            "asker": dict(self.job.asker),
            "hosts": [asdict(result) for result in self.hosts],
            "phases": [
                {
                    "host": host_of(entry),
                    "name": entry.phase,
                    "event": entry.event,
                    "time": entry.time,
                    "changed": entry.changed,
                    "seconds": entry.seconds,
                }
                for entry in self.entries
            ],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return what is known of it, a row each."""
        count = len(self.job.starts)
        return [
            ("state", self.state.value),
            ("command", self.job.shown_command),
            ("asked for", f"{self.job.time}{self._asker}"),
            (
                "begun",
                f"{self.begun}{f', {count} times by now' if count > 1 else ''}" if count else "not yet",
            ),
            ("ended", self.result.time if self.result is not None else "-"),
            ("took", "-" if self.seconds is None else format_seconds(self.seconds)),
            ("unit", self.job.unit or "none: the command line carries it out"),
            ("files", str(self.job.directory)),
            ("result" if self.result is not None else "now", self.said or "-"),
        ]

    @property
    def _asker(self) -> str:
        """Say who asked, where that was not root at the command line."""
        asker = self.job.asker
        return f", by {asker.get('user')} from {asker.get('client') or 'somewhere'}" if asker else ""

    def phase_rows(self) -> list[tuple[str, ...]]:
        """Return the table of the phases that its last start has closed, host by host; none if there are none."""
        if not self.entries:
            return []
        run_id = self.entries[-1].run_id
        operations = list(dict.fromkeys(entry.operation for entry in self.entries if entry.run_id == run_id))
        if len(operations) < 2:
            rows = phase_rows(self.entries, run_id)
            return rows if len(rows) > 2 else []
        found: list[tuple[str, ...]] = [("HOST", "PHASE", "TIME", "CHANGED")]
        for operation in operations:
            own = [entry for entry in self.entries if entry.operation == operation]
            found += [(self._host(own[0]), *row) for row in phase_rows(own, run_id)[1:]]
        return found

    def host_rows(self) -> list[tuple[str, ...]]:
        """Return the table of its hosts, if it has any."""
        return host_results.table(self.hosts) if self.hosts else []


def host_of(entry: journal.Entry) -> str:
    """Return the address of the host that a phase is about; empty where it is this one.

    >>> host_of(journal.Entry("", "", "join", "start", operation="node-add/10.0.0.5"))
    '10.0.0.5'
    """
    return entry.operation.partition("/")[2]


def look(job: Job, *, is_active: IsActive = jobunit.is_active) -> Look:
    """Look how a job is.

    Raises:
        CommandError: systemd does not answer.
    """
    state = job.state(is_active)
    hosts = [
        # A row that says so of a job that was cut off is of then.
        replace(found, result=INTERRUPTED)
        if state is State.INTERRUPTED and found.result == host_results.AT_WORK
        else found
        for found in host_results.read(job.directory)
    ]
    return Look(job, state, job.result(), journal.read(job.journal_file), hosts)


def rows(looks: Sequence[Look]) -> list[tuple[str, ...]]:
    """Return the table of jobs, the newest first."""
    return [
        ("ID", "STATE", "BEGUN", "TOOK", "RESULT"),
        *(
            (
                found.job.id,
                found.state.value,
                found.begun,
                "-" if found.seconds is None else format_seconds(found.seconds),
                found.said,
            )
            for found in reversed(looks)
        ),
    ]


def _moment(stamp: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0
