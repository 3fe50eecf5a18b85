# SPDX-License-Identifier: Apache-2.0
"""List all phases of a job, those to come too, each with how it is: a running one says what it waits for."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from installer.engine import journal
from installer.engine.jobs import State
from installer.engine.journal import Entry
from installer.engine.phase import Operation, Phase
from installer.operations import bootstrap, node_add, node_remove
from installer.operations.job_report import Look

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (bootstrap.OPERATION, node_add.OPERATION, node_remove.OPERATION)
}
WAITS = re.compile(r"(?:\.\. |waiting for: )(?P<what>.+)$")


def titles(operation: str) -> Mapping[str, Phase]:
    """Return the phases of an operation by name; none where it has none that are known here."""
    found = OPERATIONS.get(operation.partition("/")[0])
    return {} if found is None else {phase.name: phase for phase in found.phases}


def of(look: Look, lines: Sequence[str]) -> list[dict[str, Any]]:
    """Return the phases of a job, host by host, in their order; ``lines`` are the last that it has said. Pure."""
    known = titles(look.job.operation)
    found = []
    for name, host in _groups(look):
        entries = [entry for entry in look.entries if entry.operation == name]
        entries = [entry for entry in entries if entry.run_id == entries[-1].run_id]
        last = {entry.phase: entry for entry in entries}
        begun = {entry.phase: entry.time for entry in entries if entry.event == journal.START}
        names = [*known, *(phase for phase in last if phase not in known)]
        reached = max((names.index(phase) for phase in last), default=-1)
        for place, phase in enumerate(names):
            state = _state(last.get(phase), look, is_behind=place < reached)
            found.append(
                {
                    "host": host,
                    "name": phase,
                    "code": known[phase].code if phase in known else "",
                    "title": known[phase].title if phase in known else phase,
                    "state": state,
                    "begun": begun.get(phase, ""),
                    "seconds": _seconds(last.get(phase), state),
                    "changed": last[phase].changed if phase in last else None,
                    "waits_for": waits_for(lines) if state == "running" else "",
                }
            )
    return found


def _groups(look: Look) -> list[tuple[str, str]]:
    """Return the operations of a job as its journal names them, each with the address of its host."""
    nodes = look.job.arguments.get("nodes")
    if look.job.operation == node_add.NAME and isinstance(nodes, list):
        addresses = [str(entry.get("address", "")) for entry in nodes if isinstance(entry, dict)]
        return [(f"{node_add.NAME}/{address}", address) for address in addresses]
    return [(look.job.operation, "")]


def _state(entry: Entry | None, look: Look, *, is_behind: bool) -> str:
    if entry is None:
        return "skipped" if is_behind else "waiting"
    if entry.event == journal.START:
        return "running" if look.state is State.RUNNING else "interrupted"
    return "failed" if entry.event == journal.FAILED else "done"


def _seconds(entry: Entry | None, state: str) -> float | None:
    if entry is None:
        return None
    if state != "running":
        return entry.seconds
    try:
        begun = calendar.timegm(time.strptime(entry.time, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None
    return round(max(0.0, time.time() - begun), 1)


def waits_for(lines: Sequence[str]) -> str:
    """Return what was waited for last; empty where nothing says so.

    >>> waits_for(["[ 3/9] keys: ..", "        .. etcd to answer", "           9 s  waiting for: etcd to answer"])
    'etcd to answer'
    """
    for line in reversed(lines):
        found = WAITS.search(line)
        if found is not None:
            return found["what"]
    return ""
