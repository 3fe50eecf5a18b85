# SPDX-License-Identifier: Apache-2.0
"""The phases by which a host becomes a worker, in the order in which they run, for one host.

Each may be run again at any time: it looks, and acts only where something is not as it should be. On the other host
nothing is written before the phase ``send``; from ``runtime`` on states run there by jobs of its own.
"""

from __future__ import annotations

import hashlib
import time
from functools import partial

from installer.base import files
from installer.base.errors import (
    ClusterError,
    CommandError,
    InstallerError,
    PreflightError,
    SaltError,
)
from installer.base.ui import format_seconds
from installer.checks.preflight import Status
from installer.config.facts import NODE_NAME, Facts
from installer.config.nodes import Role
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import nodepillar, pillartop, remotefiles, saltssh, traces
from installer.engine.beside import Signs
from installer.engine.context import Context
from installer.engine.phase import Operation, Phase
from installer.engine.remotefiles import RemoteFile
from installer.operations import (
    authority_keys,
    bootstrap,
    bus,
    cluster,
    cluster_state,
    etcd_gate,
    fencing,
    joining,
    marks,
    minionkeys,
    node_console,
    node_jobs,
    node_tree,
    probe,
    telling,
    tokens,
)
from installer.operations.joining import Joining
from installer.operations.node_jobs import Detached

NAME = "node-add"
CLUSTER_CA_FILE = "/etc/kubernetes/pki/ca.crt"
MINION_FILES = {
    "key": "/etc/salt/pki/minion/minion_master.pub",
    "configuration": "/etc/salt/minion.d/90-caisson.conf",
}
DISCOVERY_FILE = "/run/caisson-join/discovery.conf"
"""As the state has it: ``caisson_join``."""
JOINED_FILES = (
    "/etc/kubernetes/kubelet.conf",
    CLUSTER_CA_FILE,
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/kubelet/config.yaml",
)
CONTROL_PLANE_FILES = (
    *(f"/etc/kubernetes/pki/{name}" for name in ("apiserver.crt", "etcd/peer.crt", "sa.key")),
    *(f"/etc/kubernetes/{name}.conf" for name in ("admin", "controller-manager", "scheduler")),
    *(
        f"/etc/kubernetes/manifests/{name}.yaml"
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    *(
        f"/var/lib/caisson/kubeadm/join-{phase}.json"
        for phase in (
            "preflight",
            "control-plane-prepare-certs",
            "control-plane-prepare-kubeconfig",
            "kubelet-start",
            "etcd-join",
            "control-plane-prepare-control-plane",
            "control-plane-join-mark-control-plane",
        )
    ),
)
"""What a further control plane has besides: what kubeadm's phases make, and the notes that they came to their end.

As the states have it, ``caisson_member``: where they find something to do, keys have to be sent.
"""
ETCD_DATA_DIR = "/var/lib/etcd/member"
NAME_LIMIT = 63
SETTLE_TIMEOUT_S = 2400.0
SERVICE_TIMEOUT_S = 120.0
HELLO_TIMEOUT_S = 15.0
HELLO_POLL_S = 0.5
READY_TIMEOUT_S = 300.0
READY_POLL_S = 1.0
PODS_OF_A_NODE = ("calico-node", "kube-proxy")


# ---- before a byte is written --------------------------------------------------------------------------------


def run_connect(context: Context) -> bool:
    """Take up the connection to the host: its key was confirmed, somebody is logged in and root there."""
    host = joining.of(context).host
    context.ui.detail(f"connected to {host.entry.title}")
    return False


def run_probe(context: Context) -> bool:
    """Run the preflights of a node on the host, and look at what is between it and this one; change nothing.

    What was found decides what the node is told: its addresses, its name. Where it is to be a control plane, so is etcd
    looked at: the control planes are told of the new one long before it joins, and one that is off cannot be.
    """
    node = joining.of(context)
    title = node.entry.title
    saltssh.begin_archive(context.paths)
    found = node.found or probe.probe(
        [node.entry], {title: node.host}, node.material, say=context.ui.progress, paths=context.paths
    )
    rows = [row for row in found.rows if row.host == title]
    if rows:
        context.ui.table([("HOST", "CODE", "STATUS", "CHECK", "FOUND -> FIX"), *(row.cells for row in rows)])
    if not found.is_fit(title) or title not in found.facts:
        failed = [row for row in rows if row.status is Status.FAILED]
        raise PreflightError(
            f"{title} is not fit to become a node",
            details="\n".join(f"{row.code} {row.title}: {row.evidence} -> {row.fix}" for row in failed),
            resolution="fix each on that host, or ignore it by its code in overrides.ignorePreflights, with the reason",
        )
    facts = found.facts[title]
    _refuse_name(context, node, str(facts["node_name"]), found)
    _refuse_role(context, node, str(facts["node_name"]))
    node.facts = Facts(**{**facts, "nameservers": tuple(facts["nameservers"])})
    node.caisson = nodepillar.pillar(
        context,
        node.entry,
        node.facts,
        media_port=_media_port(context),
        cluster_ca_sha256=hashlib.sha256(_cluster_ca(context)).hexdigest(),
    )
    if node.entry.role is Role.CONTROL_PLANE:
        etcd_gate.look_before(context, node.name, node.address)
    return False


def _refuse_name(context: Context, node: Joining, name: str, found: probe.Probe) -> None:
    """Refuse a name that is not the one that was looked at: files here get it, and the master's keys.

    The other host says its name itself, and is not trusted with what it says.

    Raises:
        PreflightError: it is no node's name, this node's, or another than was asked for or compared.
    """
    seen = [host for host in found.fleet.hosts if host.title == node.entry.title]
    compared = {str(host.identity.get("name", "")) for host in seen} | ({node.entry.name} - {""})
    is_name = bool(NODE_NAME.match(name)) and len(name) <= NAME_LIMIT
    if not is_name or name == context.facts.node_name or compared != {name}:
        raise PreflightError(
            f"{node.entry.title} says that its name is {name!r}",
            details=f"looked at as: {', '.join(sorted(map(repr, compared)))}",
            resolution="give the node's name with --name, or 'name' in the list; then look at that host: it does not "
            "answer as Caisson does",
        )


def _refuse_role(context: Context, node: Joining, name: str) -> None:
    """Refuse to make a node another one than it is: its ports would be closed, or its keys be sent to a worker.

    Raises:
        PreflightError: a node of that name was added with another role.
        ClusterError: the API does not answer.
    """
    told = [
        caisson["node"]["role"]
        for caisson in pillartop.pillars(context.paths)
        if caisson["node"]["name"] == name
    ]
    if not told or told == [node.entry.role.value]:
        return
    if name in {member.name for member in cluster_state.get_members(context.paths.admin_kubeconfig_file)}:
        raise PreflightError(
            f"{node.entry.title} is a node already: {told[0]}, not {node.entry.role.value}",
            resolution=f"give its role: --role {told[0]}; to change it, take the node out of the cluster first",
        )


def _media_port(context: Context) -> int:
    own_dir = context.paths.self_dir(context.product.full_version)
    return next(port.port for port in read_ports(own_dir / PORTS_FILE) if port.name == "media-https")


def _cluster_ca(context: Context) -> bytes:
    return files.read_file(
        context.paths.at(CLUSTER_CA_FILE),
        "the cluster's authority",
        resolution="start this on the bootstrap node, after its bootstrap",
    )


# ---- Salt's way to the host ----------------------------------------------------------------------------------


def run_send(context: Context) -> bool:
    """Send the installer, the states, the keys and the pillar over SSH: those files that are not there already."""
    node = joining.of(context)
    missing = remotefiles.differing(node.host, node_tree.wanted(context, node.caisson))
    if missing:
        size = sum(len(file.data) for file in missing)
        context.ui.progress(f"{len(missing)} files, {size // 1024} KiB, to arrive")
        remotefiles.put(node.host, missing)
    return bool(missing)


def run_install_minion(context: Context) -> bool:
    """Let the host install its packages from this node's repository, started by salt-ssh in raw mode.

    All packages of a node come in one transaction; beside it the cluster's names, and the minion's key.
    """
    node = joining.of(context)
    context.ui.progress(f"the packages of {node.name}")
    words = [node_jobs.COMMAND_FILE, "on-node", "settle", "--json"]
    said = saltssh.run_raw(node.host, words, timeout_s=SETTLE_TIMEOUT_S, paths=context.paths)
    for line in said.stderr.splitlines():
        context.ui.detail(f"{node.name}: {line}")
    answer = node_jobs.answer_of(said.stdout, node, "settle")
    node.public_key = str(answer["public_key"])
    return bool(answer["has_changed"])


def run_keys(context: Context) -> bool:
    """Let the master know the minion's key, and the minion the master's, before they ever speak; give it its pillar."""
    node = joining.of(context)
    master_dir = context.paths.at(minionkeys.MASTER_PKI_DIR)
    master_key = files.read_file(
        master_dir / "master.pub",
        "the key of the salt-master",
        resolution="check that the salt-master runs on this host: caisson status",
    )
    sent = [
        RemoteFile(MINION_FILES["key"], master_key),
        RemoteFile(
            MINION_FILES["configuration"],
            nodepillar.minion_configuration(node.caisson, context.facts.control_plane_address).encode(),
        ),
    ]
    missing = remotefiles.differing(node.host, sent)
    if missing:
        node.must_restart_minion = True
        remotefiles.put(node.host, missing)
    node.earlier = pillartop.read(context.paths, node.name)
    written = (
        pillartop.write(context.paths, context.facts.node_name, node.caisson),
        files.write_file(master_dir / minionkeys.ACCEPTED_DIR / node.name, node.public_key, dir_mode=0o700),
        # Somebody may have shown the master another key under this name.
        minionkeys.forget(context.paths, node.name, minionkeys.BARRED_DIRS),
    )
    return bool(missing) or any(written)


def run_hello(context: Context) -> bool:
    """Start the minion. Meanwhile the host is prepared: that it answers its master is asked beside the next phase."""
    node = joining.of(context)
    _systemctl(node, "enable", "salt-minion.service")
    # It reads its configuration and keys at its start.
    is_kept = _is_active(node) and not node.must_restart_minion
    if not is_kept:
        _restart_minion(node)
    context.beside.begin(_answer_of(node), partial(_wait_for_answer, node))
    return not is_kept


def await_hello(context: Context) -> None:
    """Wait until the minion has answered its master with the installer's own words.

    One that does not in time is started again once: it may hold a connection to a master of before.

    Raises:
        SaltError: it does not answer then either.
    """
    node = joining.of(context)
    try:
        context.beside.wait(context.ui.progress)
    except SaltError:
        _restart_minion(node)
        context.beside.begin(_answer_of(node), partial(_wait_for_answer, node))
        context.beside.wait(context.ui.progress)


def _answer_of(node: Joining) -> str:
    return f"the minion of {node.name} to answer its master"


def _restart_minion(node: Joining) -> None:
    _systemctl(node, "restart", "salt-minion.service")
    node.must_restart_minion = False


def _is_active(node: Joining) -> bool:
    words = ["systemctl", "is-active", "--quiet", "salt-minion.service"]
    return node.host.run(words, timeout_s=SERVICE_TIMEOUT_S, check=False).returncode == 0


def _systemctl(node: Joining, *words: str) -> None:
    node.host.run(["systemctl", *words], timeout_s=SERVICE_TIMEOUT_S)


def _wait_for_answer(node: Joining, signs: Signs) -> None:
    """Ask until the minion answers; how long it may take counts from when nothing else is left to do.

    It is asked once it is connected: a question that nobody hears takes a dozen seconds.

    Raises:
        SaltError: it has not answered in time.
    """
    published = f"( dport = :{cluster.PUBLISH_PORT} )"
    connected = ["ss", "--tcp", "--numeric", "--no-header", "state", "established", published]
    deadline = None
    while not signs.stop.is_set():
        is_connected = bool(node.host.run(connected, timeout_s=30, check=False).stdout.strip())
        if is_connected and isinstance(bus.ask(node.name, "caisson_job.look", "hello"), dict):
            return
        if signs.awaited.is_set():
            deadline = deadline or time.monotonic() + HELLO_TIMEOUT_S
            if time.monotonic() >= deadline:
                raise SaltError(
                    f"the minion of {node.name} does not answer its master after {format_seconds(HELLO_TIMEOUT_S)}",
                    details="it was started twice",
                    resolution="see there: journalctl -u salt-minion -n 50; and that the ports of this node's "
                    "salt-master are open to it: caisson node check",
                )
        time.sleep(HELLO_POLL_S)


# ---- the node ------------------------------------------------------------------------------------------------


def run_join(context: Context, *, states: Detached) -> bool:
    """Let the host join: a token that lives minutes goes over SSH into its memory, kubeadm's phases run there.

    So do the authorities' keys where it becomes a control plane, between two looks at etcd. A host that is a node
    already gets neither. The token is taken back, and the keys are gone from memory, however this ends. A node that
    was removed may come back by this, and by nothing else.
    """
    node = joining.of(context)
    fencing.lift(context.paths, node.name)
    is_control_plane = node.entry.role is Role.CONTROL_PLANE
    if not _is_joined(context, node):
        return _join(context, node, states)
    has_changed = states(context)
    if is_control_plane:
        etcd_gate.pass_after(context)
    return has_changed


def _join(context: Context, node: Joining, states: Detached) -> bool:
    is_control_plane, fresh = node.entry.role is Role.CONTROL_PLANE, []
    if is_control_plane:
        has_data = _has_data(node)
        is_member = etcd_gate.pass_before(context, node.name, node.address, has_data=has_data)
        fresh = [] if is_member else [RemoteFile(authority_keys.FRESH_FILE, b"", 0o600)]
    try:
        tokens.take_back(context.paths, node.name)
        authority_keys.expire(node)
        if is_control_plane:
            authority_keys.send(context, node)
        text = tokens.discovery(
            context.config.endpoint, _cluster_ca(context), tokens.create(context.paths, node.name)
        )
        discovery = RemoteFile(DISCOVERY_FILE, text.encode(), 0o600)
        remotefiles.put(node.host, [discovery, *fresh], is_secret=True)
        has_changed = states(context)
    finally:
        _forget_token(context, node)
    if is_control_plane:
        etcd_gate.pass_after(context)
    return has_changed


def _has_data(node: Joining) -> bool:
    """Tell whether etcd has data on the other host: where it has none, its member there may be removed.

    Raises:
        CommandError: it could not be looked.
    """
    words = ["/bin/sh", "-c", 'if test -d "$1"; then echo there; else echo none; fi', "sh", ETCD_DATA_DIR]
    said = node.host.run(words, timeout_s=30).stdout.strip()
    if said not in ("there", "none"):
        raise CommandError(
            f"{node.name} does not say whether etcd has data there",
            details=f"asked for {ETCD_DATA_DIR}, it said: {said[-200:]!r}",
            resolution="run the same command again",
        )
    return said == "there"


def _is_joined(context: Context, node: Joining) -> bool:
    """Tell whether the other host is what it is to become: one that was off when it was removed has all its files."""
    words = ["/bin/sh", "-c", 'for file; do test -s "$file" || exit 1; done', "sh", *JOINED_FILES]
    is_control_plane = node.entry.role is Role.CONTROL_PLANE
    if is_control_plane:
        words += CONTROL_PLANE_FILES
    if node.host.run(words, timeout_s=30, check=False).returncode != 0:
        return False
    return not is_control_plane or etcd_gate.is_member(context, node.name, node.address)


def _forget_token(context: Context, node: Joining) -> None:
    """Take the token back, in the cluster and on the host; where that cannot be said, it ends by itself."""
    for where, forget in (
        (node.name, partial(authority_keys.forget, node)),
        ("the cluster", partial(tokens.take_back, context.paths, node.name)),
    ):
        try:
            forget()
        except InstallerError as exc:
            context.ui.note(
                f"note: the token of the join stays in {where} for up to {tokens.TTL}: {exc.message}"
            )


def run_wait(context: Context) -> bool:
    """Wait until the node is Ready, its calico-node and its kube-proxy too, and give it its labels and taints."""
    node = joining.of(context)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while lacking := _lacking(context, node):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{node.name} is not Ready after {format_seconds(READY_TIMEOUT_S)}",
                details="\n".join(lacking),
                resolution=f"see: kubectl describe node {node.name}; there: journalctl -u kubelet -n 50; crictl ps -a",
            )
        context.ui.progress(f"Ready: {', '.join(lacking)}")
        time.sleep(READY_POLL_S)
    for text in marks.left(node.name, node.entry, node.earlier):
        context.ui.note(text)
    done = marks.put(context.paths, node.name, node.entry)
    for text in done:
        context.ui.note(f"set on {node.name}: {text}")
    return bool(done)


def _lacking(context: Context, node: Joining) -> list[str]:
    """Return what of the node is not Ready; that the API does not answer for a moment is one of it."""
    file = context.paths.admin_kubeconfig_file
    try:
        nodes, pods = cluster_state.get_nodes(file), cluster_state.get_pods(file)
    except ClusterError as exc:
        return [exc.message]
    return lacking(node.name, nodes, pods)


def lacking(
    name: str,
    nodes: tuple[cluster_state.NodeState, ...],
    pods: tuple[cluster_state.PodState, ...],
) -> list[str]:
    """Return what of a node is not Ready. Pure."""
    is_ready = any(node.name == name and node.is_ready for node in nodes)
    here = [pod for pod in pods if pod.node == name and pod.is_ours]
    waiting = [
        app
        for app in PODS_OF_A_NODE
        if not any(pod.name.startswith(f"{app}-") and pod.is_ready for pod in here)
    ]
    return [*([] if is_ready else [f"node {name}"]), *waiting]


# ---- as data -------------------------------------------------------------------------------------------------

ON_THE_HOST = "on that host: "
SEND_UNDO = (
    f"{ON_THE_HOST}rm -r /opt/caisson/VERSION-BUILD; rm /usr/bin/caisson /etc/caisson/ca.crt "
    "/etc/caisson/pillar/top.sls /etc/caisson/pillar/caisson.sls /etc/caisson/salt/local/minion"
)
INSTALL_UNDO = (
    f"{ON_THE_HOST}{bootstrap.PACKAGES_UNDO}; rm /etc/caisson/hosts.json; sed -i '/# caisson$/d' /etc/hosts"
)
KEYS_UNDO = (
    "rm /etc/caisson/salt/pki/master/minions/NODE, take NODE out of /etc/caisson/pillar/top.sls, and rm its file below "
    f"/etc/caisson/pillar/nodes; {ON_THE_HOST}rm {' '.join(traces.MINION_FILES)}"
)
JOIN_UNDO = (
    f"{bootstrap.KUBECTL} drain NODE --ignore-daemonsets --delete-emptydir-data; {bootstrap.KUBECTL} delete node NODE; "
    f"{ON_THE_HOST}systemctl disable --now kubelet; rm {' '.join(traces.JOIN_FILES)}"
)

CONSOLE_UNDO = (
    f"{ON_THE_HOST}systemctl disable --now caisson-console.socket caisson-door.socket; "
    f"systemctl stop caisson-console.service; rm -f {' '.join(traces.CONSOLE_FILES)}; systemctl daemon-reload; "
    f"userdel {traces.CONSOLE_USER}; rm /var/lib/caisson/console/NODE.json"
)

PREPARED = (
    "host",
    "containerd",
    "images.node_begun",
    "kubelet.installed",
    "kubelet.configured",
    "firewall",
    "images.node",
)

PHASES: tuple[Phase, ...] = (
    Phase(
        code="CSP401",
        name="connect",
        title="connect to the host",
        applies=run_connect,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP402",
        name="probe",
        title="check the host, and the way to it",
        applies=run_probe,
        undo="none: changes nothing",
    ),
    Phase(
        code="CSP403",
        name="send",
        title="send the installer and its states",
        applies=run_send,
        undo=SEND_UNDO,
    ),
    Phase(
        code="CSP404",
        name="install-packages",
        title="install the packages of the node from this node's repository",
        applies=run_install_minion,
        undo=INSTALL_UNDO,
    ),
    Phase(
        code="CSP405",
        name="keys",
        title="exchange the keys of minion and master",
        applies=run_keys,
        undo=KEYS_UNDO,
    ),
    Phase(
        code="CSP406",
        name="hello",
        title="start the minion, which is to answer its master",
        applies=run_hello,
        undo=f"{ON_THE_HOST}systemctl disable --now salt-minion",
    ),
    Phase(
        code="CSP407",
        name="prepare",
        title="prepare the host: container runtime, kubelet, ports, images",
        applies=Detached(PREPARED),
        awaits=await_hello,
        undo=f"{ON_THE_HOST}{bootstrap.FIREWALL_UNDO}; {bootstrap.KUBELET_UNDO}; {bootstrap.RUNTIME_UNDO}",
        about="Start containerd, and pull what every node runs from this node, by name and over HTTPS. Meanwhile "
        "set up the kubelet's unit, and open in firewalld what the port table names for the role of the node. One job: "
        "to start Salt takes seconds. Last, wait for the minion's answer.",
    ),
    Phase(
        code="CSP408",
        name="tell-peers",
        title="let the control planes let the new one in",
        applies=telling.run_tell_peers,
        undo="none: goes with the pillar of the node, at the next addition or removal",
    ),
    Phase(
        code="CSP409",
        name="join",
        title="join the cluster by kubeadm's phases",
        applies=partial(run_join, states=Detached(("kubelet.joined", "keepalived", "cluster.noted"))),
        undo=JOIN_UNDO,
    ),
    Phase(
        code="CSP410",
        name="wait",
        title="wait until the node is Ready",
        applies=run_wait,
        undo="none: labels and taints go with the node",
    ),
    Phase(
        code="CSP411",
        name="tell-nodes",
        title="let every node find the new control plane",
        applies=telling.run_tell_nodes,
        undo="none: goes with the pillar of the node, at the next addition or removal",
    ),
    Phase(
        code="CSP412",
        name="start-console",
        title="start the console of the new control plane",
        applies=partial(node_console.run_console, states=Detached(("console.running",))),
        undo=CONSOLE_UNDO,
    ),
)

OPERATION = Operation(NAME, PHASES, begins_anywhere=False)
