# SPDX-License-Identifier: Apache-2.0
"""Show jobs: all of them, and one with its phases as a timeline, what it waits for, what it said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console import api, rights, text
from console.known import Known
from console.sources import Sources
from console.views import base
from console.views.base import Mark

MARKS = {
    "running": Mark.BUSY,
    "succeeded": Mark.GOOD,
    "failed": Mark.BAD,
    "interrupted": Mark.WARN,
    "done": Mark.GOOD,
    "waiting": Mark.UNKNOWN,
    "skipped": Mark.UNKNOWN,
    "Ready": Mark.GOOD,
    "at work": Mark.BUSY,
    "stopped": Mark.WARN,
}
TITLES = {
    "probe": "Look at a host",
    "node-add": "Add a host",
    "node-remove": "Remove a node",
    "report": "Make a report",
    "bootstrap": "Bootstrap this host",
    "reset": "Reset this host",
    "vip": "Set the virtual address",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job in a list."""

    id: str
    operation: str
    title: str
    about: str
    mark: Mark
    state: str
    asked: float | None
    seconds: float | None
    says: str
    code: str
    who: str
    client: str
    command: str


def title_of(operation: str) -> str:
    """Return how an operation is called in a sentence."""
    return TITLES.get(operation, operation.replace("-", " ").capitalize() or "Job")


def job_of(data: Mapping[str, Any]) -> Job:
    """Return one job."""
    state = base.words(data.get("state")) or "unknown"
    error = api.part(data, "error")
    asker = api.part(data, "asker")
    phases = api.items(data, "phases")
    now = base.words(phases[-1].get("name")) if state == "running" and phases else ""
    says = base.words(error.get("message")) or base.words(data.get("summary")) or now
    return Job(
        id=base.words(data.get("id")),
        operation=base.words(data.get("operation")),
        title=title_of(base.words(data.get("operation"))),
        about=about(data),
        mark=MARKS.get(state, Mark.UNKNOWN),
        state=state,
        asked=text.moment(data.get("asked")),
        seconds=base.number(data.get("seconds")),
        says=says,
        code=base.words(error.get("code")),
        who=base.words(asker.get("user")) or "root, in a terminal",
        client=base.words(asker.get("client")),
        command=shlex.join(base.texts(data.get("command"))),
    )


def about(data: Mapping[str, Any]) -> str:
    """Return what a job is about: names or addresses of hosts."""
    hosts = [
        base.words(host.get("name")) or base.words(host.get("address")) for host in api.items(data, "hosts")
    ]
    arguments = api.part(data, "arguments")
    if not hosts:
        hosts = [
            base.words(node.get("name")) or base.words(node.get("address"))
            for node in api.items(arguments, "nodes")
        ]
    if not hosts:
        host = api.part(arguments, "host") or api.part(arguments, "node")
        hosts = [base.words(host.get("name")) or base.words(host.get("address"))] if host else []
    return ", ".join(host for host in hosts if host)


def jobs_of(known: Known[dict[str, Any]]) -> list[Job]:
    """Return all jobs, the newest first."""
    return [job_of(data) for data in reversed(api.items(known.value, "jobs"))]


def list_view(known: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page of all jobs shows."""
    found = jobs_of(known)
    return {
        "running": [job for job in found if job.mark is Mark.BUSY],
        "jobs": [job for job in found if job.mark is not Mark.BUSY],
        "unreadable": [base.words(one.get("message")) for one in api.items(known.value, "unreadable")],
        "source": base.door_source(known, now),
    }


# ---- one job -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a job; ``offset`` and ``width`` are percents of the whole time, for the picture."""

    number: int
    count: int
    name: str
    code: str
    title: str
    mark: Mark
    state: str
    seconds: float | None
    waits_for: str
    offset: float
    width: float
    changed: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """The phases about one host; ``host`` is empty where it is this one."""

    host: str
    phases: tuple[Phase, ...]

    @property
    def current(self) -> Phase | None:
        """Return the phase that runs, has failed or was cut off."""
        return next((one for one in self.phases if one.mark in (Mark.BUSY, Mark.BAD, Mark.WARN)), None)


def parts_of(found: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return the phases host by host, each with its place on a line of time that all share."""
    begins = [moment for one in found if (moment := text.moment(one.get("begun"))) is not None]
    start = min(begins, default=0.0)
    ends = [
        moment + (base.number(one.get("seconds")) or 0.0)
        for one in found
        if (moment := text.moment(one.get("begun"))) is not None
    ]
    span = max(max(ends, default=0.0) - start, 1.0)
    hosts = list(dict.fromkeys(base.words(one.get("host")) for one in found))
    parts = []
    for host in hosts:
        own = [one for one in found if base.words(one.get("host")) == host]
        phases = [_phase(one, place, len(own), start, span) for place, one in enumerate(own, start=1)]
        parts.append(Part(host=host, phases=tuple(phases)))
    return parts


def _phase(data: Mapping[str, Any], place: int, count: int, start: float, span: float) -> Phase:
    begun, seconds = text.moment(data.get("begun")), base.number(data.get("seconds"))
    offset = 0.0 if begun is None else min(100.0, max(0.0, (begun - start) / span * 100))
    width = 0.0 if begun is None else max(0.6, min(100.0 - offset, (seconds or 0.0) / span * 100))
    state = base.words(data.get("state")) or "unknown"
    return Phase(
        number=place,
        count=count,
        name=base.words(data.get("name")),
        code=base.words(data.get("code")),
        title=base.words(data.get("title")) or base.words(data.get("name")),
        mark=MARKS.get(state, Mark.UNKNOWN),
        state=state,
        seconds=seconds,
        waits_for=base.words(data.get("waits_for")),
        offset=round(offset, 2),
        width=round(width, 2),
        changed=data.get("changed") is True,
    )


@dataclass(frozen=True, kw_only=True)
class Button:
    """Something that may be done: where it is not allowed it is there, with the rule that would be needed."""

    label: str
    action: str
    is_allowed: bool
    why: str


def button(sources: Sources, act: rights.Act, label: str, action: str) -> Button:
    """Return the button of an act."""
    if sources.may(act) and not (sources.health.is_down and not sources.session.is_local):
        return Button(label=label, action=action, is_allowed=True, why="")
    if sources.rights.value is None:
        why = "it is not known what you may do: the API has not said so"
    elif not sources.may(act):
        why = f"you may not {act.title}; the rule that is missing: {act.rule}"
    else:
        why = "the Kubernetes API does not answer, and it decides who may"
    return Button(label=label, action=action, is_allowed=False, why=why)


def one_view(known: Known[dict[str, Any]], sources: Sources, now: float) -> dict[str, Any]:
    """Return what the page of one job shows, but its log."""
    data = api.part(known.value, "job")
    job = job_of(data)
    parts = parts_of(api.items(known.value, "phases"))
    needed = rights.OF_OPERATION.get(job.operation)
    may_again = job.state in ("failed", "interrupted")
    archive = api.part(known.value, "archive")
    error = api.part(data, "error")
    buttons = []
    if job.state == "running":
        buttons.append(button(sources, rights.CANCEL_JOB, "Cancel", "cancel"))
    if may_again and needed is not None:
        buttons.append(button(sources, needed, "Start again", "again"))
    if job.state == "interrupted":
        buttons.append(button(sources, rights.CANCEL_JOB, "Give up", "cancel"))
    return {
        "job": job,
        "is_there": bool(data),
        "phase_parts": parts,
        "currents": [(part.host, part.current) for part in parts if part.current is not None],
        "hosts": [_host(one) for one in api.items(data, "hosts")],
        "error": {
            "code": base.words(error.get("code")),
            "message": base.words(error.get("message")),
            "details": base.texts(error.get("details")),
            "resolution": base.texts(error.get("resolution")),
        }
        if error
        else None,
        "buttons": buttons,
        "needs_secrets": job.operation in ("node-add", "probe", "node-remove"),
        "is_shell_only": may_again and needed is None,
        "archive": {
            "name": base.words(archive.get("name")),
            "size": archive.get("size"),
            "sha256": base.words(archive.get("sha256")),
        }
        if archive
        else None,
        "found": api.part(known.value, "found") or None,
        "starts": len(api.items(data, "starts")),
        "directory": base.words(data.get("directory")),
        "source": base.door_source(known, now),
    }


def _host(data: Mapping[str, Any]) -> dict[str, Any]:
    result = base.words(data.get("result"))
    return {
        "name": base.words(data.get("name")) or base.words(data.get("address")),
        "role": base.words(data.get("role")),
        "mark": MARKS.get(result, Mark.UNKNOWN),
        "result": result,
        "phase": base.words(data.get("phase")),
        "seconds": base.number(data.get("seconds")),
        "why": base.words(data.get("why")),
    }
