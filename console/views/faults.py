# SPDX-License-Identifier: Apache-2.0
"""Say what is wrong: each fault in three parts (what, why, what to type), causes before what follows from them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from console import api, text
from console.api import Health, Table
from console.known import Known
from console.views import base, certificates, controlplane, jobs, nodes, pods
from console.views.base import Mark
from console.views.nodes import Node

LONG_LOG = 8


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong. ``rank``: causes are low. ``subjects``: what is said of them elsewhere is the same."""

    rank: int
    mark: Mark
    what: str
    why: str
    command: str
    source: str
    at: float | None = None
    lines: tuple[str, ...] = ()
    link: str = ""
    subjects: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known when faults are looked for."""

    now: float
    health: Health
    status: Known[dict[str, Any]]
    certificates: Known[dict[str, Any]]
    jobs: Known[dict[str, Any]]
    nodes: Sequence[Node]
    pods: Known[Table]
    api_address: str


def find(facts: Facts) -> list[Fault]:
    """Return all faults, causes first; what the host says of the same thing in other words is left out."""
    found = [
        *_certificates(facts),
        *_api(facts),
        *_services(facts),
        *_static_pods(facts),
        *_etcd(facts),
        *_disks(facts),
        *_clock(facts),
        *_media(facts),
        *_nodes(facts),
        *_endpoints(facts),
        *_pods(facts),
        *_jobs(facts),
    ]
    found += _others(facts, found)
    return sorted(found, key=lambda fault: (fault.mark is not Mark.BAD, fault.rank))


def _of_host(facts: Facts) -> dict[str, Any]:
    return api.part(facts.status.value, "host")


def _certificates(facts: Facts) -> Iterator[Fault]:
    for one in certificates.certificates_of(facts.certificates):
        if one.mark in (Mark.GOOD, Mark.UNKNOWN) and not one.fault:
            continue
        who = f"{one.name}{f' ({one.user})' if one.user else ''}"
        if one.days is None:
            what = f"The certificate {one.file} cannot be read"
        elif one.days < 0:
            what = f"The certificate {who} ended {text.count(-one.days, 'day')} ago"
        else:
            what = f"The certificate {who} ends in {text.count(one.days, 'day')}"
        is_first = one.days is not None and one.days <= certificates.FIRST_DAYS
        yield Fault(
            rank=0 if is_first else 60,
            mark=Mark.BAD if one.mark is Mark.BAD else Mark.WARN,
            what=what,
            why=one.fault or f"{one.file}; renewed by {one.renewed_by or 'nobody known'}",
            command=text.command_in(one.fix) or "sudo caisson check",
            source=facts.certificates.source,
            at=facts.certificates.at,
            link="/certificates",
            subjects=(one.file,),
        )


def _api(facts: Facts) -> Iterator[Fault]:
    health = facts.health
    if not health.is_down:
        return
    yield Fault(
        rank=20,
        mark=Mark.BAD,
        what=f"The Kubernetes API has not answered since {text.clock(health.down_since)} UTC",
        why=f"{health.reason or facts.api_address}{_cause(facts)}",
        command="sudo caisson status",
        source="asked by this console",
        at=facts.now,
        link="/control-plane",
        subjects=("Kubernetes API", "API server", "the API"),
    )


def _cause(facts: Facts) -> str:
    """Return the first cause that the host knows of, as the end of a sentence."""
    host = _of_host(facts)
    for service in api.items(host, "services"):
        if service.get("name") in ("containerd", "kubelet") and service.get("state") not in ("active", None):
            return f". {service['name']} is {service['state']} on this host"
    for pod in api.items(host, "static_pods"):
        if str(pod.get("name")) in ("etcd", "kube-apiserver") and pod.get("running") is False:
            return f". {pod['name']} does not run on this host"
    return ""


def _services(facts: Facts) -> Iterator[Fault]:
    named = set()
    for service in api.items(_of_host(facts), "services"):
        name, state = base.words(service.get("name")), base.words(service.get("state"))
        named.add(name)
        if state in ("active", "not installed", "reloading") or not state:
            continue
        result = base.words(service.get("result"))
        why = f"systemd: {state}, {base.words(service.get('detail')) or 'no more is known'}"
        if result and result != "success":
            why += f", {result}"
        if service.get("exit_code"):
            why += f", exit code {service['exit_code']}"
        since = base.words(service.get("since"))
        yield Fault(
            rank=5 if name == "containerd" else 6,
            mark=Mark.BAD,
            what=f"{name} does not run on this host",
            why=f"{why}{f', since {since}' if since else ''}",
            command=f"sudo systemctl restart {shlex.quote(name)}",
            source=facts.status.source,
            at=facts.status.at,
            lines=tuple(base.texts(service.get("lines"))[-LONG_LOG:]),
            subjects=(name,),
        )
    for name, state in sorted(api.part(facts.status.value, "services").items()):
        if name not in named and state not in ("active", "listening", "not installed"):
            yield Fault(
                rank=7,
                mark=Mark.BAD,
                what=f"{name} does not run on this host",
                why=f"systemd: {state}",
                command=f"sudo systemctl status {shlex.quote(str(name))}",
                source=facts.status.source,
                at=facts.status.at,
                subjects=(str(name),),
            )


def _static_pods(facts: Facts) -> Iterator[Fault]:
    for pod in api.items(_of_host(facts), "static_pods"):
        if pod.get("running") is not False:
            continue
        name, ended = base.words(pod.get("name")), api.part(pod, "last_exit")
        why = "its container does not run"
        if ended:
            why = f"it exited {ended.get('code', 'unknown')}"
            why += f" ({ended['reason']})" if ended.get("reason") else ""
            why += f" at {text.clock(text.moment(ended.get('time')))} UTC"
        if base.whole(pod.get("restarts")):
            why += f", {text.count(int(pod['restarts']), 'restart')}"
        yield Fault(
            rank=10 if name == "etcd" else 11,
            mark=Mark.BAD,
            what=f"{name} does not run on this host",
            why=why,
            command=f"sudo crictl ps --all --name {shlex.quote(name)}",
            source=facts.status.source,
            at=facts.status.at,
            lines=tuple(base.texts(pod.get("lines"))[-LONG_LOG:]),
            link="/control-plane",
            subjects=(name,),
        )


def _etcd(facts: Facts) -> Iterator[Fault]:
    etcd = api.part(facts.status.value, "etcd")
    for alarm in base.texts(etcd.get("alarms")):
        yield Fault(
            rank=12,
            mark=Mark.BAD,
            what=f"etcd has an alarm: {alarm}",
            why=base.words(etcd.get("shown")),
            command="sudo caisson status",
            source=facts.status.source,
            at=facts.status.at,
            link="/control-plane",
            subjects=("alarm",),
        )


def _disks(facts: Facts) -> Iterator[Fault]:
    for disk in nodes.disks_of(facts.status.value):
        if disk.mark not in (Mark.BAD, Mark.WARN):
            continue
        place = disk.places.partition(",")[0]
        yield Fault(
            rank=15,
            mark=disk.mark,
            what=f"{text.size(disk.free_bytes)} are free of {text.size(disk.size_bytes)} below {place}",
            why=f"{disk.used_percent:.0f} % are used; on it: {disk.places}",
            command=f"sudo du -xhd1 {shlex.quote(place)} | sort -h | tail",
            source=facts.status.source,
            at=facts.status.at,
            subjects=(place,),
        )


def _clock(facts: Facts) -> Iterator[Fault]:
    if api.part(_of_host(facts), "clock").get("synchronized") is False:
        yield Fault(
            rank=55,
            mark=Mark.WARN,
            what="The clock of this host is not synchronized",
            why="timedatectl: NTPSynchronized=no; certificates and etcd need hosts that agree on the time",
            command="chronyc sources -v",
            source=facts.status.source,
            at=facts.status.at,
            subjects=("clock",),
        )


def _media(facts: Facts) -> Iterator[Fault]:
    media = api.part(facts.status.value, "media")
    for one in (media, *api.items(facts.status.value, "other_media")):
        missing = base.words(one.get("missing"))
        if missing:
            fix = base.words(one.get("resolution"))
            yield Fault(
                rank=40,
                mark=Mark.WARN,
                what=missing[:1].upper() + missing[1:],
                why=f"{one.get('made_from')} at {one.get('mount_point')}: nodes pull images and packages from it",
                command=text.command_in(fix) or "sudo caisson media list",
                source=facts.status.source,
                at=facts.status.at,
                link="/media",
                subjects=(missing,),
            )
    for one in api.items(facts.status.value, "replicas"):
        name, missing = base.words(one.get("name")), base.words(one.get("missing"))
        if missing:
            yield Fault(
                rank=41,
                mark=Mark.WARN,
                what=f"{name}, which serves images and packages too, has other ISOs than the bootstrap node",
                why=f"{missing}: who asks it for that goes on to the next, as long as there is one",
                command=text.command_in(base.words(one.get("resolution"))) or "sudo caisson media replicate",
                source=facts.status.source,
                at=facts.status.at,
                link="/media",
                subjects=(name, missing),
            )


def _nodes(facts: Facts) -> Iterator[Fault]:
    if facts.health.is_down:
        return
    reached = {
        base.words(one.get("name")): base.words(one.get("unreached"))
        for one in api.items(facts.status.value, "other_nodes")
    }
    for node in facts.nodes:
        if node.mark not in (Mark.BAD, Mark.UNKNOWN):
            continue
        heard = f", not heard for {text.age(node.heard_s)}" if node.heard_s and node.mark is Mark.BAD else ""
        from_here = f"; from this host: {reached[node.name]}" if reached.get(node.name) else ""
        yield Fault(
            rank=30,
            mark=node.mark,
            what=f"Node {node.name} is {node.state}",
            why=f"{node.why}{heard}{from_here}",
            command=f"sudo caisson status --node {shlex.quote(node.name)}",
            source="the Kubernetes API",
            at=facts.now,
            link=f"/nodes/{node.name}",
            subjects=(f"node {node.name}", f"Node {node.name}"),
        )


def _endpoints(facts: Facts) -> Iterator[Fault]:
    for one in api.items(facts.status.value, "endpoints"):
        answer, name = base.words(one.get("answer")), base.words(one.get("name"))
        is_lost = not controlplane.has_answered(answer) and not (
            facts.health.is_down and name == "Kubernetes API"
        )
        if not is_lost or (
            one.get("needs_media") is True and api.part(facts.status.value, "media").get("missing")
        ):
            continue
        yield Fault(
            rank=25,
            mark=Mark.BAD,
            what=f"{name} does not answer",
            why=f"{base.words(one.get('url'))}: {answer}",
            command=f"curl -vk {shlex.quote(base.words(one.get('url')))}",
            source=facts.status.source,
            at=facts.status.at,
            link="/control-plane",
            subjects=(name, base.words(one.get("url"))),
        )


def _pods(facts: Facts) -> Iterator[Fault]:
    if facts.health.is_down:
        return
    ours = api.items(facts.status.value, "pods", "not_ready")
    away = {node.name for node in facts.nodes if node.mark in (Mark.BAD, Mark.UNKNOWN)}
    for pod in ours:
        namespace, name = base.words(pod.get("namespace")), base.words(pod.get("name"))
        if base.words(pod.get("node")) in away:
            continue
        yield Fault(
            rank=45,
            mark=Mark.BAD,
            what=f"Pod {namespace}/{name} is not Ready",
            why=f"{pod.get('state')}, {int(base.whole(pod.get('restarts')) or 0)} restarts, on {pod.get('node')}",
            command=f"kubectl --namespace {shlex.quote(namespace)} describe pod {shlex.quote(name)}",
            source=facts.status.source,
            at=facts.status.at,
            link=f"/pods/{namespace}/{name}",
            subjects=(name,),
        )
    known = {(base.words(pod.get("namespace")), base.words(pod.get("name"))) for pod in ours}
    site = [
        row
        for mark, row in pods.marked(facts.pods, facts.now)
        if mark is Mark.BAD and (row.namespace, row.name) not in known and row.cell("Node") not in away
    ]
    if site:
        first = site[0]
        yield Fault(
            rank=70,
            mark=Mark.WARN,
            what=f"{text.count(len(site), 'pod')} of the site {'is' if len(site) == 1 else 'are'} not well",
            why=f"first: {first.namespace}/{first.name}: {first.cell('Status')}",
            command=f"kubectl --namespace {shlex.quote(first.namespace)} describe pod {shlex.quote(first.name)}",
            source=facts.pods.source,
            at=facts.pods.at,
            link="/pods?unwell=1",
        )


def _jobs(facts: Facts) -> Iterator[Fault]:
    """Yield the last job about the same thing, where it failed or was cut off."""
    last: dict[tuple[str, str], jobs.Job] = {}
    for job in reversed(jobs.jobs_of(facts.jobs)):
        last[job.operation, job.about] = job
    for job in last.values():
        if job.state not in ("failed", "interrupted") or job.operation == "probe":
            continue
        about = f" {job.about}" if job.about else ""
        yield Fault(
            rank=50,
            mark=Mark.BAD if job.state == "failed" else Mark.WARN,
            what=f"{job.title}{about}: the job {'has failed' if job.state == 'failed' else 'was interrupted'}",
            why=f"{job.code} {job.says}".strip(),
            command=f"sudo caisson job {shlex.quote(job.id)}",
            source=facts.jobs.source,
            at=job.asked,
            link=f"/jobs/{job.id}",
        )


def _others(facts: Facts, found: Sequence[Fault]) -> list[Fault]:
    """Return what the host calls a fault and nothing above has named, with what to do where it is told apart."""
    data: Mapping[str, Any] = facts.status.value or {}
    texts, fixes = base.texts(data.get("faults")), base.texts(data.get("fixes"))
    subjects = {subject for fault in found for subject in fault.subjects if subject}
    left = [
        (place, one) for place, one in enumerate(texts) if not any(subject in one for subject in subjects)
    ]
    return [
        Fault(
            rank=35,
            mark=Mark.BAD,
            what=one[:1].upper() + one[1:],
            why=(fixes[place] if len(fixes) == len(texts) else "; ".join(fixes)) or "no more is known",
            command=(text.command_in(fixes[place]) if len(fixes) == len(texts) else "")
            or "sudo caisson status",
            source=facts.status.source,
            at=facts.status.at,
        )
        for place, one in left
    ]
