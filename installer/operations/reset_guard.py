# SPDX-License-Identifier: Apache-2.0
"""Refuse a reset of a host that others count on, or may: what nobody answers is not known, and no permission."""

from __future__ import annotations

from installer.base.errors import ClusterError, CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import changes, control_plane
from installer.config.nodes import Role
from installer.engine import pillartop
from installer.operations import own_state, reset_plan

ASK_LIMIT_S = 15.0
KUBELET_CONFIG = "/etc/kubernetes/kubelet.conf"
FORCE = "or give --force"


def refuse_foreign(paths: Paths) -> None:
    """Refuse a host whose control plane Caisson did not make: it is not Caisson's to take away.

    Raises:
        HostError: it is such a host.
    """
    is_ours = not control_plane.is_of_others(paths.root) or control_plane.has_joined(paths.root)
    if reset_plan.read(paths) is None and not is_ours:
        raise HostError(
            "Caisson did not make the control plane of this host, and does not take it away",
            details=f"there is neither {changes.FIRST_STAMP} nor {control_plane.JOIN_STAMP}",
            resolution="remove it by what made it; then run this again for what Caisson has added",
        )


def refuse_member(paths: Paths) -> None:
    """Refuse a host that others still count on: the cluster is to let go of it first.

    A reset that was begun is gone on with. Of the bootstrap node its own files say who the others are; a further node
    has to ask the cluster.

    Raises:
        ClusterError: it is a member of a cluster, or may be; or other nodes have this one as their bootstrap node.
    """
    if reset_plan.read(paths) is not None:
        return
    if own_state.is_further_node(paths):
        _refuse_further_node(paths)
    else:
        _refuse_bootstrap_node(paths)


def _refuse_bootstrap_node(paths: Paths) -> None:
    others = sorted({*pillartop.known(paths), *_nodes_beside(paths)} - {reset_plan.own_node_name(paths)})
    if others:
        raise ClusterError(
            f"{len(others)} other nodes belong to the cluster of this host: {', '.join(others)}",
            details="they have their packages, their images and, with a single control plane, the API from here",
            resolution=f"remove each first: caisson node remove NAME; {FORCE}, and reset each by itself",
        )


def _refuse_further_node(paths: Paths) -> None:
    if not paths.at(KUBELET_CONFIG).exists():
        return  # it has never joined
    identity = own_state.identify(paths)
    remove = f"on {identity.bootstrap_node}, the bootstrap node: caisson node remove {identity.name}"
    is_known, why = _is_known(paths, identity.name)
    if is_known is None:
        raise ClusterError(
            f"the cluster does not answer: whether it counts on {identity.name} is not known",
            details=why,
            resolution=f"start a control plane, then {remove}; {FORCE} where the cluster never comes back",
        )
    if is_known:
        counted = "its pods would not be moved, and the cluster would wait for it"
        if identity.role == Role.CONTROL_PLANE.value:
            counted = "etcd counts its vote: without it the others may be no majority, and the API would stop"
        raise ClusterError(
            f"{identity.name} is a node of a cluster that still counts on it",
            details=counted,
            resolution=f"{remove}; it resets this host too. {FORCE[0].upper()}{FORCE[1:]}",
        )


def _nodes_beside(paths: Paths) -> list[str]:
    """Return the names of the nodes that the API tells, if it answers: an addition of before is known in any case."""
    file = paths.admin_kubeconfig_file
    said, _ = _asked(str(file), "nodes") if file.exists() else ("", "")
    return [name.partition("/")[2] for name in (said or "").split()]


def _is_known(paths: Paths, name: str) -> tuple[bool | None, str]:
    """Return whether the cluster has this node; None where it does not say, and then why.

    The kubelet of a control plane asks the API server beside it, which a removal has left without etcd: the
    administrator's configuration leads to the others, too.
    """
    files = [paths.at(KUBELET_CONFIG), paths.admin_kubeconfig_file]
    reasons = []
    for file in files:
        said, why = _asked(str(file), "node", name) if file.exists() else (None, "")
        if said is not None:
            return bool(said.strip()), ""
        reasons += [why] if why else []
    return None, "\n".join(dict.fromkeys(reasons))


def _asked(file: str, *words: str) -> tuple[str | None, str]:
    """Return the names that kubectl finds, or None and why it has no answer."""
    options = ["--request-timeout=10s", "get", *words, "--output=name", "--ignore-not-found"]
    try:
        said = run(["kubectl", "--kubeconfig", file, *options], timeout_s=ASK_LIMIT_S, check=False)
    except (CommandError, HostError) as exc:
        return None, exc.message
    if said.returncode != 0:
        return None, (said.stderr.strip().splitlines() or ["kubectl said nothing"])[-1]
    return said.stdout, ""
