# SPDX-License-Identifier: Apache-2.0
"""Read the bootstrap configuration and find every fault of it at once.

Three sieves: YAML (with the line of every key), the JSON Schema beside this file (draft 7), and what a schema
cannot say: that networks are networks and do not overlap. Each fault reads ``FILE:LINE: KEY: what is wrong``.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import jsonschema
import yaml

from installer.document import Document, Fault, KeyPath, format_path, kind_of
from installer.errors import ConfigError

SCHEMA_FILE = Path(__file__).with_name("bootstrap.schema.json")
DEFAULT_PODS_CIDR = "10.233.0.0/16"
DEFAULT_SERVICES_CIDR = "10.96.0.0/12"
PODS_PREFIXES = range(8, 25)
"""kubeadm gives each node a /24 and refuses more than 2^16 of them. Source: kubeadm validation.go, 1.36."""
SERVICES_PREFIXES = range(12, 29)
"""kube-apiserver takes at most 2^20 addresses, kubeadm wants at least ten. Source: the same."""
UNUSABLE = tuple(
    ipaddress.IPv4Network(cidr)
    for cidr in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


@dataclass(frozen=True)
class Networks:
    """The networks of the cluster; the lists of CIDRs are tried in turn for a local address."""

    control_plane_cidrs: tuple[ipaddress.IPv4Network, ...]
    workload_plane_cidrs: tuple[ipaddress.IPv4Network, ...]
    pods_cidr: ipaddress.IPv4Network
    services_cidr: ipaddress.IPv4Network


@dataclass(frozen=True)
class IgnoredPreflight:
    """A check whose failure the site accepts."""

    id: str
    reason: str


@dataclass(frozen=True)
class Overrides:
    """What a site changes beyond the rest; everything empty when not given."""

    containerd: str = ""
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    kube_proxy: Mapping[str, Any] = field(default_factory=dict)
    kubeadm_patches: Mapping[str, str] = field(default_factory=dict)
    ignore_preflights: tuple[IgnoredPreflight, ...] = ()

    @property
    def ignored(self) -> Mapping[str, str]:
        """The accepted checks: id to reason."""
        return {entry.id: entry.reason for entry in self.ignore_preflights}


@dataclass(frozen=True)
class Config:
    """A configuration without faults; ``text`` is the file as it was given."""

    cluster_name: str
    networks: Networks
    node_name: str | None
    overrides: Overrides
    file: Path
    text: str

    @property
    def endpoint(self) -> str:
        """The DNS name of the control plane."""
        return f"api.{self.cluster_name}.internal"


def load(file: Path, *, host_addresses: Sequence[str] = ()) -> Config:
    """Read and check a configuration file; ``host_addresses`` must lie in no pod or service network.

    Raises:
        ConfigError: it cannot be read, or has faults; all of them are in ``details``.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"the configuration {file} cannot be read",
            details=str(exc),
            resolution="give its path with --config FILE; 'caisson config init' writes a first one",
        ) from exc
    return parse(text, file=file, host_addresses=host_addresses)


def parse(text: str, *, file: Path = Path("bootstrap.yaml"), host_addresses: Sequence[str] = ()) -> Config:
    """Check the text of a configuration and return it typed.

    Raises:
        ConfigError: it has faults; all of them are in ``details``.
    """
    document = Document.read(text)
    faults = list(document.faults)
    if document.is_readable:
        faults += _schema_faults(document)
        faults += _network_faults(document, host_addresses)
        faults += _override_faults(document)
    if faults:
        ordered = sorted(set(faults), key=lambda fault: (fault.line, fault.path, fault.message))
        lines = [f"{file}:{fault.line}: {fault.path}: {fault.message}" for fault in ordered]
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise ConfigError(
            f"the configuration {file} has {count}",
            details="\n".join(lines),
            resolution="correct all of them; nothing was changed on this host",
        )
    return _build(document.data, file, text)


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _schema_faults(document: Document) -> Iterator[Fault]:
    schema = load_schema()
    known = sorted(set(_known_keys(schema)))
    for error in jsonschema.Draft7Validator(schema).iter_errors(document.data):
        path: KeyPath = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
            allowed = error.schema["properties"]
            for key in error.instance:
                if key not in allowed:
                    yield document.fault((*path, str(key)), _unknown_key(str(key), sorted(allowed), known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    yield document.fault((*path, key), "is missing")
        elif "propertyNames" in error.absolute_schema_path:
            yield document.fault((*path, str(error.instance)), _bad_name(error))
        else:
            yield document.fault(path, _message(error))


def _unknown_key(key: str, allowed: Sequence[str], known: Sequence[str]) -> str:
    folded = {name.replace("_", "").replace("-", "").lower(): name for name in allowed}
    near = [folded[name] for name in difflib.get_close_matches(_fold(key), list(folded), n=1, cutoff=0.6)]
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    if key in known:
        return f"unknown key here; '{key}' belongs elsewhere; known here: {', '.join(allowed)}"
    return f"unknown key; known here: {', '.join(allowed)}"


def _fold(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()


def _known_keys(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in schema.values():
            yield from _known_keys(value)


def _bad_name(error: jsonschema.ValidationError) -> str:
    if error.validator == "not":
        return "is set by Caisson: leave it out"
    return f"is no name that can stand here: {_schema_of(error).get('description', error.message)}"


def _schema_of(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, dict) else {}


def _message(error: jsonschema.ValidationError) -> str:
    """Return a schema fault in plain words."""
    say = MESSAGES.get(str(error.validator))
    schema = _schema_of(error)
    return say(error.instance, error.validator_value, schema) if say is not None else str(error.message)


MESSAGES: Mapping[str, Callable[[Any, Any, Mapping[str, Any]], str]] = {
    "type": lambda value, limit, _: f"must be {_kind_name(str(limit))}, not {kind_of(value)}",
    "const": lambda value, limit, _: f"must be '{limit}', not {value!r}",
    "pattern": lambda value, limit, schema: f"{value!r} is not allowed: {schema.get('description', limit)}",
    "minItems": lambda _value, limit, _: f"must have at least {limit} entr{'y' if limit == 1 else 'ies'}",
    "uniqueItems": lambda _value, _limit, _: "holds the same entry twice",
    "minLength": lambda value, limit, _: f"{value!r} is too short: at least {limit} characters",
    "maxLength": lambda value, limit, _: f"is too long: {len(value)} characters, at most {limit}",
}


def _kind_name(schema_type: str) -> str:
    names = {
        "object": "a mapping of keys",
        "array": "a list",
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
    return names.get(schema_type, schema_type)


def _network_faults(document: Document, host_addresses: Sequence[str]) -> Iterator[Fault]:
    """Check every network by itself, then each pair of them, then against the host's addresses."""
    faults: list[Fault] = []
    planes: dict[str, list[tuple[KeyPath, ipaddress.IPv4Network]]] = {}
    for plane in ("controlPlane", "workloadPlane"):
        cidrs = document.get("networks", plane, "cidrs")
        planes[plane] = []
        for index, cidr in enumerate(cidrs if isinstance(cidrs, list) else ()):
            path: KeyPath = ("networks", plane, "cidrs", index)
            network = _network(document, path, cidr, faults)
            if network is not None:
                planes[plane].append((path, network))
    ranges: list[tuple[KeyPath, ipaddress.IPv4Network]] = []
    for name, default, prefixes in (
        ("pods", DEFAULT_PODS_CIDR, PODS_PREFIXES),
        ("services", DEFAULT_SERVICES_CIDR, SERVICES_PREFIXES),
    ):
        path = ("networks", name, "cidr")
        written = document.get("networks", name)
        network = _network(
            document, path, default if written is None else document.get(*map(str, path)), faults
        )
        if network is None:
            continue
        if network.prefixlen not in prefixes:
            faults.append(
                document.fault(
                    path, f"{network} has a wrong size: between /{prefixes[0]} and /{prefixes[-1]}"
                )
            )
        ranges.append((path, network))
    yield from faults
    yield from _overlaps(document, planes, ranges)
    for path, network in ranges:
        for address in host_addresses:
            if ipaddress.ip_address(address) in network:
                yield document.fault(
                    path, f"{_named(document, path, network)} holds this host's address {address}"
                )


def _overlaps(
    document: Document,
    planes: Mapping[str, Sequence[tuple[KeyPath, ipaddress.IPv4Network]]],
    ranges: Sequence[tuple[KeyPath, ipaddress.IPv4Network]],
) -> Iterator[Fault]:
    everything = [*planes["controlPlane"], *planes["workloadPlane"], *ranges]
    for first_index, (first_path, first) in enumerate(everything):
        for second_path, second in everything[first_index + 1 :]:
            if not first.overlaps(second):
                continue
            are_planes = first_path[2] == "cidrs" and second_path[2] == "cidrs"
            if are_planes and (first == second or first_path[1] == second_path[1]):
                continue
            shown = f"{_named(document, second_path, second)} overlaps {format_path(first_path)} ({first})"
            yield document.fault(second_path, shown)


def _named(document: Document, path: KeyPath, network: ipaddress.IPv4Network) -> str:
    return str(network) if path in document.lines else f"the default {network}"


def _network(
    document: Document, path: KeyPath, value: object, faults: list[Fault]
) -> ipaddress.IPv4Network | None:
    """Return the network that ``value`` writes; None, and a fault, when it is none that can be used."""
    if not isinstance(value, str):
        return None
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        faults.append(document.fault(path, _why_no_network(value)))
        return None
    if isinstance(network, ipaddress.IPv6Network):
        faults.append(
            document.fault(path, f"{value} is IPv6; this version of Caisson builds IPv4 clusters only")
        )
        return None
    if network.prefixlen == 0:
        faults.append(document.fault(path, f"{network} is everything, not a network"))
        return None
    for unusable in UNUSABLE:
        if network.overlaps(unusable):
            faults.append(
                document.fault(path, f"{network} cannot be used: it overlaps the reserved {unusable}")
            )
            return None
    return network


def _why_no_network(value: str) -> str:
    """Say why a text is no network, with what was probably meant.

    >>> _why_no_network("10.1.2.3/24")
    "'10.1.2.3/24' is an address inside a network; did you mean '10.1.2.0/24'?"
    """
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"{value!r} is no network: write it as ADDRESS/PREFIX, like 10.1.2.0/24"
    return f"{value!r} is an address inside a network; did you mean '{loose}'?"


def _override_faults(document: Document) -> Iterator[Fault]:
    ignored = document.get("overrides", "ignorePreflights")
    seen: set[str] = set()
    for index, entry in enumerate(ignored if isinstance(ignored, list) else ()):
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        path: KeyPath = ("overrides", "ignorePreflights", index, "id")
        if name.lower() == "all":
            yield document.fault(path, "'all' is not accepted: name each check, with its reason")
        if name in seen:
            yield document.fault(path, f"'{name}' is there twice")
        seen.add(name)
    patches = document.get("overrides", "kubeadmPatches")
    for name, text in (patches if isinstance(patches, dict) else {}).items():
        if isinstance(text, str):
            try:
                yaml.safe_load(text)
            except yaml.YAMLError as exc:
                problem = " ".join(str(exc).split())
                yield document.fault(("overrides", "kubeadmPatches", name), f"is not valid YAML: {problem}")


def _build(data: Mapping[str, Any], file: Path, text: str) -> Config:
    networks = data["networks"]
    control = tuple(ipaddress.IPv4Network(cidr) for cidr in networks["controlPlane"]["cidrs"])
    workload = networks.get("workloadPlane")
    overrides = data.get("overrides", {})
    return Config(
        cluster_name=data["clusterName"],
        networks=Networks(
            control_plane_cidrs=control,
            workload_plane_cidrs=tuple(map(ipaddress.IPv4Network, workload["cidrs"]))
            if workload
            else control,
            pods_cidr=ipaddress.IPv4Network(networks.get("pods", {}).get("cidr", DEFAULT_PODS_CIDR)),
            services_cidr=ipaddress.IPv4Network(
                networks.get("services", {}).get("cidr", DEFAULT_SERVICES_CIDR)
            ),
        ),
        node_name=data.get("node", {}).get("name"),
        overrides=Overrides(
            containerd=overrides.get("containerd", ""),
            kubelet=overrides.get("kubelet", {}),
            kube_proxy=overrides.get("kubeProxy", {}),
            kubeadm_patches=overrides.get("kubeadmPatches", {}),
            ignore_preflights=tuple(
                IgnoredPreflight(entry["id"], entry["reason"])
                for entry in overrides.get("ignorePreflights", ())
            ),
        ),
        file=file,
        text=text,
    )
