# SPDX-License-Identifier: Apache-2.0
"""Take a control plane's member out of etcd, from a healthy member, before its data goes.

kubeadm's reset takes a failure of this for a warning and deletes the data: a voter stays that never comes back
(kubernetes/kubeadm#1211). Here nothing of the host is touched until the others have let go of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from installer.base.errors import ClusterError, InstallerError
from installer.base.paths import Paths
from installer.base.ui import format_seconds
from installer.engine import pillartop
from installer.engine.context import Context
from installer.operations import containers, etcd_gate, etcd_state, leaving
from installer.operations.etcd_gate import Member, Seen
from installer.operations.leaving import Leaving

SETTLED_LIMIT_S = 30.0
POLL_S = 0.5
STOP_LIMIT_S = 90.0
GRACE_S = 10
"""An API server takes its address out at once, and then waits half a minute for who still watches something."""
STOPPED = ("keepalived", "kube-apiserver")
"""What leads clients to the node: the shared address goes first, then the API server, which takes its address out of
the Service 'kubernetes' when it is told to end, and not when it is killed. etcd ends by itself."""
LOST_FIX = (
    "start the control planes that are off: nothing was lost, and nothing was changed\n"
    "if they never come back: see 'When etcd has lost its quorum' of the page 'Remove a node, or reset a host'"
)


def run_leave_etcd(context: Context) -> bool:
    """Take the member of a control plane out of etcd, where the others keep their quorum without it.

    From then on its kubelet starts at no boot.
    """
    node = leaving.of(context)
    has_changed = _leave(context, node)
    if not node.is_dead:
        node.host.run(["systemctl", "disable", "--now", "kubelet"], timeout_s=STOP_LIMIT_S)
    return has_changed


def _leave(context: Context, node: Leaving) -> bool:
    seen = etcd_gate.look(context)
    member = _member(context, node, seen)
    if member is None:
        return False
    error = refusal(node, member, seen)
    if error is not None:
        raise error
    if not node.is_dead:
        _stop_serving(context, node)
        etcd_gate.hand_over(context, member, seen)
    etcd_gate.remove(context, member)
    _await_settled(context, member)
    return True


def look_ahead(context: Context, node: Leaving) -> InstallerError | None:
    """Return why the member of a node may not be taken out, before anything is done; None where it has none."""
    seen = etcd_gate.look(context)
    member = _member(context, node, seen)
    return None if member is None else refusal(node, member, seen)


def refuse_without_quorum(paths: Paths, port: int) -> None:
    """Say that etcd has no quorum, where it has none: the API says then no more than that it does not answer.

    Raises:
        ClusterError: more than half of the members must answer and do not, or the one on this host does not.
    """
    if not paths.at(etcd_state.MANIFEST_FILE).exists():
        return
    error = lost_quorum(etcd_gate.look_at_quorum(paths, port))
    if error is not None:
        raise error


def lost_quorum(seen: Seen) -> ClusterError | None:
    """Return the error of members that are too few to decide anything; None where they can. Pure."""
    voters = [member for member in seen.members if not member.is_learner]
    silent = [member for member in voters if not _answers(member, seen)]
    needed = len(voters) // 2 + 1
    answering = len(voters) - len(silent)
    if answering >= needed:
        return None
    return ClusterError(
        f"etcd has no quorum: of its {len(voters)} members {answering} answer, and {needed} must",
        details="\n".join(f"{member.title} does not answer" for member in silent),
        resolution=LOST_FIX,
    )


def _answers(member: Member, seen: Seen) -> bool:
    return bool(member.name) and seen.health.get(member.name) is not None


def _member(context: Context, node: Leaving, seen: Seen) -> Member | None:
    """Return the member of a node; its address may be another than the one that it is logged in to at."""
    told = pillartop.read(context.paths, node.name).get("node", {}).get("control_plane_address", "")
    return member_of(node.name, (node.entry.address, str(told)), seen.members)


def member_of(name: str, addresses: Sequence[str], members: Sequence[Member]) -> Member | None:
    """Return the member of a node: by its name, or by an address where it never started. Pure."""
    by_name = [member for member in members if member.name == name]
    marks = [f"//{address}:" for address in addresses if address]
    unstarted = [member for member in members if not member.name]
    by_address = [m for m in unstarted if any(mark in url for mark in marks for url in m.peer_urls)]
    return next(iter([*by_name, *by_address]), None)


def refusal(node: Leaving, member: Member, seen: Seen) -> InstallerError | None:
    """Return why a member may not be taken out: the rest must have a quorum of its own, all of it healthy. Pure."""
    others = [other for other in seen.members if other.member_id != member.member_id and not other.is_learner]
    silent = [other for other in others if not _answers(other, seen)]
    healthy = len(others) - len(silent)
    if member.is_learner or healthy >= len(others) // 2 + 1:
        return None
    return ClusterError(
        f"without {node.name} etcd would have no quorum: of {len(others)} other members {healthy} answer",
        details="\n".join(f"{other.title} does not answer" for other in silent) or "it is the only member",
        resolution="start the control planes that are off first; one that is gone: caisson node remove NAME --dead",
    )


def _stop_serving(context: Context, node: Leaving) -> None:
    """End on the host what leads clients to it; its kubelet is stopped by now, and starts none again."""
    for name in STOPPED:
        context.ui.progress(f"{name} on {node.name} to stop")
        listing = ["crictl", "ps", "--quiet", "--state", "running", *containers.selection(name)]
        ids = node.host.run(listing, timeout_s=STOP_LIMIT_S, check=False).stdout.split()
        if ids:
            node.host.run(["crictl", "stop", f"--timeout={GRACE_S}", *ids], timeout_s=STOP_LIMIT_S)


def _await_settled(context: Context, member: Member) -> None:
    """Wait until the others have a leader among them, and nobody counts the member.

    Raises:
        ClusterError: they have not in time.
    """
    deadline = time.monotonic() + SETTLED_LIMIT_S
    port = etcd_gate.ports(context)[etcd_gate.CLIENT_PORT]
    while True:
        fault = unsettled(etcd_gate.look_at_quorum(context.paths, port), member)
        if not fault:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"etcd has not settled {format_seconds(SETTLED_LIMIT_S)} after {member.title} was taken out",
                details=fault,
                resolution="see 'caisson status', then run the same command again",
            )
        context.ui.progress(f"etcd: {fault}")
        time.sleep(POLL_S)


def unsettled(seen: Seen, gone: Member) -> str:
    """Return what of the rest is not as it should be; empty when all is. Pure."""
    if any(member.member_id == gone.member_id for member in seen.members):
        return f"{gone.title} is counted still"
    leaders = {health.leader for health in seen.health.values() if health is not None}
    if leaders & {0, gone.member_id} or len(leaders) != 1:
        return "its members have no leader in common yet"
    return ""
