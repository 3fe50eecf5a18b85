# SPDX-License-Identifier: Apache-2.0
"""Show events: warnings first, equal ones together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from console.api import Row, Table
from console.known import Known
from console.views import base
from console.views.base import Mark

SHOWN = 200
AGE = re.compile(r"(\d+)([dhms])")
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Equal events of one object; ``seen_s`` is how long ago the last was."""

    mark: Mark
    kind: str
    reason: str
    namespace: str
    about: str
    message: str
    times: int
    seen: str
    seen_s: float


def seconds_of(age: str) -> float:
    """Return how long an age of kubectl's is; a very long time where it is none.

    >>> seconds_of("3m20s"), seconds_of("2d"), seconds_of("<unknown>")
    (200.0, 172800.0, 1000000000.0)
    """
    found = AGE.findall(age.partition(" ")[0])
    return float(sum(int(number) * UNITS[unit] for number, unit in found)) if found else 1e9


def events_of(known: Known[Table]) -> list[Event]:
    """Return the events, warnings first, then the newest first."""
    groups: dict[tuple[str, ...], Event] = {}
    for row in known.value.rows if known.value is not None else ():
        event = _event(row)
        key = (event.kind, event.reason, event.namespace, event.about, event.message)
        same = groups.get(key)
        if same is not None:
            newer = event if event.seen_s < same.seen_s else same
            event = Event(
                mark=event.mark,
                kind=event.kind,
                reason=event.reason,
                namespace=event.namespace,
                about=event.about,
                message=event.message,
                times=same.times + event.times,
                seen=newer.seen,
                seen_s=newer.seen_s,
            )
        groups[key] = event
    return sorted(groups.values(), key=lambda event: (event.mark is Mark.GOOD, event.seen_s))


def _event(row: Row) -> Event:
    kind, count = row.cell("Type"), row.cell("Count")
    seen = row.cell("Last Seen")
    return Event(
        mark=Mark.GOOD if kind == "Normal" else Mark.WARN,
        kind=kind,
        reason=row.cell("Reason"),
        namespace=row.namespace,
        about=row.cell("Object"),
        message=row.cell("Message"),
        times=int(count) if count.isdigit() else 1,
        seen=seen,
        seen_s=seconds_of(seen),
    )


def list_view(
    known: Known[Table], *, namespace: str, wanted: str, only_warnings: bool, now: float
) -> dict[str, Any]:
    """Return what the page of all events shows."""
    every = events_of(known)
    found = [
        event
        for event in every
        if (not only_warnings or event.mark is not Mark.GOOD)
        and wanted.lower() in f"{event.namespace} {event.about} {event.reason} {event.message}".lower()
    ]
    return {
        "events": found[:SHOWN],
        "total": len(every),
        "matching": len(found),
        "shown": min(SHOWN, len(found)),
        "namespace": namespace,
        "wanted": wanted,
        "only_warnings": only_warnings,
        "is_refused": known.is_refused,
        "source": base.api_source(known, now),
    }
