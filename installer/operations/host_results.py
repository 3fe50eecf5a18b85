# SPDX-License-Identifier: Apache-2.0
"""Write down how it stands with each host of a job: ``hosts.json`` in its directory, a row each, written as each ends.

One table ends a job of several hosts, and ``caisson job ID`` shows it again, also of one that was interrupted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from installer.base.errors import HostError, InstallerError, PreflightError, StoppedError
from installer.base.files import write_file
from installer.config.nodes import NodeEntry

FILE_NAME = "hosts.json"
WAITING, AT_WORK, READY, FAILED, STOPPED = "waiting", "at work", "Ready", "failed", "stopped"


@dataclass(frozen=True)
class HostResult:
    """How it stands with one host; ``seconds`` is None before it has ended, ``phase`` the one that failed."""

    name: str
    address: str
    role: str
    result: str = WAITING
    phase: str = ""
    seconds: float | None = None
    why: str = ""
    code: str = ""
    exit_code: int = 0

    @property
    def cells(self) -> tuple[str, ...]:
        """Return it as a row of the table; why is last, for it may be long."""
        seconds = "-" if self.seconds is None else f"{self.seconds:.0f}"
        why = f"{self.code} {self.why}" if self.code else self.why
        return (self.name or "-", self.address, self.role, self.result, self.phase or "-", seconds, why)


def of_error(entry: NodeEntry, error: InstallerError) -> HostResult:
    """Return the result of a host that was not begun."""
    begun = HostResult(entry.name, entry.address, entry.role.value)
    return replace(begun, result=FAILED, why=why(error, ""), code=error.code(), exit_code=error.exit_code)


HEADING = ("NAME", "ADDRESS", "ROLE", "RESULT", "PHASE", "SECONDS", "WHY")


def table(results: Sequence[HostResult]) -> list[tuple[str, ...]]:
    """Return the table, in the order of the list that was asked for."""
    return [HEADING, *(result.cells for result in results)]


def why(error: InstallerError, phase: str) -> str:
    r"""Return what a row says of an error, whose phase has a column of its own; of a host that is not fit, its faults.

    >>> why(HostError("CSP403 send: no room"), "CSP403 send")
    'no room'
    >>> why(PreflightError("node2 is not fit", details="CSN601 name: it is node1's -> rename it\nCSN605 x: y -> z"), "")
    "CSN601 name: it is node1's; CSN605 x: y"
    """
    if isinstance(error, PreflightError) and error.details:
        return "; ".join(line.partition(" -> ")[0] for line in error.details.splitlines())
    return error.message.rpartition(f"{phase}: ")[2] if phase else error.message


class HostResults:
    """The results of one job, by the titles of its hosts; safe to use from several threads."""

    def __init__(self, directory: Path, entries: Sequence[NodeEntry]) -> None:
        """Begin with all of them waiting.

        Raises:
            HostError: it cannot be written down.
        """
        self._file = directory / FILE_NAME
        self._mutex = threading.Lock()
        self._results = {
            entry.title: HostResult(entry.name, entry.address, entry.role.value) for entry in entries
        }
        self._write()

    @property
    def all(self) -> tuple[HostResult, ...]:
        """Return all of them, in the order of the list."""
        with self._mutex:
            return tuple(self._results.values())

    def begin(self, title: str) -> None:
        """Say that it is worked on."""
        self._set(title, result=AT_WORK)

    def ready(self, title: str, *, name: str, seconds: float, why: str) -> None:
        """Say that it is a node."""
        self._set(title, result=READY, name=name, seconds=round(seconds, 1), why=why)

    def failed(
        self, title: str, error: InstallerError, *, seconds: float, name: str = "", phase: str = ""
    ) -> None:
        """Say what it failed for, or that it was stopped."""
        self._set(
            title,
            result=STOPPED if isinstance(error, StoppedError) else FAILED,
            phase=phase,
            seconds=round(seconds, 1),
            why=why(error, phase),
            code=error.code(),
            exit_code=error.exit_code,
            **({"name": name} if name else {}),
        )

    def _set(self, title: str, **values: object) -> None:
        with self._mutex:
            self._results[title] = replace(self._results[title], **values)  # type: ignore[arg-type]
            self._write()

    def _write(self) -> None:
        text = json.dumps([asdict(result) for result in self._results.values()], indent=1)
        try:
            write_file(self._file, text + "\n", mode=0o600)
        except OSError as exc:
            raise HostError(
                f"how it stands with the hosts cannot be written down: {self._file}: {exc.strerror}",
                resolution="make room on its file system (df -h /var/lib), then run this again",
            ) from exc


def read(directory: Path) -> tuple[HostResult, ...]:
    """Return the results that a job has written down; none where it is of no host, or they cannot be read."""
    try:
        data = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
        return tuple(HostResult(**entry) for entry in data)
    except (OSError, ValueError, TypeError):
        return ()
