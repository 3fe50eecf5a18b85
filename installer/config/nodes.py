# SPDX-License-Identifier: Apache-2.0
"""Read which hosts become nodes, from ``nodes.yaml`` or from the command line, and find every fault of it at once.

The same sieves as for bootstrap.yaml: YAML, a JSON Schema, and what a schema cannot say: that an address is one, that
no two hosts share what only one can have, that Kubernetes takes the labels. The options of ``caisson node add HOST``
are such a list of one host, and their faults name the option instead of the line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from installer.base.document import Document, Fault, KeyPath, format_path, read_text
from installer.base.errors import ConfigError
from installer.config import schema
from installer.config.bootstrap import UNUSABLE, Config

DEFAULT_USER, DEFAULT_PORT = "root", 22
LABEL_NAME = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
LABEL_PREFIX = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
"""Source: Kubernetes, apimachinery/pkg/util/validation, IsQualifiedName and IsValidLabelValue."""
OWN_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node-role.kubernetes.io/control-plane",
        "node.kubernetes.io/exclude-from-external-load-balancers",
    }
)
"""What the kubelet and kubeadm set themselves, and set again when somebody else changes it."""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
OPTIONS: Mapping[str, str] = {
    "address": "HOST",
    "role": "--role",
    "name": "--name",
    "user": "--user",
    "port": "--port",
    "identity": "--identity",
    "hostKey": "--host-key",
    "labels": "--labels",
    "taints": "--taints",
}


class Role(str, Enum):
    """What a host becomes; the value is the name of the role in the port table."""

    WORKER = "worker"
    CONTROL_PLANE = "control-plane"


@dataclass(frozen=True)
class Taint:
    """One taint; ``value`` may be empty."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True)
class NodeEntry:
    """A host that becomes a node. ``name`` is empty when it is the host's own, ``host_key`` when nobody gave one.

    Without an ``identity`` a password is asked for.
    """

    address: str
    role: Role = Role.WORKER
    name: str = ""
    user: str = DEFAULT_USER
    port: int = DEFAULT_PORT
    identity: Path | None = None
    host_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    @property
    def title(self) -> str:
        """Return what people call it: name and address, as far as given."""
        return f"{self.name} ({self.address})" if self.name else self.address


@dataclass(frozen=True)
class NodeList:
    """Hosts without a fault among them; ``notes`` say what of a good list may not be meant."""

    nodes: tuple[NodeEntry, ...]
    notes: tuple[str, ...] = ()

    def of(self, role: Role) -> tuple[NodeEntry, ...]:
        """Return the hosts that get this role."""
        return tuple(node for node in self.nodes if node.role is role)


def load(file: Path, *, config: Config | None = None, control_planes: int = 1) -> NodeList:
    """Read and check a list of hosts; ``control_planes`` is how many the cluster has already.

    With the cluster's ``config`` no address may lie in the networks of pods or services.

    Raises:
        ConfigError: it cannot be read, or has faults; all of them are in ``details``.
    """
    text = read_text(
        file,
        "the list of nodes",
        resolution="give the path of the file with --file FILE",
    )
    return parse(text, file=file, config=config, control_planes=control_planes)


def parse(
    text: str, *, file: Path = Path("nodes.yaml"), config: Config | None = None, control_planes: int = 1
) -> NodeList:
    """Check the text of a list of hosts and return it typed.

    Raises:
        ConfigError: it has faults; all of them are in ``details``.
    """
    document = Document.read(text)
    faults = list(document.faults)
    if document.is_readable:
        faults += _find_faults(document, config)
    if faults:
        lines = [f"{file}:{fault.line}: {fault.path}: {fault.message}" for fault in _in_order(faults)]
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise ConfigError(
            f"the list of nodes {file} has {count}",
            details="\n".join(lines),
            resolution="correct all of them; no host was asked anything",
        )
    return _build(document.data, control_planes)


def from_options(
    options: Mapping[str, Any], *, config: Config | None = None, control_planes: int = 1
) -> NodeList:
    """Check the options of the command line for a single host, by the keys of the file; an empty one was not given.

    ``labels`` and ``taints`` are texts with commas, as kubectl's.

    Raises:
        ConfigError: it has faults; all of them are in ``details``.
    """
    entry = {key: value for key, value in options.items() if value not in (None, "")}
    split_faults: list[Fault] = []
    if isinstance(entry.get("labels"), str):
        entry["labels"] = _split_labels(entry["labels"], split_faults)
    if isinstance(entry.get("taints"), str):
        entry["taints"] = [word for word in entry["taints"].split(",") if word]
    data = {"apiVersion": "caisson/v1", "kind": "NodeList", "nodes": [entry]}
    faults = [*split_faults, *_find_faults(Document(data, [], {}), config)]
    if faults:
        lines = [_option_fault(fault) for fault in _in_order(faults)]
        count = "a fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise ConfigError(
            f"what was said about the host {entry.get('address', '')} has {count}",
            details="\n".join(lines),
            resolution="correct it; the host was not asked anything",
        )
    return _build(data, control_planes)


def to_data(entry: NodeEntry) -> dict[str, Any]:
    """Return an entry as it would stand in the file; what is left out there is left out here."""
    said = {
        "address": entry.address,
        "role": entry.role.value,
        "name": entry.name,
        "user": entry.user,
        "port": entry.port,
        "identity": "" if entry.identity is None else str(entry.identity),
        "hostKey": entry.host_key,
        "labels": dict(entry.labels),
        "taints": [str(taint) for taint in entry.taints],
    }
    return {key: value for key, value in said.items() if value not in ("", {}, [])}


def from_data(entries: Sequence[Mapping[str, Any]]) -> tuple[NodeEntry, ...]:
    """Return entries that :func:`to_data` wrote down; they were checked before."""
    return _build({"nodes": entries}, 1).nodes


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the list."""
    return schema.load("nodes")


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(set(faults), key=lambda fault: (fault.line, fault.path, fault.message))


def _option_fault(fault: Fault) -> str:
    """Return a fault with the option that has it.

    >>> _option_fault(Fault(1, "nodes[0].hostKey", "is too short"))
    '--host-key: is too short'
    """
    key, _, rest = fault.path.partition("nodes[0].")[2].partition(".")
    name = re.sub(r"\[\d+\]\Z", "", key)
    shown = OPTIONS.get(name, fault.path)
    return f"{shown}: {rest}: {fault.message}" if rest else f"{shown}: {fault.message}"


def _split_labels(text: str, faults: list[Fault]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        key, sign, value = word.partition("=")
        if not sign:
            faults.append(Fault(1, "nodes[0].labels", f"'{word}' is no label: write KEY=VALUE"))
        elif key in labels:
            faults.append(Fault(1, "nodes[0].labels", f"'{key}' is there twice"))
        labels[key] = value
    return labels


# ---- faults --------------------------------------------------------------------------------------------------


def _find_faults(document: Document, config: Config | None) -> Iterator[Fault]:
    yield from schema.find_faults(document, load_schema())
    nodes = document.get("nodes")
    entries = [
        (index, entry)
        for index, entry in enumerate(nodes if isinstance(nodes, list) else ())
        if isinstance(entry, dict)
    ]
    for index, entry in entries:
        path: KeyPath = ("nodes", index)
        yield from _address_faults(document, (*path, "address"), entry.get("address"), config)
        yield from _identity_faults(document, (*path, "identity"), entry.get("identity"))
        yield from _label_faults(document, (*path, "labels"), entry.get("labels"))
        yield from _taint_faults(document, (*path, "taints"), entry.get("taints"))
        if isinstance(entry.get("name"), str) and entry["name"].split(".")[0].startswith("localhost"):
            yield document.fault((*path, "name"), f"'{entry['name']}' is every host's name")
    yield from _twins(document, entries)


SHARED: Mapping[str, str] = {
    "address": "one host has it; remove the entry, or write the other host's address",
    "name": "give one of them another name",
    "hostKey": "who has the key of one host can pose as the other; on one of them remove /etc/ssh/ssh_host_*, "
    "run 'ssh-keygen -A' and restart sshd, or correct the entry",
}
"""What no two hosts may share -> what to do."""


def _twins(document: Document, entries: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[Fault]:
    for key, fix in SHARED.items():
        first: dict[str, int] = {}
        for index, entry in entries:
            value = entry.get(key)
            if not isinstance(value, str):
                continue
            if value in first:
                other = format_path(("nodes", first[value], key))
                yield document.fault(("nodes", index, key), f"'{value}' is that of {other} too: {fix}")
            first.setdefault(value, index)


def _address_faults(
    document: Document, path: KeyPath, value: object, config: Config | None
) -> Iterator[Fault]:
    if not isinstance(value, str) or not value:
        return
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        yield document.fault(path, _why_no_address(value))
        return
    for unusable in UNUSABLE:
        if address in unusable:
            yield document.fault(
                path, f"{address} lies in the reserved {unusable}: write one that other hosts reach"
            )
    if config is None:
        return
    networks = config.networks
    for name, network in (("pods", networks.pods_cidr), ("services", networks.services_cidr)):
        if address in network:
            text = f"{address} lies in the cluster's networks.{name}.cidr ({network}): give the host another address"
            yield document.fault(path, text)
    if address == networks.vip:
        yield document.fault(
            path, f"{address} is the cluster's virtual address: write the host's own address"
        )


def _why_no_address(value: str) -> str:
    """Say why a text is no address, with what was probably meant.

    >>> _why_no_address("admin@10.0.0.5")
    "'admin@10.0.0.5' is no IPv4 address: the user has a place of its own, 'user'"
    >>> _why_no_address("10.0.0.5:2222")
    "'10.0.0.5:2222' is no IPv4 address: the port has a place of its own, 'port'"
    >>> _why_no_address("10.0.0.05")
    "'10.0.0.05' is no IPv4 address: write it like 10.1.2.3, without leading zeros"
    >>> _why_no_address("fd00::1")
    "'fd00::1' is an IPv6 address: this version of Caisson builds IPv4 clusters only"
    """
    if "@" in value:
        return f"{value!r} is no IPv4 address: the user has a place of its own, 'user'"
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        pass
    else:
        return f"{value!r} is an IPv6 address: this version of Caisson builds IPv4 clusters only"
    if re.fullmatch(r"[\d.]+:\d+", value):
        return f"{value!r} is no IPv4 address: the port has a place of its own, 'port'"
    if re.fullmatch(r"[\d.]+/\d+", value):
        return f"{value!r} is a network: write the host's address without '/'"
    if re.fullmatch(r"[\d.]+", value):
        return f"{value!r} is no IPv4 address: write it like 10.1.2.3, without leading zeros"
    return f"{value!r} is no IPv4 address: a name would be asked of a nameserver; the node's name belongs into 'name'"


def _identity_faults(document: Document, path: KeyPath, value: object) -> Iterator[Fault]:
    """Look at the file of a private key as ssh will: who else may read it makes ssh refuse it."""
    if not isinstance(value, str) or not value:
        return
    file = Path(value)
    if not file.is_absolute():
        yield document.fault(path, f"'{value}' is no absolute path: begin it with '/'")
        return
    try:
        status, beginning = file.stat(), _beginning(file)
    except OSError as exc:
        yield document.fault(path, f"{file} cannot be read: {exc.strerror}; write the file of a private key")
        return
    if file.suffix == ".pub" or beginning.startswith(b"ssh-"):
        yield document.fault(path, f"{file} is a public key: write the file of the private one")
    elif b"PRIVATE KEY" not in beginning:
        yield document.fault(
            path, f"{file} is no private key of OpenSSH: its first line has no 'PRIVATE KEY'"
        )
    if status.st_mode & 0o077:
        text = f"others may read {file} (mode {status.st_mode & 0o777:04o}), and ssh then refuses it: chmod 600 {file}"
        yield document.fault(path, text)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(64)


def _label_faults(document: Document, path: KeyPath, value: object) -> Iterator[Fault]:
    for key, text in (value if isinstance(value, dict) else {}).items():
        if not isinstance(key, str):
            continue  # the document has a fault for it
        why = _why_no_key(key)
        if why:
            yield document.fault((*path, key), why)
        elif key in OWN_LABELS:
            yield document.fault((*path, key), "is set by Kubernetes itself: leave it out")
        if isinstance(text, str) and text and not LABEL_NAME.match(text):
            yield document.fault((*path, key), f"{text!r} cannot be a label's value: {LABEL_RULE}")


LABEL_RULE = "letters, digits and '-_.', at most 63, letters or digits at the edges"


def _why_no_key(key: str) -> str:
    """Say why a text can be no key of a label or taint; empty when it can.

    >>> _why_no_key("example.com/rack"), _why_no_key("a b")
    ('', "'a b' cannot be a key: letters, digits and '-_.', at most 63, letters or digits at the edges")
    """
    prefix, slash, name = key.rpartition("/")
    if slash and (not LABEL_PREFIX.match(prefix) or len(prefix) > 253):
        return f"'{prefix}' before the '/' is no DNS name in lower case"
    return "" if LABEL_NAME.match(name) else f"'{name}' cannot be a key: {LABEL_RULE}"


def _taint_faults(document: Document, path: KeyPath, value: object) -> Iterator[Fault]:
    seen: dict[tuple[str, str], int] = {}
    for index, text in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(text, str):
            continue
        taint = _taint(text)
        place = (*path, index)
        if taint.effect not in EFFECTS:
            yield document.fault(
                place, f"'{text}' must end with one of {', '.join(':' + effect for effect in EFFECTS)}"
            )
        why = _why_no_key(taint.key)
        if why:
            yield document.fault(place, why)
        if taint.value and not LABEL_NAME.match(taint.value):
            yield document.fault(place, f"{taint.value!r} cannot be a taint's value: {LABEL_RULE}")
        if (taint.key, taint.effect) in seen:
            yield document.fault(place, f"'{taint.key}:{taint.effect}' is there twice: a node has one of it")
        seen[(taint.key, taint.effect)] = index


def _taint(text: str) -> Taint:
    """Read one taint, good or not.

    >>> _taint("gpu=yes:NoSchedule"), _taint("gpu:NoExecute")
    (Taint(key='gpu', value='yes', effect='NoSchedule'), Taint(key='gpu', value='', effect='NoExecute'))
    """
    rest, _, effect = text.rpartition(":")
    key, _, value = rest.partition("=")
    return Taint(key, value, effect)


# ---- the typed list ------------------------------------------------------------------------------------------


def _build(data: Mapping[str, Any], control_planes: int) -> NodeList:
    nodes = tuple(
        NodeEntry(
            address=entry["address"],
            role=Role(entry.get("role", Role.WORKER.value)),
            name=entry.get("name", ""),
            user=entry.get("user", DEFAULT_USER),
            port=int(entry.get("port", DEFAULT_PORT)),
            identity=Path(entry["identity"]) if "identity" in entry else None,
            host_key=entry.get("hostKey", ""),
            labels=entry.get("labels", {}),
            taints=tuple(_taint(text) for text in entry.get("taints", ())),
        )
        for entry in data["nodes"]
    )
    added = sum(node.role is Role.CONTROL_PLANE for node in nodes)
    return NodeList(nodes, tuple(_number_notes(control_planes, added)))


def _number_notes(there: int, added: int) -> Iterator[str]:
    """Yield what is to be said about the number of control planes.

    >>> list(_number_notes(1, 2)), list(_number_notes(2, 0))
    ([], [])
    """
    total = there + added
    if added and total % 2 == 0:
        yield (
            f"there will be {total} control planes: they survive the loss of {(total - 1) // 2}, as {total - 1} would, "
            f"and more of them can fail; {total + 1} survive the loss of {total // 2}"
        )
