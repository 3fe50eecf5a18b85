# SPDX-License-Identifier: Apache-2.0
"""The phases by which a node leaves the cluster, in the order in which they run.

The cluster lets go of it first, and cannot be told of it again; then the host is reset, by a job of its own over SSH.
With ``--dead`` the host is gone: all is done but what needs it. Each phase may be run again: it looks, then acts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from installer.base.errors import (
    ClusterError,
    CommandError,
    HostError,
    InstallerError,
    UsageError,
    elsewhere,
    from_json,
)
from installer.base.run import Completed, run
from installer.base.ui import format_seconds
from installer.engine import controlplanes, hostkeys, jobunit, pillartop
from installer.engine.context import Context
from installer.engine.phase import Operation, Phase
from installer.operations import (
    bootstrap,
    cluster_state,
    etcd_gate,
    etcd_leave,
    etcd_state,
    fencing,
    leaving,
    minionkeys,
    node_console,
    reset_plan,
    telling,
    tokens,
)
from installer.operations.cluster_state import NodeState
from installer.operations.leaving import Leaving

NAME = "node-remove"
MASTER_CACHE_DIR = "/var/cache/caisson/salt-master"
CACHED = ("pillar/{name}.p", "grains/{name}.p", "sessions/{name}")
KUBECTL_LIMIT_S = 60.0
GONE_TAINT = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
"""Volumes are let go of at once, not after six minutes. Source: Kubernetes 1.28, NodeOutOfServiceVolumeDetach."""
DETACH_LIMIT_S = 15.0
DETACH_POLL_S = 0.5
DRAIN_GRACE_S = 30.0
BLOCKED = "violate the pod's disruption budget"
RESET_UNIT = "caisson-detached@reset.service"
RESULT_FILE = "/run/caisson-reset/result.json"
RESET_LOG_FILE = "/var/log/caisson/reset.log"
RESET_LIMIT_S = 900.0
RESET_POLL_S = 0.5
SSH_LIMIT_S = 60.0
TELL_LIMIT_S = 60.0
MISSES = 5
COMMAND_FILE = "/usr/bin/caisson"


# ---- look ------------------------------------------------------------------------------------------------------


def run_look(context: Context) -> bool:
    """Look who the node is, and refuse what would cost the cluster more than the node."""
    node = leaving.of(context)
    etcd_leave.refuse_without_quorum(context.paths, etcd_gate.ports(context)[etcd_gate.CLIENT_PORT])
    file = context.paths.admin_kubeconfig_file
    nodes = cluster_state.get_nodes(file)
    known = pillartop.known(context.paths)
    error = refusal(node, nodes, known, own_name=context.facts.node_name)
    error = error or etcd_leave.look_ahead(context, node)
    if error is not None:
        raise error
    if not node.is_dead:
        host = node.host  # says why there is no connection
        context.ui.detail(f"connected to {host.entry.title}")
    volumes = local_volumes(node.name, _items(context, "persistentvolumes"))
    if volumes and not node.is_forced:
        raise ClusterError(
            f"{len(volumes)} volumes have their data on {node.name}",
            details="\n".join(f"{volume}: {place}" for place, volume in volumes.items()),
            resolution="move their data first; or give --force: it stays on that host, and its pods do not start",
        )
    return False


def refusal(
    node: Leaving, nodes: Sequence[NodeState], known: Sequence[str], *, own_name: str
) -> InstallerError | None:
    """Return why a node may not be removed, or None. Pure."""
    found = [entry for entry in nodes if entry.name == node.name]
    control_planes = [entry.name for entry in nodes if is_control_plane(entry)]
    if not found and node.name not in known:
        return UsageError(
            f"the cluster has no node '{node.name}'",
            details=f"its nodes: {', '.join(entry.name for entry in nodes)}",
            resolution="nothing was changed; was it removed before? 'caisson jobs' shows it",
        )
    if control_planes == [node.name]:
        return ClusterError(
            f"{node.name} is the last control plane: without it there is no cluster",
            resolution="to give the cluster up, remove the other nodes, then run 'caisson reset' on it",
        )
    if node.name == own_name:
        return UsageError(
            f"{node.name} is the bootstrap node: the others have their packages and images from it",
            resolution="remove the other nodes, then run 'caisson reset' on it",
        )
    if found and node.is_dead and found[0].is_ready and not node.is_forced:
        return ClusterError(
            f"{node.name} is Ready: it is not gone",
            resolution="leave --dead out, so that the host is reset too; or switch it off and wait a minute, or give "
            "--force",
        )
    return None


def is_control_plane(node: NodeState) -> bool:
    """Say whether a node carries a control plane, by its label."""
    return "control-plane" in node.roles.split(",")


def local_volumes(name: str, volumes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the places of bound volumes whose data is on this node only, with whose each is. Pure."""
    found = {}
    for volume in volumes:
        spec = volume["spec"]
        terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or []
        values = {
            value
            for term in terms
            for entry in term.get("matchExpressions") or []
            if entry["key"] == "kubernetes.io/hostname" and entry["operator"] == "In"
            for value in entry.get("values") or []
        }
        place = (spec.get("local") or spec.get("hostPath") or {}).get("path")
        if place and values == {name} and volume.get("status", {}).get("phase") == "Bound":
            claim = spec.get("claimRef") or {}
            found[str(place)] = f"{volume['metadata']['name']} ({claim.get('namespace')}/{claim.get('name')})"
    return found


# ---- the cluster lets go ---------------------------------------------------------------------------------------


def run_cordon(context: Context) -> bool:
    """Let no new pod onto the node."""
    node = leaving.of(context)
    found = _node(context, node.name)
    if found is None or found["spec"].get("unschedulable"):
        return False
    _kubectl(context, "cordon", node.name)
    return True


def run_drain(context: Context) -> bool:
    """Move the pods away, as their disruption budgets allow; of a host that is gone they are taken for ended."""
    node = leaving.of(context)
    if _node(context, node.name) is None:
        return False
    if node.is_dead:
        return _give_up(context, node)
    words = [
        "drain",
        node.name,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        f"--timeout={node.drain_timeout_s}s",
    ]
    words += ["--force"] if node.is_forced else []
    context.ui.progress(
        f"the pods of {node.name} to move away, at most {format_seconds(node.drain_timeout_s)}"
    )
    said = _kubectl(context, *words, check=False, limit_s=node.drain_timeout_s + DRAIN_GRACE_S)
    for line in said.stdout.splitlines():
        context.ui.detail(line)
    if said.returncode != 0:
        raise _not_drained(context, node, said)
    return "evicted" in said.stdout or "deleted" in said.stdout


def _not_drained(context: Context, node: Leaving, said: Completed) -> ClusterError:
    lines = [
        line.strip() for line in said.stderr.splitlines() if line.strip() and "ignoring" not in line.lower()
    ]
    budgets = (
        blocking(_items(context, "poddisruptionbudgets", "--all-namespaces"))
        if BLOCKED in said.stderr
        else []
    )
    return ClusterError(
        f"the pods of {node.name} did not move away within {format_seconds(node.drain_timeout_s)}",
        details="\n".join([*budgets, *dict.fromkeys(lines[-12:])]),
        resolution="start more of these pods elsewhere, or change the budget; pods without a controller end only with "
        "--force; more time: --drain-timeout SECONDS\n"
        f"the node takes no new pods meanwhile; to take that back: {bootstrap.KUBECTL} uncordon {node.name}",
    )


def blocking(budgets: Sequence[dict[str, Any]]) -> list[str]:
    """Return the disruption budgets that allow no pod to go now. Pure."""
    return [
        f"disruption budget {budget['metadata']['namespace']}/{budget['metadata']['name']}: "
        f"{budget['status'].get('currentHealthy', 0)} healthy, {budget['status'].get('desiredHealthy', 0)} wanted"
        for budget in budgets
        if budget.get("status", {}).get("disruptionsAllowed", 1) == 0
    ]


def _give_up(context: Context, node: Leaving) -> bool:
    """Say that the host is out of service, end its pods here, and wait a little for its volumes to be let go of."""
    _kubectl(context, "taint", "node", node.name, "--overwrite", GONE_TAINT)
    selected = f"--field-selector=spec.nodeName={node.name}"
    ending = ["delete", "pods", "--all-namespaces", selected, "--force", "--grace-period=0", "--wait=false"]
    _kubectl(context, *ending)
    deadline = time.monotonic() + DETACH_LIMIT_S
    while attached := _attached(context, node.name):
        if time.monotonic() > deadline:
            context.ui.note(f"note: still attached to {node.name}, let go of later: {', '.join(attached)}")
            break
        context.ui.progress(f"volumes to be let go of: {', '.join(attached)}")
        time.sleep(DETACH_POLL_S)
    return True


def _attached(context: Context, name: str) -> list[str]:
    items = _items(context, "volumeattachments")
    return [
        item["spec"]["source"].get("persistentVolumeName", "?")
        for item in items
        if item["spec"]["nodeName"] == name
    ]


def run_stop_node(context: Context) -> bool:
    """Stop the kubelet of the host: it would make its Node again.

    Of a control plane it starts again at a boot while its member of etcd counts: without it the others may be no
    quorum, and this removal may be cut off.
    """
    node = leaving.of(context)
    if node.is_dead:
        return False
    is_active = node.host.run(
        ["systemctl", "is-active", "--quiet", "kubelet"], timeout_s=SSH_LIMIT_S, check=False
    )
    if is_active.returncode != 0:
        return False
    has_etcd = node.host.run(["test", "-e", etcd_state.MANIFEST_FILE], timeout_s=SSH_LIMIT_S, check=False)
    words = ["stop"] if has_etcd.returncode == 0 else ["disable", "--now"]
    node.host.run(["systemctl", *words, "kubelet"], timeout_s=SSH_LIMIT_S)
    return True


def run_delete_node(context: Context) -> bool:
    """Delete the Node, and let none of its name be made again until it is added again."""
    node = leaving.of(context)
    is_fenced = fencing.fence(context.paths, node.name)
    if _node(context, node.name) is None:
        return is_fenced
    _kubectl(context, "delete", "node", node.name, "--ignore-not-found", "--wait=false")
    return True


def run_forget_minion(context: Context) -> bool:
    """Forget the minion at the master: its key, what it said of itself; take back a token of its join."""
    node = leaving.of(context)
    had_key = minionkeys.forget(context.paths, node.name, minionkeys.ALL_DIRS)
    cached = [context.paths.at(MASTER_CACHE_DIR) / name.format(name=node.name) for name in CACHED]
    there = [file for file in cached if file.is_file()]
    for file in there:
        file.unlink(missing_ok=True)
    return bool(tokens.take_back(context.paths, node.name)) or had_key or bool(there)


def run_tell_others(context: Context) -> bool:
    """Let the others close etcd to a control plane that is gone, and look for the API at those that are there.

    What it was told is kept until all of its removal is done, marked: a removal that is cut here goes on here. One of
    the others that cannot be told is named, and holds nothing up.
    """
    node = leaving.of(context)
    caisson = pillartop.read(context.paths, node.name)
    if caisson.get("node", {}).get("role") != controlplanes.ROLE:
        return False
    pillartop.write(context.paths, context.facts.node_name, controlplanes.leaving(caisson))
    try:
        return telling.tell(context, node.name, limit_s=TELL_LIMIT_S)
    except InstallerError as exc:
        context.ui.note(
            f"note: {exc.message}; when it runs again, run its 'caisson node add' again: that tells it"
        )
        return True


# ---- the host --------------------------------------------------------------------------------------------------


def run_reset_host(context: Context) -> bool:
    """Reset the host by a job of its own, which no loss of the connection ends, and wait for what comes of it."""
    node = leaving.of(context)
    if node.is_dead:
        context.ui.note(f"{node.title} is not reset; when it is found again: caisson reset --yes, on it")
        return False
    if not _is_active(node):
        if node.host.run(["test", "-e", COMMAND_FILE], timeout_s=SSH_LIMIT_S, check=False).returncode != 0:
            return False
        node.host.run(["rm", "-f", RESULT_FILE], timeout_s=SSH_LIMIT_S)
        command = [COMMAND_FILE, "reset", "--yes", "--force", "--result", RESULT_FILE]
        # The host itself cannot ask: its Node is gone, and a kubelet may not list volumes.
        for place in local_volumes(node.name, _items(context, "persistentvolumes")):
            command += ["--keep", place] if reset_plan.is_data(place) else []
        node.host.run(["systemctl", "reset-failed", RESET_UNIT], timeout_s=SSH_LIMIT_S, check=False)
        node.host.run(jobunit.command_line(RESET_UNIT, command), timeout_s=SSH_LIMIT_S)
    error = _wait(context, node)
    if error is not None:
        raise elsewhere(error, node.title)
    return True


def _is_active(node: Leaving) -> bool:
    words = ["systemctl", "is-active", RESET_UNIT]
    said = node.host.run(words, timeout_s=SSH_LIMIT_S, check=False).stdout.strip()
    return said in jobunit.ACTIVE_STATES


def _wait(context: Context, node: Leaving) -> InstallerError | None:
    """Wait until the reset has ended; return what it failed for. The host's own ``caisson`` is gone at its end."""
    deadline = time.monotonic() + RESET_LIMIT_S
    misses = 0
    while True:
        try:
            is_active = _is_active(node)
            said = node.host.run(["cat", RESULT_FILE], timeout_s=SSH_LIMIT_S, check=False).stdout.strip()
            misses = 0
        except InstallerError:
            misses += 1
            if misses >= MISSES:
                raise
            time.sleep(RESET_POLL_S)
            continue
        if said and not is_active:
            found = json.loads(said)["error"]
            return None if found is None else from_json(found)
        if not is_active:
            return HostError(
                f"the reset of {node.title} is gone without a result",
                details="the host was switched off, or the job was killed",
                resolution=f"run the same command again; on that host: tail {RESET_LOG_FILE}",
            )
        if time.monotonic() > deadline:
            return HostError(
                f"the reset of {node.title} still runs after {format_seconds(RESET_LIMIT_S)}",
                resolution=f"see there: tail {RESET_LOG_FILE}; the same command waits for it again",
            )
        context.ui.progress(f"{node.title}: {_progress(node)}")
        time.sleep(RESET_POLL_S)


def _progress(node: Leaving) -> str:
    try:
        said = node.host.run(["tail", "-n", "1", RESET_LOG_FILE], timeout_s=SSH_LIMIT_S, check=False).stdout
    except InstallerError:
        return "no answer"
    return said.strip()[-80:] or "the reset to begin"


def run_forget_node(context: Context) -> bool:
    """Forget what the node was told, and the key of its host: another machine may get its address."""
    node = leaving.of(context)
    is_known = hostkeys.known(context.paths.known_hosts_file, node.entry) is not None
    if is_known:
        hostkeys.forget(context.paths.known_hosts_file, node.entry)
    node_console.note_file(context.paths, node.name).unlink(missing_ok=True)
    return pillartop.forget(context.paths, context.facts.node_name, node.name) or is_known


# ---- kubectl ---------------------------------------------------------------------------------------------------


def _kubectl(
    context: Context, *words: str, check: bool = True, limit_s: float = KUBECTL_LIMIT_S
) -> Completed:
    command = ["kubectl", "--kubeconfig", str(context.paths.admin_kubeconfig_file), *words]
    try:
        return run(command, timeout_s=limit_s, check=check)
    except CommandError as exc:
        raise ClusterError(
            f"the API server refuses, or does not answer: kubectl {words[0]}",
            details=exc.details,
            resolution="see 'caisson status', then run the same command again",
        ) from exc


def _items(context: Context, *words: str) -> list[dict[str, Any]]:
    return list(json.loads(_kubectl(context, "get", *words, "--output=json").stdout)["items"])


def _node(context: Context, name: str) -> dict[str, Any] | None:
    said = _kubectl(context, "get", "node", name, "--ignore-not-found", "--output=json").stdout
    found: dict[str, Any] | None = json.loads(said) if said.strip() else None
    return found


# ---- as data ---------------------------------------------------------------------------------------------------

ADD_AGAIN = "caisson node add HOST"
PHASES: tuple[Phase, ...] = (
    Phase(
        code="CSP501",
        name="look",
        title="look who leaves, and whether it may",
        applies=run_look,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP502",
        name="cordon",
        title="let no new pod onto the node",
        applies=run_cordon,
        undo="kubectl --kubeconfig /etc/kubernetes/admin.conf uncordon NODE",
    ),
    Phase(
        code="CSP503",
        name="drain",
        title="move its pods away",
        applies=run_drain,
        undo="none: its pods run elsewhere; the undo of 'cordon' lets new ones in",
    ),
    Phase(
        code="CSP504",
        name="stop-node",
        title="stop its kubelet",
        applies=run_stop_node,
        undo="on that host: systemctl enable --now kubelet",
    ),
    Phase(
        code="CSP509",
        name="leave-etcd",
        title="take its member out of etcd",
        applies=etcd_leave.run_leave_etcd,
        undo=ADD_AGAIN,
    ),
    Phase(
        code="CSP505",
        name="delete-node",
        title="delete the Node, and let none of its name come back by itself",
        applies=run_delete_node,
        undo=ADD_AGAIN,
    ),
    Phase(
        code="CSP506",
        name="forget-minion",
        title="forget its minion's key",
        applies=run_forget_minion,
        undo=ADD_AGAIN,
    ),
    Phase(
        code="CSP510",
        name="tell-the-others",
        title="let the other nodes know who is gone",
        applies=run_tell_others,
        undo=ADD_AGAIN,
    ),
    Phase(
        code="CSP507",
        name="reset-host",
        title="reset the host",
        applies=run_reset_host,
        undo=ADD_AGAIN,
    ),
    Phase(
        code="CSP508",
        name="forget-node",
        title="forget what the node was told",
        applies=run_forget_node,
        undo=ADD_AGAIN,
    ),
)
OPERATION = Operation(NAME, PHASES, begins_anywhere=False)
