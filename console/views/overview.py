# SPDX-License-Identifier: Apache-2.0
"""Show the first page: one sentence, then each fault, then numbers with their time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from console import api, text
from console.api import Table
from console.known import Known
from console.throttle import Failure
from console.views import base, certificates, events, faults, jobs, nodes, pods
from console.views.base import Mark, Source
from console.views.faults import Fault

CELLS = 120


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How it stands, in one sentence."""

    mark: Mark
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number with its name, and where it comes from."""

    title: str
    value: str
    note: str
    mark: Mark
    link: str
    source: Source


def verdict(found: list[Fault], unknown: list[str], well: str) -> Verdict:
    """Return the sentence; what is not known keeps it from saying that all is well.

    >>> verdict([], [], "3 of 3 nodes are Ready").sentence
    'All is well: 3 of 3 nodes are Ready.'
    >>> verdict([], ["certificates"], "").mark
    <Mark.UNKNOWN: 'unknown'>
    """
    bad = [fault for fault in found if fault.mark is Mark.BAD]
    if bad:
        more = (
            f" {text.count(len(bad) - 1, 'more thing')} {'is' if len(bad) == 2 else 'are'} wrong."
            if len(bad) > 1
            else ""
        )
        return Verdict(mark=Mark.BAD, sentence=f"{bad[0].what}.{more}")
    if unknown or any(fault.mark is Mark.UNKNOWN for fault in found):
        odd = [fault.what for fault in found if fault.mark is Mark.UNKNOWN]
        what = odd[0] if odd else f"Not everything is known: no answer about {', '.join(unknown)}"
        return Verdict(mark=Mark.UNKNOWN, sentence=f"{what}.")
    if found:
        return Verdict(
            mark=Mark.WARN,
            sentence=f"It works; {text.count(len(found), 'thing')} {'wants' if len(found) == 1 else 'want'} attention.",
        )
    return Verdict(mark=Mark.GOOD, sentence=f"All is well: {well}.")


def view(
    facts: faults.Facts,
    raw_nodes: Known[Table],
    leases: Known[dict[str, Any]],
    raw_events: Known[Table],
    failures: list[Failure],
) -> dict[str, Any]:
    """Return what the page shows."""
    now, status = facts.now, facts.status
    found = faults.find(facts)
    unknown = [
        title
        for title, known, limit in (
            ("nodes", raw_nodes, base.API_FRESH_S),
            ("heartbeats", leases, base.API_FRESH_S),
            ("pods", facts.pods, base.API_FRESH_S),
            ("this host", status, base.DOOR_FRESH_S),
            ("certificates", facts.certificates, base.SLOW_FRESH_S),
            ("jobs", facts.jobs, base.DOOR_FRESH_S),
        )
        if not known.is_fresh(now, limit) and not known.is_refused
    ]
    unknown += base.texts(api.part(status.value, "host").get("unknown"))
    if any(pod.get("running") is None for pod in api.items(status.value, "host", "static_pods")):
        unknown.append("static pods")
    ready = sum(node.mark is Mark.GOOD for node in facts.nodes)
    well = (
        f"{ready} of {text.count(len(facts.nodes), 'node')} {'is' if len(facts.nodes) == 1 else 'are'} Ready"
    )
    refused = [known for known in (raw_nodes, status) if known.is_refused]
    if refused and not facts.nodes:
        well = "of what you may see, nothing is wrong"
    return {
        "verdict": verdict(found, unknown, well),
        "faults": found,
        "tiles": _tiles(facts, raw_nodes, ready),
        "groups": nodes.groups(list(facts.nodes)[:CELLS]),
        "hidden_nodes": max(0, len(facts.nodes) - CELLS),
        "node_source": base.api_source(raw_nodes, now),
        "disks": nodes.disks_of(status.value),
        "status_source": base.door_source(status, now),
        "running": [job for job in jobs.jobs_of(facts.jobs) if job.mark is Mark.BUSY],
        "warnings": [
            event
            for event in events.events_of(raw_events)
            if event.mark is not Mark.GOOD and event.seen_s < 3600
        ][:8],
        "event_source": base.api_source(raw_events, now),
        "failures": failures,
    }


def _tiles(facts: faults.Facts, raw_nodes: Known[Table], ready: int) -> list[Tile]:
    now, status = facts.now, facts.status
    tiles = [_node_tile(facts, raw_nodes, ready), _control_tile(facts), _pod_tile(facts), _end_tile(facts)]
    media = api.part(status.value, "media")
    missing = base.words(media.get("missing"))
    is_known = status.is_fresh(now, base.DOOR_FRESH_S) and bool(media)
    product = api.part(status.value, "product")
    title = "-".join(filter(None, (base.words(product.get("version")), base.words(product.get("build")))))
    tiles.append(
        Tile(
            title="Media",
            value=("missing" if missing else "mounted") if is_known else "unknown",
            note=missing or title,
            mark=(Mark.WARN if missing else Mark.GOOD) if is_known else Mark.UNKNOWN,
            link="/media",
            source=base.door_source(status, now),
        )
    )
    every = jobs.jobs_of(facts.jobs)
    running = [job for job in every if job.mark is Mark.BUSY]
    has_jobs = facts.jobs.value is not None
    tiles.append(
        Tile(
            title="Jobs",
            value=f"{len(running)} running" if has_jobs else "unknown",
            note=f"last: {every[0].title}, {every[0].state}" if every else "none yet" if has_jobs else "",
            mark=Mark.BUSY if running else Mark.GOOD if has_jobs else Mark.UNKNOWN,
            link="/jobs",
            source=base.door_source(facts.jobs, now),
        )
    )
    return tiles


def _node_tile(facts: faults.Facts, raw_nodes: Known[Table], ready: int) -> Tile:
    is_fresh = raw_nodes.is_fresh(facts.now, base.API_FRESH_S)
    total = len(facts.nodes)
    value, note = f"{ready} of {total}", "Ready"
    if not is_fresh:
        value, note = "unknown", f"{total} when the API answered last" if total else ""
    return Tile(
        title="Nodes",
        value=value,
        note=note,
        mark=Mark.UNKNOWN if not is_fresh else Mark.GOOD if ready == total else Mark.BAD,
        link="/nodes",
        source=base.api_source(raw_nodes, facts.now),
    )


def _control_tile(facts: faults.Facts) -> Tile:
    etcd = api.part(facts.status.value, "etcd")
    members = api.items(etcd, "members")
    is_known = facts.status.is_fresh(facts.now, base.DOOR_FRESH_S) and bool(members)
    learners = sum(member.get("is_learner") is True for member in members)
    note = f"etcd {base.words(etcd.get('version'))}, {text.size(etcd.get('size_bytes'))}" if is_known else ""
    if facts.health.is_down:
        value, mark = "API down", Mark.BAD
    elif is_known:
        value, mark = (
            text.count(len(members), "member"),
            Mark.WARN if learners or etcd.get("alarms") else Mark.GOOD,
        )
    else:
        value, mark = "unknown", Mark.UNKNOWN
    return Tile(
        title="Control plane",
        value=value,
        note=note,
        mark=mark,
        link="/control-plane",
        source=base.door_source(facts.status, facts.now),
    )


def _pod_tile(facts: faults.Facts) -> Tile:
    every = [mark for mark, _ in pods.marked(facts.pods, facts.now)]
    is_fresh = facts.pods.is_fresh(facts.now, base.API_FRESH_S)
    bad = every.count(Mark.BAD)
    busy = every.count(Mark.WARN)
    return Tile(
        title="Pods",
        value=f"{len(every) - bad - busy} of {len(every)}" if is_fresh else "unknown",
        note=f"well; {busy} on their way" if is_fresh and busy else "well" if is_fresh else "",
        mark=Mark.UNKNOWN if not is_fresh else Mark.BAD if bad else Mark.WARN if busy else Mark.GOOD,
        link="/pods",
        source=base.api_source(facts.pods, facts.now),
    )


def _end_tile(facts: faults.Facts) -> Tile:
    found = [one for one in certificates.certificates_of(facts.certificates) if one.days is not None]
    first = min(found, key=lambda one: one.days or 0, default=None)
    is_known = first is not None and first.days is not None
    return Tile(
        title="Next end of a certificate",
        value=f"{first.days} d" if first is not None else "unknown",
        note=f"{text.day(first.ends)}, {first.user or first.name}" if first is not None else "",
        mark=first.mark if is_known and first is not None else Mark.UNKNOWN,
        link="/certificates",
        source=base.source_of(facts.certificates, facts.now, base.SLOW_FRESH_S),
    )
