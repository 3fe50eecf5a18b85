# SPDX-License-Identifier: Apache-2.0
"""The gate before and after each join of a control plane: etcd is whole, and its members are the control planes.

A member that a join that was cut off has left is a learner, which has no vote: it is taken up again by the same host's
next join, or it is removed. A voter that is no control plane is never removed here: a person says that it is dead.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine.context import Context
from installer.operations import cluster_state, etcd_state

CLIENT_PORT, PEER_PORT = "etcd-client", "etcd-peer"
INDEX_LAG = 1000
"""So many entries a member may be behind: each is asked at another moment."""
LIST_OF_ALL = ("/v3/cluster/member/list", {"linearizable": True})
SETTLED_TIMEOUT_S = 30.0
POLL_S = 0.5


@dataclass(frozen=True)
class Member:
    """A member of etcd; one that never started has no name, and no client URL."""

    member_id: int
    name: str
    is_learner: bool
    peer_urls: tuple[str, ...]
    client_url: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return f"member {self.name or ', '.join(self.peer_urls)} of etcd"

    @property
    def host(self) -> str:
        """Where it answers its clients; empty where it never started."""
        return urllib.parse.urlsplit(self.client_url).hostname or ""


@dataclass(frozen=True)
class Health:
    """What one member says of itself."""

    leader: int
    raft_index: int


@dataclass(frozen=True)
class Seen:
    """What the member on this host says of all, and each started one of itself by its name; None: it does not."""

    members: tuple[Member, ...]
    alarms: tuple[str, ...]
    health: Mapping[str, Health | None]


def ports(context: Context) -> dict[str, int]:
    """Return the numbers of the port table by name."""
    own_dir = context.paths.self_dir(context.product.full_version)
    return {port.name: port.port for port in read_ports(own_dir / PORTS_FILE)}


def look(context: Context) -> Seen:
    """Ask every member.

    Raises:
        ClusterError: the one on this host does not answer.
    """
    port = ports(context)[CLIENT_PORT]
    try:
        _, alarms, listed = etcd_state.call(context.paths, port, *etcd_state.QUESTIONS)
        members = parse(listed)
        raised = tuple(str(entry["alarm"]) for entry in alarms.get("alarms", ()))
    except etcd_state.FAULTS as exc:
        raise ClusterError(
            "etcd on this host does not answer", details=str(exc), resolution=etcd_state.LOG_FIX
        ) from exc
    return Seen(members, raised, _healths(context.paths, port, members))


def look_at_quorum(paths: Paths, port: int) -> Seen:
    """Ask every member, also where they have no quorum; of alarms nothing is said then, for that takes one.

    Source: etcd 3.6, EtcdServer.Alarm, which proposes to the others even to read.

    Raises:
        ClusterError: the one on this host does not answer.
    """
    try:
        members = parse(etcd_state.call(paths, port, etcd_state.QUESTIONS[-1])[0])
    except etcd_state.FAULTS as exc:
        raise ClusterError(
            "etcd on this host does not answer", details=str(exc), resolution=etcd_state.LOG_FIX
        ) from exc
    return Seen(members, (), _healths(paths, port, members))


def _healths(paths: Paths, port: int, members: Sequence[Member]) -> dict[str, Health | None]:
    return {member.name: _ask(paths, port, member) for member in members if member.name}


def parse(listed: Mapping[str, Any]) -> tuple[Member, ...]:
    """Return the members of an answer; what is empty is left out in it.

    Raises:
        KeyError, TypeError, ValueError: it is of another shape.
    """
    return tuple(
        Member(
            int(entry["ID"]),
            str(entry.get("name", "")),
            bool(entry.get("isLearner", False)),
            tuple(map(str, entry["peerURLs"])),
            str(next(iter(entry.get("clientURLs", ())), "")),
        )
        for entry in listed["members"]
    )


def _ask(paths: Paths, port: int, member: Member) -> Health | None:
    if not member.host:
        return None
    try:
        (status,) = etcd_state.call(paths, port, etcd_state.QUESTIONS[0], host=member.host)
        return Health(int(status.get("leader", 0)), int(status.get("raftIndex", 0)))
    except etcd_state.FAULTS:
        return None


def is_own(member: Member, name: str, peer_url: str) -> bool:
    """Tell whether a member is that of the host of ``name`` and ``peer_url``, not of one that had its address. Pure."""
    return peer_url in member.peer_urls and member.name in ("", name)


def faults(seen: Seen, control_planes: Sequence[str], *, joining: tuple[str, str] = ("", "")) -> list[str]:
    """Return why no control plane may be added now. Pure.

    ``control_planes``: the names of the nodes that are; ``joining``: the name and the peer URL of the host whose member
    does not count.
    """
    counted = [member for member in seen.members if not is_own(member, *joining)]
    said = [f"etcd has raised the alarm {alarm}" for alarm in seen.alarms]
    said += [f"{member.title} is a learner" for member in counted if member.is_learner]
    said += [f"{member.title} has never started" for member in counted if not member.name]
    names = {member.name for member in counted if member.name}
    said += [f"member {name} of etcd is no control plane" for name in sorted(names - {*control_planes})]
    said += [f"control plane {name} is no member of etcd" for name in sorted({*control_planes} - names)]
    health = {name: seen.health.get(name) for name in sorted(names)}
    return said + _disagreements(health)


def _disagreements(health: Mapping[str, Health | None]) -> list[str]:
    """Return which members do not answer, follow another leader than the others, or are far behind. Pure."""
    said = [f"member {name} of etcd does not answer" for name, found in health.items() if found is None]
    there = {name: found for name, found in health.items() if found is not None}
    leaders = {found.leader for found in there.values()}
    if leaders - {0} and len(leaders) == 1:
        newest = max(found.raft_index for found in there.values())
        behind = {name: newest - found.raft_index for name, found in there.items()}
        said += [
            f"member {name} of etcd is {lag} entries behind"
            for name, lag in behind.items()
            if lag > INDEX_LAG
        ]
    elif there:
        said.append(
            "etcd has no leader" if leaders == {0} else "the members of etcd follow different leaders"
        )
    return said


def leavings(members: Sequence[Member], name: str, peer_url: str, *, has_data: bool) -> list[Member]:
    """Return the members that joins that were cut off have left, and that nothing can take up again. Pure.

    ``name`` and ``peer_url`` are the joining host's: its own member is taken up again, unless it had started and its
    data is gone (``has_data``): etcd would not let it in. A learner of another host goes: that one's next join adds it.
    """
    return [
        member
        for member in members
        if (not has_data and bool(member.name) if is_own(member, name, peer_url) else member.is_learner)
    ]


def is_member(context: Context, name: str, address: str) -> bool:
    """Tell whether the control plane of that name and address is a member of etcd.

    Raises:
        ClusterError: etcd on this host does not answer.
    """
    return any(is_own(member, name, _peer_url(context, address)) for member in _listed(context))


def _listed(context: Context) -> tuple[Member, ...]:
    """Ask the majority who the members are: what a host that is none has of etcd is removed, and none may be missed.

    Raises:
        ClusterError: they do not answer.
    """
    try:
        return parse(etcd_state.call(context.paths, ports(context)[CLIENT_PORT], LIST_OF_ALL)[0])
    except etcd_state.FAULTS as exc:
        raise ClusterError(
            "etcd on this host does not answer", details=str(exc), resolution=etcd_state.LOG_FIX
        ) from exc


def _peer_url(context: Context, address: str) -> str:
    return f"https://{address}:{ports(context)[PEER_PORT]}"


def look_before(context: Context, name: str, address: str) -> None:
    """See, before anything is done for it, that a control plane could join; what cut joins have left stays for now.

    Raises:
        ClusterError: etcd is not whole, or its members are not the control planes.
    """
    _until_none(context, moment="before", name=name, peer_url=_peer_url(context, address), is_early=True)


def pass_before(context: Context, name: str, address: str, *, has_data: bool) -> bool:
    """Let a control plane join, or say why not; return whether it is a member already.

    First what a join that was cut off has left is removed.

    Raises:
        ClusterError: etcd is not whole, or its members are not the control planes.
    """
    peer_url = _peer_url(context, address)
    members = _listed(context)
    left = leavings(members, name, peer_url, has_data=has_data)
    for member in left:
        remove(context, member)
        context.ui.note(f"removed from etcd, left by a join that was cut off: {member.title}")
    _until_none(context, moment="before", name=name, peer_url=peer_url)
    return any(is_own(member, name, peer_url) for member in members if member not in left)


def pass_after(context: Context) -> None:
    """See that every control plane is a voter of etcd and in step with the others.

    Raises:
        ClusterError: it is not so.
    """
    _until_none(context, moment="after")


def _until_none(
    context: Context, *, moment: str, name: str = "", peer_url: str = "", is_early: bool = False
) -> None:
    """Ask until etcd is whole, for :data:`SETTLED_TIMEOUT_S`; the host of ``name`` and ``peer_url`` does not count.

    Nor does, while it is early, what is removed later.
    """
    deadline = time.monotonic() + SETTLED_TIMEOUT_S
    while True:
        nodes = cluster_state.get_members(context.paths.admin_kubeconfig_file)
        names = [node.name for node in nodes if node.is_control_plane and node.name != name]
        seen = look(context)
        if is_early:
            left = leavings(seen.members, name, peer_url, has_data=True)
            seen = replace(seen, members=tuple(member for member in seen.members if member not in left))
        found = faults(seen, names, joining=(name, peer_url))
        if not found:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"etcd is not whole {moment} the join of a control plane",
                details="\n".join(found),
                resolution="start a control plane that is off, or take one that is gone out of the cluster first: "
                "caisson node remove NAME --dead; then run the same command again",
            )
        context.ui.progress(f"etcd: {found[0]}")
        time.sleep(POLL_S)


def remove(context: Context, member: Member) -> None:
    """Take a member out of etcd.

    Raises:
        ClusterError: etcd does not let it go.
    """
    try:
        question = ("/v3/cluster/member/remove", {"ID": str(member.member_id)})
        etcd_state.call(context.paths, ports(context)[CLIENT_PORT], question)
    except etcd_state.FAULTS as exc:
        raise ClusterError(
            f"{member.title} cannot be removed", details=str(exc), resolution=etcd_state.LOG_FIX
        ) from exc


def hand_over(context: Context, member: Member, seen: Seen) -> bool:
    """Let another member lead, where this one does: the others need not wait for an election then.

    Return whether another was asked to; one that refuses is no fault, for the others elect one without it.
    """
    leading = {health.leader for health in seen.health.values() if health is not None}
    heirs = [
        other
        for other in seen.members
        if other.member_id != member.member_id and not other.is_learner and seen.health.get(other.name)
    ]
    if leading != {member.member_id} or not heirs:
        return False
    question = ("/v3/maintenance/transfer-leadership", {"targetID": str(heirs[0].member_id)})
    try:
        etcd_state.call(context.paths, ports(context)[CLIENT_PORT], question, host=member.host)
    except etcd_state.FAULTS as exc:
        context.ui.detail(f"{member.title} leads still: {exc}")
        return False
    return True
