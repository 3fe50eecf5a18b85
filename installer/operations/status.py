# SPDX-License-Identifier: Apache-2.0
"""Tell how the bootstrap node and its cluster are: ``caisson status``; of a further node see own_state.py.

Every part is asked by itself, side by side with the others and within a bound: it answers when the API, the kubelet,
containerd or Salt do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import (
    ClusterError,
    DegradedError,
    InstallerError,
    UnhealthyError,
)
from installer.base.paths import Paths
from installer.base.session import only_looking
from installer.config import changes, facts
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import mediaservers
from installer.media import state as media_state
from installer.media.product import Product
from installer.media.state import MediaState
from installer.operations import (
    cluster_state,
    endpoints,
    etcd_state,
    host_state,
    other_nodes,
    own_state,
    replicas,
    salt_state,
    static_pods,
    unfinished,
)
from installer.operations.asking import (
    COMMAND_LIMIT_S,
    LIMIT_S,
    Deadline,
    Fault,
    Question,
    distinct_fixes,
    wait,
)
from installer.operations.certificates import (
    CertificateState,
    certificate_fault,
    certificate_rows,
    find_certificates,
)
from installer.operations.cluster_state import NodeState, PodState
from installer.operations.endpoints import EndpointState
from installer.operations.etcd_state import EtcdState
from installer.operations.host_state import DiskState, FirewallState, ServiceStates
from installer.operations.media import Beside, beside
from installer.operations.other_nodes import OtherNode
from installer.operations.replicas import Replica
from installer.operations.report import node_rows, pod_rows
from installer.operations.salt_state import SaltState
from installer.operations.static_pods import StaticPods

TREE_DIR = Path(__file__).resolve().parents[2]
FORMAT = 1
SAY_INTERVAL_S = 4.0
Say = Callable[[str], None]
NOT_IN_TIME = f"not known: no answer within {LIMIT_S:g} s"
CA_FILE = "/etc/caisson/ca.crt"
NODE_FIX = (
    "see 'kubectl --kubeconfig /etc/kubernetes/admin.conf describe node' and 'journalctl -u kubelet -n 50'"
)
NO_NODE_FIX = (
    "run the 'caisson node add' of that host again; to take it out of the cluster: caisson node remove {name}"
)
NO_OWN_NODE_FIX = (
    "systemctl restart kubelet: it makes its Node again; then: kubectl --kubeconfig /etc/kubernetes/admin.conf label "
    "node {name} node-role.kubernetes.io/control-plane= node.kubernetes.io/exclude-from-external-load-balancers="
)
"""Source: kubeadm's phase mark-control-plane, which says these labels; taints the kubelet sets itself."""
UNHEARD_FIX = "see the row of Salt in 'caisson status', and how busy this host is; then ask again"
POD_FIX = (
    "see 'kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system describe pod NAME', and its logs"
)


@dataclass(frozen=True)
class Cluster:
    """What the API says."""

    nodes: tuple[NodeState, ...]
    pods: tuple[PodState, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class VirtualAddress:
    """The cluster's virtual address, and the nodes that have it now, as far as they answer."""

    address: str
    held_by: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Say who has it."""
        return f"held by {', '.join(self.held_by)}" if self.held_by else "held by no node that answers"


@dataclass(frozen=True)
class State:
    """All that ``caisson status`` looks at; ``lost`` is what gave no answer."""

    media: MediaState
    services: ServiceStates
    firewall: FirewallState
    disks: tuple[DiskState, ...]
    static_pods: StaticPods
    etcd: EtcdState | None
    cluster: Cluster
    endpoints: tuple[EndpointState, ...]
    salt: SaltState | None
    certificates: tuple[CertificateState, ...]
    others: tuple[OtherNode, ...] = ()
    vip: VirtualAddress | None = None
    other_media: tuple[Beside, ...] = ()
    replicas: tuple[Replica, ...] = ()
    lost: tuple[Fault, ...] = ()

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        """What is not as it should be, causes before what follows from them."""
        found = [*self.services.faults, *self.lost]
        for disk in self.disks:
            found += disk.faults
        found += self.firewall.faults
        found += self.static_pods.faults
        found += self.etcd.faults if self.etcd is not None else ()
        found += self.cluster.faults
        found += [
            endpoint.fault
            for endpoint in self.endpoints
            if endpoint.fault is not None and not (endpoint.needs_media and self.media.missing)
        ]
        found += self.salt.faults if self.salt is not None else ()
        found += [certificate_fault(state) for state in self.certificates if state.fault]
        for node in self.others:
            found += node.faults
        return tuple(found)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not as it should be, one line each."""
        return tuple(fault.text for fault in self.all_faults)

    def error(self) -> InstallerError | None:
        """Return the error that this state is, None when everything is up."""
        away = [(self.media.missing, self.media.resolution)] if self.media.missing else []
        away += [(one.missing, one.resolution) for one in self.other_media if one.missing]
        count_away = len(away)
        away += [(f"{one.name}: {one.missing}", one.resolution) for one in self.replicas if one.missing]
        fixes = [*distinct_fixes(self.all_faults), *(fix for _, fix in away)]
        if self.all_faults:
            count = len(self.all_faults)
            return UnhealthyError(
                f"{count} things are not as they should be" if count > 1 else self.faults[0],
                details="\n".join([*self.faults, *(missing for missing, _ in away)]),
                resolution="\n".join(fixes),
            )
        if away and not count_away:
            return DegradedError(
                "a control plane that serves too has other ISOs than this host; the cluster is up",
                details="\n".join(missing for missing, _ in away),
                resolution="\n".join(fixes),
            )
        if away:
            which = "the media" if self.media.missing else "an ISO beside the one in use"
            return DegradedError(
                f"{which} is missing, or will be after a reboot; the cluster is up",
                details="\n".join(missing for missing, _ in away),
                resolution="\n".join(fixes),
            )
        return None

    def to_json(self, product: Product) -> dict[str, Any]:
        """Return the state as JSON data, format 1; the schema is status.schema.json."""
        error = self.error()
        return {
            "format": FORMAT,
            "product": product.summary,
            "media": asdict(self.media),
            "other_media": [asdict(one) for one in self.other_media],
            "replicas": [asdict(one) for one in self.replicas],
            "services": dict(self.services.states),
            "firewall": self.firewall.shown,
            "disks": [_without_faults(disk) for disk in self.disks],
            "static_pods": [asdict(pod) for pod in self.static_pods.pods],
            "etcd": None if self.etcd is None else _without_faults(self.etcd),
            "nodes": [asdict(node) for node in self.cluster.nodes],
            "other_nodes": [node.to_json() for node in self.others],
            "vip": None if self.vip is None else asdict(self.vip),
            "pods": {
                "total": len(self.cluster.pods),
                "not_ready": [asdict(pod) for pod in self.cluster.pods if not pod.is_ready and pod.is_ours],
                "site_not_ready": [
                    asdict(pod) for pod in self.cluster.pods if not pod.is_ready and not pod.is_ours
                ],
            },
            "endpoints": [_without_faults(endpoint) for endpoint in self.endpoints],
            "salt": None if self.salt is None else self.salt.shown,
            "certificates": [asdict(certificate) for certificate in self.certificates],
            "faults": list(self.faults),
            "fixes": list(distinct_fixes(self.all_faults)),
            "exit_code": 0 if error is None else error.exit_code,
        }

    def tables(self, product: Product) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Return the tables for people, each with its title."""
        tables = [(product.title, self._part_rows())]
        if self.disks:
            tables.append(("Disks", host_state.disk_rows(self.disks)))
        tables.append(("Nodes", node_rows(self.cluster.nodes)))
        if self.others:
            tables.append(("Further nodes, asked", other_nodes.rows(self.others)))
        if self.etcd is not None and len(self.etcd.members) > 1:
            tables.append(("Members of etcd", etcd_state.member_rows(self.etcd)))
        not_ready = [pod for pod in self.cluster.pods if not pod.is_ready]
        for title, found in (
            ("Pods that are not Ready", [pod for pod in not_ready if pod.is_ours]),
            (
                "Pods of the site that are not Ready (no fault of the node)",
                [p for p in not_ready if not p.is_ours],
            ),
        ):
            if found:
                tables.append((title, pod_rows(found)))
        if self.cluster.pods and not not_ready:
            tables.append((f"{len(self.cluster.pods)} pods, all Ready", []))
        if self.certificates:
            tables.append(("Certificates, those that end first first", certificate_rows(self.certificates)))
        return tables

    def _part_rows(self) -> list[tuple[str, ...]]:
        """Return one row for each part of the host that is no table of its own."""
        shown = self.media.missing or f"mounted at {self.media.mount_point}, from {self.media.made_from}"
        rows: list[tuple[str, ...]] = [("media", shown)]
        rows += [
            (f"media {one.name}", one.missing or f"mounted at {one.mount_point}, from {one.made_from}")
            for one in self.other_media
        ]
        rows += [(f"copies on {one.name}", one.shown) for one in self.replicas]
        rows += [(name, state) for name, state in self.services.states.items() if name != "firewalld"]
        rows.append(("firewalld", self.firewall.shown))
        down = "NOT RUNNING" if self.static_pods.is_known else "not known"
        rows += [
            (f"static pod {pod.name}", "running" if pod.is_running else down) for pod in self.static_pods.pods
        ]
        if self.etcd is not None:
            rows.append(("etcd", self.etcd.shown))
        if self.vip is not None:
            rows.append((f"virtual address {self.vip.address}", self.vip.shown))
        rows += [(f"{endpoint.name}, {endpoint.url}", endpoint.answer) for endpoint in self.endpoints]
        if self.salt is not None:
            rows.append(("salt", self.salt.shown))
        return rows


def _without_faults(state: object) -> dict[str, Any]:
    """Return a state as JSON data; what is wrong is listed once, for all of them."""
    data: dict[str, Any] = asdict(state)  # type: ignore[call-overload]
    return {key: value for key, value in data.items() if key not in ("fault", "faults")}


# ---- asking ----------------------------------------------------------------------------------------------


def gather_state(
    product: Product, paths: Paths, *, tree_dir: Path = TREE_DIR, progress: Say = lambda _: None
) -> State:
    """Look at the host, the media, etcd, the services, and what the API says; each without the others.

    It takes no longer than the slowest part may, :data:`installer.operations.asking.LIMIT_S`, or, where there are
    further nodes, :data:`installer.operations.other_nodes.LIMIT_S` and two; it leaves nothing running.
    """
    with only_looking():
        return _gathered(product, paths, tree_dir, progress)


def _gathered(product: Product, paths: Paths, tree_dir: Path, progress: Say) -> State:
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    known = changes.installed(paths) or {}
    address = str(known["node"]["control_plane_address"]) if known else ""
    name = str(known["node"]["name"]) if known else ""
    services = Question("systemd", host_state.ask_services)
    firewall = Question("firewalld", partial(host_state.ask_firewall, paths, is_accepted=_is_accepted(known)))
    disks = Question("the disks", partial(host_state.ask_disks, paths))
    media = Question("the media", partial(media_state.media_state, product, paths))
    added = Question("the ISOs beside the media", partial(beside, paths))
    copies = Question("the notes of copies of the ISOs", partial(replicas.find, paths))
    pods = Question("containerd", partial(static_pods.ask_static_pods, paths, name))
    etcd = Question("etcd", partial(etcd_state.ask_etcd, paths, ports["etcd-client"]))
    cluster = Question("the Kubernetes API", partial(_ask_cluster, paths, name))
    urls = Question("nginx and the registry", partial(_ask_endpoints, address, ports, paths))
    salt = Question("Salt", partial(salt_state.ask_salt, address, ports, name)) if address else None
    certificates = Question("the certificates", partial(find_certificates, paths))
    vip = str(known.get("networks", {}).get("vip") or "")
    own = Question("the addresses", _ask_addresses) if vip else None
    others = Question(
        "the further nodes",
        partial(other_nodes.ask_nodes, paths, ports["kubelet"]),
        limit_s=other_nodes.LIMIT_S + 2.0,
    )

    wait([others], progress, interval_s=SAY_INTERVAL_S)
    lost: list[Fault] = []
    further: tuple[OtherNode, ...] = others.answer((), lost)
    found = State(
        media=media.answer(media_state.unknown(product, paths), lost),
        other_media=added.answer((), lost),
        replicas=copies.answer((), lost),
        services=services.answer(ServiceStates(host_state.UNKNOWN), lost),
        firewall=firewall.answer(FirewallState("unknown"), lost),
        disks=disks.answer((), lost),
        static_pods=pods.answer(StaticPods(()), lost),
        etcd=etcd.answer(None, lost),
        cluster=cluster.answer(Cluster((), ()), lost),
        endpoints=urls.answer((), lost),
        # Salt takes seconds to start on a busy host: a ping that is not over is no fault.
        salt=None if salt is None else salt.answer(SaltState(NOT_IN_TIME), []),
        certificates=certificates.answer((), lost),
        others=further,
        vip=None if own is None else _virtual_address(vip, own.answer((), lost), name, further),
    )
    return replace(found, lost=tuple(lost))


def _ask_addresses() -> tuple[str, ...]:
    return tuple(entry.address for entry in facts.read_addresses())


def _virtual_address(
    address: str, own: Sequence[str], name: str, others: Sequence[OtherNode]
) -> VirtualAddress:
    return VirtualAddress(address, tuple(other_nodes.holders(address, own, name, others)))


# ---- one further node ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeLook:
    """How one further node is, as the API, this host and the node itself say; ``lost`` is what nobody said."""

    node: NodeState | None
    other: OtherNode
    lost: tuple[Fault, ...] = ()

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        """What is not as it should be. That nobody knows how this one node is, is no good answer to the question."""
        ready = self.node is None or self.node.is_ready
        found = () if ready else (Fault(f"node {self.other.name} is not Ready", NODE_FIX),)
        return (*self.lost, *found, *self.other.faults)

    def error(self) -> InstallerError | None:
        """Return the error that this state is, None when everything is up."""
        faults = self.all_faults
        if not faults:
            return None
        return UnhealthyError(
            f"{len(faults)} things are not as they should be" if len(faults) > 1 else faults[0].text,
            details="\n".join(fault.text for fault in faults),
            resolution="\n".join(distinct_fixes(faults)),
        )

    def to_json(self, product: Product) -> dict[str, Any]:
        """Return it as JSON data; the schema is status.schema.json."""
        error = self.error()
        return {
            "format": FORMAT,
            "product": product.summary,
            "node": None if self.node is None else asdict(self.node),
            "other_node": self.other.to_json(),
            "faults": [fault.text for fault in self.all_faults],
            "fixes": list(distinct_fixes(self.all_faults)),
            "exit_code": 0 if error is None else error.exit_code,
        }

    def tables(self, product: Product) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Return the tables for people, each with its title."""
        found = [(product.title, other_nodes.rows([self.other]))]
        if self.node is not None:
            found.append(("Node", node_rows([self.node])))
        return [*found, *(own_state.tables(self.other.own) if self.other.own else [])]


def gather_node(
    name: str, paths: Paths, *, tree_dir: Path = TREE_DIR, progress: Say = lambda _: None
) -> NodeLook:
    """Look at one further node.

    Raises:
        UsageError: this host knows none of this name.
    """
    names = [known for known, _, _ in other_nodes.known(paths)]
    if name not in names:
        raise other_nodes.unknown(name, names)
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    with only_looking():
        cluster = Question("the Kubernetes API", partial(_ask_node, name, paths))
        asked = Question(
            f"node {name}",
            partial(other_nodes.ask_nodes, paths, ports["kubelet"], only=name),
            limit_s=other_nodes.LIMIT_S + 2.0,
        )
        wait([asked], progress, interval_s=SAY_INTERVAL_S)
        lost: list[Fault] = []
        (other,) = asked.answer((other_nodes.silent(name, paths),), lost)
        if not lost and other.is_key_accepted and not other.is_heard:
            lost.append(Fault(f"what {name} says of itself is {other.minion}", UNHEARD_FIX))
        node, faults = cluster.answer((None, ()), lost)
        return NodeLook(node, other, (*faults, *lost))


def _ask_node(name: str, paths: Paths) -> tuple[NodeState | None, tuple[Fault, ...]]:
    """Return a node as the API shows it, or None and why it does not."""
    deadline = Deadline(COMMAND_LIMIT_S)
    try:
        nodes = cluster_state.get_nodes(paths.admin_kubeconfig_file, timeout_s=deadline.left_s)
    except ClusterError as exc:
        return None, (Fault(exc.message, exc.resolution),)
    found = next((node for node in nodes if node.name == name), None)
    return found, _without_node(paths, nodes, deadline, only=name)


def _without_node(
    paths: Paths, nodes: Sequence[NodeState], deadline: Deadline, *, only: str = ""
) -> tuple[Fault, ...]:
    """Return a fault for each further node, or ``only`` one, that was added and that the cluster has no Node of."""
    there = {node.name for node in nodes}
    missing = [
        (name, address)
        for name, address, _ in other_nodes.known(paths)
        if name not in there and only in ("", name)
    ]
    fixes = unfinished.fixes(paths, missing, limit_s=deadline.left_s)
    return tuple(
        Fault(
            f"{name} was added and the cluster has no Node of it",
            fixes.get(name, NO_NODE_FIX.format(name=name)),
        )
        for name, _ in missing
    )


def _is_accepted(known: Mapping[str, Any]) -> bool:
    """Say whether the site accepted in bootstrap.yaml that firewalld does not run."""
    ignored = known.get("overrides", {}).get("ignore_preflights", ())
    return any(entry.get("id") == host_state.FIREWALL_CHECK for entry in ignored)


def _ask_cluster(paths: Paths, own_name: str) -> Cluster:
    """Ask the API for nodes and pods; ``own_name`` is that of this host's Node, empty before there is one."""
    if not paths.admin_kubeconfig_file.exists():
        text = f"there is no {paths.admin_kubeconfig_file}: the control plane was not made yet"
        return Cluster((), (), (Fault(text, "run 'caisson bootstrap' again"),))
    lost: list[Fault] = []
    deadline = Deadline(COMMAND_LIMIT_S)
    question = Question("the Kubernetes API", partial(_ask_pods, paths))
    try:
        nodes = cluster_state.get_nodes(paths.admin_kubeconfig_file, timeout_s=deadline.left_s)
    except ClusterError as exc:
        return Cluster((), (), (Fault(exc.message, exc.resolution),))
    faults = [Fault(f"node {node.name} is not Ready", NODE_FIX) for node in nodes if not node.is_ready]
    if own_name and own_name not in {node.name for node in nodes}:
        fix = NO_OWN_NODE_FIX.format(name=own_name)
        faults.append(Fault(f"the cluster has no Node of this host, {own_name}", fix))
    faults += _without_node(paths, nodes, deadline)
    pods, pod_faults = question.answer(((), ()), lost)
    if pod_faults or lost:
        return Cluster(nodes, (), (*pod_faults, *lost, *faults))
    # Of a node that is away no pod is Ready: that is one fault, not many.
    away = {node.name for node in nodes if not node.is_ready and len(nodes) > 1}
    faults += [
        Fault(f"pod {pod.namespace}/{pod.name} is not Ready: {pod.state}", POD_FIX)
        for pod in pods
        if pod.is_ours and not pod.is_ready and pod.node not in away
    ]
    return Cluster(nodes, pods, tuple(faults))


def _ask_pods(paths: Paths) -> tuple[tuple[PodState, ...], tuple[Fault, ...]]:
    try:
        return cluster_state.get_pods(paths.admin_kubeconfig_file, timeout_s=COMMAND_LIMIT_S), ()
    except ClusterError as exc:
        return (), (Fault(exc.message, exc.resolution),)


def _ask_endpoints(address: str, ports: Mapping[str, int], paths: Paths) -> tuple[EndpointState, ...]:
    """Ask all endpoints of this host and of control planes that serve too, side by side."""
    wanted = endpoints.endpoints(address, ports) if address else ()
    wanted += tuple(
        endpoints.replica_endpoint(server.name, server.address, ports) for server in mediaservers.known(paths)
    )
    ca_file = paths.at(CA_FILE)
    asked = [Question(one.name, partial(endpoints.ask, one, ca_file)) for one in wanted]
    lost: list[Fault] = []
    return tuple(
        question.answer(endpoints.failed(endpoint, "no answer"), lost)
        for endpoint, question in zip(wanted, asked)
    )
