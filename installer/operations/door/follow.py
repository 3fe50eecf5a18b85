# SPDX-License-Identifier: Apache-2.0
"""Tell how a job goes on, from any place in its files, until it has ended or nobody listens any more.

Each event says how many bytes of the journal and of the output were told by then: whoever asks again from there misses
nothing and hears nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.base.session import only_looking
from installer.base.ui import printable
from installer.engine import jobs
from installer.engine.jobs import Job, State
from installer.operations import job_report
from installer.operations.door import phases, wire

BATCH_S = 0.2
STATE_S = 1.0
BEAT_S = 15.0
CHUNK_BYTES = 64 * 1024
LINE_LENGTH = 4096


class Follower:
    """One job, told to one connection."""

    def __init__(self, connection: socket.socket, job: Job, *, journal: int, log: int) -> None:
        """Begin at these places; one behind the end of a file is its end."""
        self._connection = connection
        self._job = job
        self._journal = Tail(job.journal_file, journal)
        self._log = Tail(job.output_file, log)
        self._told_state = ""
        self._told_at = time.monotonic()
        self._titles = phases.titles(job.operation)

    def run(self) -> None:
        """Tell all that is there and all that comes; return when it has ended, or the other side is gone."""
        looked_at = -STATE_S
        while not wire.is_gone(self._connection):
            is_due = time.monotonic() - looked_at >= STATE_S
            state = self._look() if is_due else None
            looked_at = time.monotonic() if is_due else looked_at
            has_ended = state is not None and state is not State.RUNNING
            is_taken = self._tell_new(to_end=has_ended)
            if is_taken and state is not None and (state.value != self._told_state or has_ended):
                is_taken = self._tell_state(state)
            if not is_taken or has_ended:
                return
            if time.monotonic() - self._told_at >= BEAT_S and not self._tell("beat", {}):
                return
            time.sleep(BATCH_S)

    def _look(self) -> State:
        self._job = jobs.read(self._job.directory)
        with only_looking():
            return self._job.state()

    def _tell_state(self, state: State) -> bool:
        self._told_state = state.value
        with only_looking():
            look = job_report.look(self._job)
        return self._tell("state", {"state": state.value, "job": look.to_json()})

    def _tell_new(self, *, to_end: bool) -> bool:
        """Tell the new lines; of a job that has ended all of them, else a chunk of each file."""
        while True:
            entries, lines = self._journal.lines(to_end=to_end), self._log.lines(to_end=to_end)
            for offset, line in entries:
                data = self._entry(line)
                if data is not None and not self._tell("phase", data, journal=offset):
                    return False
            if lines:
                shown = [printable(line.replace("\t", "    "))[:LINE_LENGTH] for _, line in lines]
                if not self._tell("log", {"lines": shown}):
                    return False
            if not to_end or not (entries or lines):
                return True

    def _entry(self, line: str) -> dict[str, Any] | None:
        with contextlib.suppress(ValueError):
            data = json.loads(line)
            if isinstance(data, dict):
                phase = self._titles.get(str(data.get("phase", "")))
                operation = str(data.get("operation", ""))
                more = (
                    {"code": "", "title": ""} if phase is None else {"code": phase.code, "title": phase.title}
                )
                return {**data, **more, "host": operation.partition("/")[2]}
        return None

    def _tell(self, event: str, data: Mapping[str, Any], *, journal: int | None = None) -> bool:
        self._told_at = time.monotonic()
        offset = self._journal.offset if journal is None else journal
        line = {"event": event, "journal": offset, "log": self._log.told, "data": data}
        if event == "log":
            line["log"] = self._log.take()
        return wire.send(self._connection, line)


class Tail:
    """Whole lines of a file that grows, from a byte on; ``told`` is up to where they were told."""

    def __init__(self, file: Path, offset: int) -> None:
        self._file = file
        self.offset = min(offset, _size(file))
        self.told = self.offset

    def lines(self, *, to_end: bool) -> list[tuple[int, str]]:
        """Return the next lines, each with the place behind it; ``to_end`` takes a last one without its end too."""
        try:
            with self._file.open("rb") as source:
                source.seek(self.offset)
                data = source.read(CHUNK_BYTES)
        except OSError:
            return []
        found = []
        while data:
            line, end, rest = data.partition(b"\n")
            if not end and not to_end and len(data) < CHUNK_BYTES:
                break
            self.offset += len(line) + len(end)
            data = rest
            found.append((self.offset, line.decode("utf-8", errors="replace")))
        return found

    def take(self) -> int:
        """Note that all that was read is told now; return up to where."""
        self.told = self.offset
        return self.told


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
