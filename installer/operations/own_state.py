# SPDX-License-Identifier: Apache-2.0
"""Tell how a further node is, asked on that node itself: by its own ``caisson status``, or over the bus.

It has no media and no salt-master and, as a worker, no leave to ask the API. What it knows is its services, its
firewall, its disks, its certificates, and whether the names of the cluster answer from here. Each part is asked by
itself, within a bound.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from installer.base.errors import CommandError, HostError, InstallerError, UnhealthyError
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.session import only_looking
from installer.config import changes, facts
from installer.config.hosts import MARK
from installer.config.ports import BOOTSTRAP_ROLE, PORTS_FILE, read_ports
from installer.media.product import Product
from installer.operations import endpoints, etcd_state, host_state, replica, static_pods
from installer.operations.asking import COMMAND_LIMIT_S, Fault, Question, distinct_fixes
from installer.operations.certificates import (
    CertificateState,
    certificate_fault,
    certificate_rows,
    find_certificates,
)
from installer.operations.endpoints import Endpoint, EndpointState
from installer.operations.etcd_state import EtcdState
from installer.operations.host_state import DiskState, FirewallState, ServiceStates
from installer.operations.static_pods import StaticPods

TREE_DIR = Path(__file__).resolve().parents[2]
FORMAT = 1
SERVICES_CA_FILE = "/etc/caisson/ca.crt"
CLUSTER_CA_FILE = "/etc/kubernetes/pki/ca.crt"
HEALTH_PATH = "/livez"
HEALTH_CODES = (200, 401, 403)
"""Whoever may ask: an API that refuses to say is one that answers."""
NOT_CONNECTED = "not connected to its master"
MASTER_FIX = "see 'caisson status' on the bootstrap node, then here: systemctl restart salt-minion"
HOSTS_FIX = "run 'caisson hosts' on that node: it puts Caisson's lines back into /etc/hosts"


@dataclass(frozen=True)
class Identity:
    """Which node of which cluster this is, and which host to ask about all of it."""

    name: str
    role: str
    cluster: str
    bootstrap_node: str
    version: str = ""
    kernel: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """Say it in one line."""
        role = self.role.replace("-", " ")
        return f"{self.name} is a {role} of the cluster {self.cluster}; ask about all of it on {self.bootstrap_node}"


@dataclass(frozen=True)
class OwnState:
    """How a further node is, as it says itself."""

    identity: Identity
    services: ServiceStates
    firewall: FirewallState
    disks: tuple[DiskState, ...]
    static_pods: StaticPods
    etcd: EtcdState | None
    endpoints: tuple[EndpointState, ...]
    master: str
    certificates: tuple[CertificateState, ...]
    lost: tuple[Fault, ...] = ()
    copies: tuple[Fault, ...] = ()
    """What is wrong with the ISOs of a control plane that serves too."""

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        """What is not as it should be, causes before what follows from them."""
        found = [*self.services.faults, *self.lost]
        for disk in self.disks:
            found += disk.faults
        found += [*self.firewall.faults, *self.static_pods.faults]
        found += self.etcd.faults if self.etcd is not None else ()
        if self.master == NOT_CONNECTED and self.services.states.get("salt-minion") == "active":
            found.append(Fault(f"the salt-minion is {NOT_CONNECTED}: no job can be started here", MASTER_FIX))
        found += [endpoint.fault for endpoint in self.endpoints if endpoint.fault is not None]
        found += self.copies
        found += [certificate_fault(state) for state in self.certificates if state.fault]
        return tuple(map(_for_a_node, found))

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

    def to_data(self) -> dict[str, Any]:
        """Return what the node says, as JSON data; faults are listed once, for all of it."""
        return {
            "format": FORMAT,
            "node": {**asdict(self.identity), "addresses": list(self.identity.addresses)},
            "services": dict(self.services.states),
            "firewall": self.firewall.shown,
            "disks": [_plain(disk) for disk in self.disks],
            "static_pods": [asdict(pod) for pod in self.static_pods.pods],
            "etcd": None if self.etcd is None else _plain(self.etcd),
            "endpoints": [_plain(endpoint) for endpoint in self.endpoints],
            "master": self.master,
            "certificates": [asdict(certificate) for certificate in self.certificates],
            "faults": [asdict(fault) for fault in self.all_faults],
        }

    def to_json(self, product: Product) -> dict[str, Any]:
        """Return it as ``caisson status --json`` prints it on that node; the schema is status.schema.json."""
        error = self.error()
        data = self.to_data()
        return {
            **data,
            "product": product.summary,
            "faults": [fault.text for fault in self.all_faults],
            "fixes": list(distinct_fixes(self.all_faults)),
            "exit_code": 0 if error is None else error.exit_code,
        }

    def tables(self, product: Product) -> list[tuple[str, list[tuple[str, ...]]]]:
        """Return the tables for people, each with its title."""
        return [(product.title, []), (self.identity.said, []), *tables(self.to_data())]


def tables(own: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return what a node says of itself as tables; ``own`` is :meth:`OwnState.to_data`, from here or from there."""
    rows: list[tuple[str, ...]] = [("caisson", own["node"]["version"]), ("kernel", own["node"]["kernel"])]
    rows += [(name, state) for name, state in own["services"].items() if name != "firewalld"]
    rows.append(("firewalld", own["firewall"]))
    rows += [
        (f"static pod {pod['name']}", "running" if pod["is_running"] else "NOT RUNNING")
        for pod in own["static_pods"]
    ]
    if own["etcd"] is not None:
        rows.append(("etcd", own["etcd"]["shown"]))
    rows += [(f"{one['name']}, {one['url']}", one["answer"]) for one in own["endpoints"]]
    rows.append(("salt-master", own["master"]))
    disks = tuple(
        DiskState(**{**disk, "places": tuple(disk["places"]), "faults": ()}) for disk in own["disks"]
    )
    certificates = tuple(CertificateState(**entry) for entry in own["certificates"])
    found: list[tuple[str, list[tuple[str, ...]]]] = [(f"Node {own['node']['name']}", rows)]
    if disks:
        found.append((f"Disks of {own['node']['name']}", host_state.disk_rows(disks)))
    if certificates:
        title = f"Certificates of {own['node']['name']}, those that end first first"
        found.append((title, certificate_rows(certificates)))
    return found


def _plain(state: object) -> dict[str, Any]:
    data: dict[str, Any] = asdict(state)  # type: ignore[call-overload]
    return {key: value for key, value in data.items() if key not in ("fault", "faults")}


def _for_a_node(fault: Fault) -> Fault:
    """Return a fault with the fix of a further node: what the bootstrap does on its host, an addition does on this."""
    return Fault(
        fault.text, fault.fix.replace("'caisson bootstrap'", "'caisson node add' on the bootstrap node")
    )


# ---- asking --------------------------------------------------------------------------------------------------


def role(paths: Paths) -> str:
    """Return the role of this host in its cluster, as Salt was told last; empty where it is in none."""
    known = changes.recorded(paths) or {}
    return str(known.get("node", {}).get("role", ""))


def is_further_node(paths: Paths) -> bool:
    """Say whether this host was made a node from another one."""
    return role(paths) not in ("", BOOTSTRAP_ROLE)


def refuse_here(paths: Paths, what: str) -> None:
    """Refuse on a further node what belongs to the bootstrap node; ``what`` says it, for people.

    Raises:
        HostError: this host is one.
    """
    if is_further_node(paths):
        identity = identify(paths)
        raise HostError(
            f"{what} on the bootstrap node, not here",
            details=identity.said,
            resolution=f"start the same command on {identity.bootstrap_node}",
        )


def identify(paths: Paths) -> Identity:
    """Return who this host is.

    Raises:
        HostError: it is no further node of a cluster.
    """
    known = changes.recorded(paths) or {}
    try:
        return Identity(
            name=str(known["node"]["name"]),
            role=str(known["node"]["role"]),
            cluster=str(known["cluster"]["name"]),
            bootstrap_node=str(known["elsewhere"][known["media_name"]][0]),
            version=Path(known["self_dir"]).name,
            kernel=os.uname().release,
        )
    except (KeyError, IndexError, TypeError) as exc:
        raise HostError(
            "this host is no further node of a cluster",
            details=f"{paths.pillar_dir}/caisson.sls does not say so",
            resolution="'caisson status' on the bootstrap node shows all nodes",
        ) from exc


def look(paths: Paths, *, tree_dir: Path = TREE_DIR) -> dict[str, Any]:
    """Return what this node says of itself, as JSON data: the answer to a question over the bus.

    Raises:
        HostError: this host is no further node of a cluster.
    """
    return gather(paths, tree_dir=tree_dir).to_data()


def gather(paths: Paths, *, tree_dir: Path = TREE_DIR, limit_s: float = COMMAND_LIMIT_S) -> OwnState:
    """Look at this node; all parts side by side, each at most so long. It leaves nothing running.

    Raises:
        HostError: this host is no further node of a cluster.
    """
    identity = identify(paths)
    with only_looking():
        return _gathered(identity, changes.recorded(paths) or {}, paths, tree_dir, limit_s)


def _gathered(
    identity: Identity, known: Mapping[str, Any], paths: Paths, tree_dir: Path, limit_s: float
) -> OwnState:
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    ignored = known.get("overrides", {}).get("ignore_preflights", ())
    is_accepted = any(entry.get("id") == host_state.FIREWALL_CHECK for entry in ignored)

    def ask(name: str, function: Any, *arguments: Any, **options: Any) -> Question[Any]:
        return Question(name, partial(function, *arguments, **options), limit_s=limit_s)

    services = ask("systemd", host_state.ask_services)
    firewall = ask("firewalld", host_state.ask_firewall, paths, is_accepted=is_accepted)
    disks = ask("the disks", host_state.ask_disks, paths)
    pods = ask("containerd", static_pods.ask_static_pods, paths, identity.name)
    etcd = ask("etcd", etcd_state.ask_etcd, paths, ports["etcd-client"])
    wanted = _wanted(known, ports)
    names = [ask(one.name, _ask_by_name, one, identity, paths, ca_file) for one, ca_file in wanted]
    master = ask("the salt-master", _ask_master, ports["salt-publish"])
    certificates = ask("the certificates", find_certificates, paths)
    addresses = ask("the addresses", facts.read_addresses)
    serves = bool(known.get("node", {}).get("media"))
    copies = ask("the ISOs", replica.faults, paths, identity.name) if serves else None

    lost: list[Fault] = []
    own = addresses.answer([], lost)
    found = OwnState(
        identity=replace(identity, addresses=tuple(sorted(address.address for address in own))),
        services=services.answer(ServiceStates(host_state.UNKNOWN), lost),
        firewall=firewall.answer(FirewallState("unknown"), lost),
        disks=disks.answer((), lost),
        static_pods=pods.answer(StaticPods(()), lost),
        etcd=etcd.answer(None, lost),
        endpoints=tuple(
            question.answer(_failed(one, "no answer", identity), lost)
            for question, (one, _) in zip(names, wanted)
        ),
        master=master.answer("not known", []),
        certificates=certificates.answer((), lost),
        copies=() if copies is None else copies.answer((), lost),
    )
    return replace(found, lost=tuple(lost))


def _wanted(known: Mapping[str, Any], ports: Mapping[str, int]) -> tuple[tuple[Endpoint, str], ...]:
    """Return what must answer by its name, each with the authority of its certificate."""
    media = f"https://{known['media_name']}:{ports['media-https']}{endpoints.REGISTRY_PATH}"
    api = f"https://{known['cluster']['endpoint']}:{ports['kube-apiserver']}{HEALTH_PATH}"
    return (
        (Endpoint("images, packages", media, endpoints.REGISTRY_CODES, "nginx"), SERVICES_CA_FILE),
        (Endpoint("Kubernetes API", api, HEALTH_CODES, "kube-apiserver"), CLUSTER_CA_FILE),
    )


def _ask_by_name(endpoint: Endpoint, identity: Identity, paths: Paths, ca_file: str) -> EndpointState:
    """Ask an endpoint, if /etc/hosts knows its name: else the site's nameserver would be asked for it."""
    name = endpoint.url.split("/")[2].partition(":")[0]
    lines = paths.hosts_file.read_text(encoding="utf-8", errors="replace").splitlines()
    known = [line.partition("#")[0].split()[1:] for line in lines if line.partition("#")[0].strip()]
    if not any(name in names for names in known):
        fault = Fault(f"{name} is not in /etc/hosts: no line '{MARK}' names it", HOSTS_FIX)
        return EndpointState(endpoint.name, endpoint.url, "its name is not in /etc/hosts", fault)
    found = endpoints.ask(endpoint, paths.at(ca_file))
    return _failed(endpoint, found.answer, identity) if found.fault is not None else found


def _failed(endpoint: Endpoint, answer: str, identity: Identity) -> EndpointState:
    fix = f"see 'caisson status' on {identity.bootstrap_node}, and whether this node reaches that host"
    return EndpointState(
        endpoint.name, endpoint.url, answer, Fault(f"{endpoint.name}: {endpoint.url}: {answer}", fix)
    )


def _ask_master(port: int) -> str:
    """Say to which salt-master the minion has a connection."""
    words = ["ss", "--tcp", "--numeric", "--no-header", "state", "established", f"( dport = :{port} )"]
    try:
        said = run(words, timeout_s=COMMAND_LIMIT_S, check=False).stdout.split()
    except (CommandError, HostError) as exc:
        return f"not known: {exc.message}"
    peers = [word for word in said if word.endswith(f":{port}")]
    return f"connected to {peers[0]}" if peers else NOT_CONNECTED
