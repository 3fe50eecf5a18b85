# SPDX-License-Identifier: Apache-2.0
"""Show pods: those that are not well first; one pod with its containers and the end of a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console import api, text
from console.api import Row, Table
from console.known import Known
from console.views import base
from console.views.base import Mark

SHOWN = 200
DONE = ("Completed", "Succeeded")
ON_THEIR_WAY = ("Pending", "ContainerCreating", "PodInitializing", "Terminating", "Running")
ORDER = {Mark.BAD: 0, Mark.WARN: 1, Mark.UNKNOWN: 2}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One pod in a list."""

    namespace: str
    name: str
    mark: Mark
    ready: str
    state: str
    restarts: str
    age: str
    node: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which pods are wanted."""

    namespace: str = ""
    text: str = ""
    node: str = ""
    only_unwell: bool = False
    page: int = 1


def mark_of(row: Row, *, is_fresh: bool) -> Mark:
    """Return how a pod of a table is."""
    state, ready = row.cell("Status"), row.cell("Ready")
    have, _, wanted = ready.partition("/")
    if not is_fresh:
        return Mark.UNKNOWN
    if state in DONE or (state == "Running" and have == wanted):
        return Mark.GOOD
    return Mark.WARN if state in ON_THEIR_WAY or state.startswith("Init:") else Mark.BAD


def pod_of(row: Row, mark: Mark) -> Pod:
    """Return one pod of a table."""
    return Pod(
        namespace=row.namespace,
        name=row.name,
        mark=mark,
        ready=row.cell("Ready"),
        state=row.cell("Status"),
        restarts=row.cell("Restarts"),
        age=row.cell("Age"),
        node=row.cell("Node"),
        address=row.cell("IP"),
    )


def marked(known: Known[Table], now: float) -> list[tuple[Mark, Row]]:
    """Return all pods with how they are, those that are not well first; there may be ten thousand."""
    if known.value is None:
        return []
    is_fresh = known.is_fresh(now, base.API_FRESH_S)
    found = [(mark_of(row, is_fresh=is_fresh), row) for row in known.value.rows]
    return sorted(found, key=lambda one: (ORDER.get(one[0], 3), one[1].namespace, one[1].name))


def list_view(known: Known[Table], wanted: Filter, now: float) -> dict[str, Any]:
    """Return what the page of all pods shows."""
    every = marked(known, now)
    found = [one for one in every if _is_wanted(*one, wanted)]
    pages = max(1, -(-len(found) // SHOWN))
    page = min(max(1, wanted.page), pages)
    return {
        "pods": [pod_of(row, mark) for mark, row in found[(page - 1) * SHOWN : page * SHOWN]],
        "total": len(every),
        "matching": len(found),
        "unwell": sum(mark in (Mark.BAD, Mark.WARN) for mark, _ in every),
        "namespaces": sorted({row.namespace for _, row in every}),
        "wanted": wanted,
        "page": page,
        "pages": pages,
        "more": "" if known.value is None else known.value.more,
        "remaining": 0 if known.value is None else known.value.remaining,
        "is_refused": known.is_refused,
        "source": base.api_source(known, now),
    }


def _is_wanted(mark: Mark, row: Row, wanted: Filter) -> bool:
    if wanted.namespace and row.namespace != wanted.namespace:
        return False
    if wanted.node and row.cell("Node") != wanted.node:
        return False
    if wanted.only_unwell and mark is Mark.GOOD:
        return False
    if not wanted.text:
        return True
    shown = f"{row.namespace}/{row.name} {row.cell('Status')} {row.cell('Node')}"
    return wanted.text.lower() in shown.lower()


# ---- one pod -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a pod."""

    name: str
    kind: str
    mark: Mark
    state: str
    since: float | None
    restarts: int
    image: str
    last_exit: str


def one_view(known: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page of one pod shows, but log and events."""
    data: Mapping[str, Any] = known.value or {}
    is_fresh = known.is_fresh(now, base.API_FRESH_S)
    containers = [
        _container(one, kind, is_fresh=is_fresh)
        for key, kind in (("initContainerStatuses", "init"), ("containerStatuses", "container"))
        for one in api.items(data, "status", key)
    ]
    names = [
        base.words(one.get("name"))
        for key in ("initContainers", "containers")
        for one in api.items(data, "spec", key)
    ]
    status = api.part(data, "status")
    return {
        "is_there": known.value is not None,
        "containers": containers,
        "container_names": names,
        "facts": [
            (
                "Phase",
                base.words(status.get("phase")) + (f", {status['reason']}" if status.get("reason") else ""),
            ),
            ("Message", base.words(status.get("message"))),
            ("Node", base.words(api.part(data, "spec").get("nodeName"))),
            ("Pod address", base.words(status.get("podIP"))),
            ("Host address", base.words(status.get("hostIP"))),
            ("Begun", text.stamp(text.moment(status.get("startTime")))),
            (
                "Owner",
                ", ".join(
                    f"{o.get('kind', '')}/{o.get('name', '')}"
                    for o in api.items(data, "metadata", "ownerReferences")
                ),
            ),
            ("Priority", base.words(api.part(data, "spec").get("priorityClassName"))),
        ],
        "conditions": [
            (base.words(one.get("type")), base.words(one.get("status")), base.words(one.get("message")))
            for one in api.items(data, "status", "conditions")
        ],
        "node": base.words(api.part(data, "spec").get("nodeName")),
        "source": base.api_source(known, now),
    }


def _container(data: Mapping[str, Any], kind: str, *, is_fresh: bool) -> Container:
    state = api.part(data, "state")
    mark, shown, since = Mark.UNKNOWN, "unknown", None
    if "running" in state:
        since = text.moment(api.part(state, "running").get("startedAt"))
        is_ready = data.get("ready") is True
        mark, shown = (Mark.GOOD, "running") if is_ready else (Mark.WARN, "running, not ready")
    elif "waiting" in state:
        waiting = api.part(state, "waiting")
        shown = ": ".join(
            filter(None, (base.words(waiting.get("reason")), base.words(waiting.get("message"))))
        )
        mark = Mark.BAD
    elif "terminated" in state:
        ended = api.part(state, "terminated")
        mark = Mark.GOOD if ended.get("exitCode") == 0 else Mark.BAD
        shown, since = _exit(ended), text.moment(ended.get("finishedAt"))
    last = api.part(data, "lastState", "terminated")
    return Container(
        name=base.words(data.get("name")),
        kind=kind,
        mark=mark if is_fresh else Mark.UNKNOWN,
        state=shown,
        since=since,
        restarts=base.whole(data.get("restartCount")) or 0,
        image=base.words(data.get("image")),
        last_exit=f"{_exit(last)}, {text.stamp(text.moment(last.get('finishedAt')))} UTC" if last else "",
    )


def _exit(data: Mapping[str, Any]) -> str:
    reason, message = base.words(data.get("reason")), base.words(data.get("message"))
    more = f": {text.one_line(message)}" if message else ""
    return f"exited {data.get('exitCode', 'unknown')}{f' ({reason})' if reason else ''}{more}"


def log_lines(known: Known[str]) -> list[tuple[str, str]]:
    """Return the lines of a log, each with the time of day that the kubelet wrote before it."""
    lines = []
    for line in (known.value or "").splitlines():
        stamp, _, rest = line.partition(" ")
        moment = text.moment(stamp)
        lines.append(("", line) if moment is None else (text.clock(moment), rest))
    return lines
