# SPDX-License-Identifier: Apache-2.0
"""Read the bootstrap configuration and find every fault of it at once.

Three sieves: YAML (with the line of every key), the JSON Schema beside this file (draft 7), and what a schema
cannot say: that networks are networks and do not overlap. Each fault reads ``FILE:LINE: KEY: what is wrong``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from installer.base.document import Document, Fault, KeyPath, format_path, read_text
from installer.base.errors import ConfigError
from installer.config import leaf as leaves
from installer.config import schema
from installer.config.authority import Authority, examine
from installer.config.leaf import Leaf

DEFAULT_PODS_CIDR = "10.233.0.0/16"
DEFAULT_SERVICES_CIDR = "10.96.0.0/12"
PODS_PREFIXES = range(8, 25)
"""kubeadm gives each node a /24 and refuses more than 2^16 of them. Source: kubeadm validation.go, 1.36."""
SERVICES_PREFIXES = range(12, 29)
"""kube-apiserver takes at most 2^20 addresses, kubeadm wants at least ten. Source: the same."""
DNS_NAME = re.compile(r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
"""What kubeadm takes as a name in certSANs. Source: kubeadm validation.go, ValidateCertSANs."""
CONTAINERD_VERSIONS = ("2", "3", "4")
OWN_PATCHES = (
    "etcd0+json.json",
    "etcd0+strategic.json",
    "kube-apiserver0+json.json",
    "kubeletconfiguration0+strategic.json",
)
"""What Caisson itself gives to kubeadm (salt/_modules/caisson_kubeadm.py); a test compares."""
UNUSABLE = tuple(
    ipaddress.IPv4Network(cidr)
    for cidr in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)


@dataclass(frozen=True)
class Networks:
    """The networks of the cluster; the lists of CIDRs are tried in their order for a local address."""

    control_plane_cidrs: tuple[ipaddress.IPv4Network, ...]
    workload_plane_cidrs: tuple[ipaddress.IPv4Network, ...]
    pods_cidr: ipaddress.IPv4Network
    services_cidr: ipaddress.IPv4Network
    vip: ipaddress.IPv4Address | None = None


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
    allowed_package_changes: tuple[str, ...] = ()

    @property
    def ignored(self) -> Mapping[str, str]:
        """The accepted checks: id to reason."""
        return {entry.id: entry.reason for entry in self.ignore_preflights}


@dataclass(frozen=True)
class Config:
    """A configuration without faults; ``text`` is the file as it was given.

    ``signing_key`` is upper case, empty when none is pinned; an authority is None when the site brings none.
    ``notes`` say what of a good file has no effect in this version.
    """

    cluster_name: str
    networks: Networks
    node_name: str | None
    overrides: Overrides
    file: Path
    text: str
    extra_sans: tuple[str, ...] = ()
    signing_key: str = ""
    images_directory: Path | None = None
    images_iso: Path | None = None
    discard_unpacked_layers: bool = False
    media_certificate: Leaf | None = None
    services_authority: Authority | None = None
    cluster_authority: Authority | None = None
    notes: tuple[str, ...] = ()

    def media_names(self, address: str) -> tuple[str, ...]:
        """Return what nodes ask the media server of this address for: a certificate must be for both."""
        return (address, self.media_name)

    @property
    def endpoint(self) -> str:
        """The DNS name of the control plane."""
        return f"api.{self.cluster_name}.internal"

    @property
    def media_name(self) -> str:
        """The DNS name under which other nodes ask for packages and images."""
        return f"media.{self.cluster_name}.internal"


def load(file: Path, *, host_addresses: Sequence[str] = ()) -> Config:
    """Read and check a configuration file against the addresses of the host, where these are given.

    None of them may lie in the pod or service network, one must lie in each plane.

    Raises:
        ConfigError: it cannot be read, or has faults; all of them are in ``details``.
    """
    text = read_text(
        file,
        "the configuration",
        resolution="give its path with --config FILE; 'bootstrap.sh config init' of the mounted ISO prints a "
        "first one for this host (once installed, also 'caisson config init')",
    )
    return parse(text, file=file, host_addresses=host_addresses)


def parse(text: str, *, file: Path = Path("bootstrap.yaml"), host_addresses: Sequence[str] = ()) -> Config:
    """Check the text of a configuration and return it typed.

    Raises:
        ConfigError: it has faults; all of them are in ``details``.
    """
    document = Document.read(text)
    faults = list(document.faults)
    if document.is_readable:
        faults += schema.find_faults(document, load_schema())
        faults += _network_faults(document, host_addresses)
        faults += _api_server_faults(document)
        faults += _image_faults(document)
        faults += _leaf_faults(document)
        faults += _authority_faults(document)
        faults += _override_faults(document)
    if faults:
        lines = [f"{file}:{fault.line}: {fault.path}: {fault.message}" for fault in _in_order(faults)]
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise ConfigError(
            f"the configuration {file} has {count}",
            details="\n".join(lines),
            resolution="correct all of them; nothing was changed on this host",
        )
    return _build(document.data, file, text)


def parse_checked(text: str, *, host_addresses: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """Return a configuration that another host has found good, and what of it does not fit the addresses of this one.

    The schema is not asked again: out of an archive, as here, jsonschema finds its own files only from Python 3.10 on.
    """
    document = Document.read(text)
    faults = _in_order(_network_faults(document, host_addresses))
    return _build(document.data, Path("bootstrap.yaml"), text), tuple(
        f"{fault.path}: {fault.message}" for fault in faults
    )


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(set(faults), key=lambda fault: (fault.line, fault.path, fault.message))


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration."""
    return schema.load("bootstrap")


def _network_faults(document: Document, host_addresses: Sequence[str]) -> Iterator[Fault]:
    """Check every network by itself, then each pair of them, then against the host's addresses."""
    faults: list[Fault] = []
    planes = {
        plane: _plane(document, plane, host_addresses, faults) for plane in ("controlPlane", "workloadPlane")
    }
    ranges: list[tuple[KeyPath, ipaddress.IPv4Network]] = []
    for name, default, prefixes in (
        ("pods", DEFAULT_PODS_CIDR, PODS_PREFIXES),
        ("services", DEFAULT_SERVICES_CIDR, SERVICES_PREFIXES),
    ):
        path: KeyPath = ("networks", name, "cidr")
        written = document.get("networks", name)
        value = default if written is None else document.get(*map(str, path))
        network = _network(document, path, value, faults)
        if isinstance(network, ipaddress.IPv6Network):
            faults.append(document.fault(path, f"{value} is IPv6; this version of Caisson {ONLY_IPV4}"))
        if not isinstance(network, ipaddress.IPv4Network):
            continue
        if network.prefixlen not in prefixes:
            size = f"between /{prefixes[0]} and /{prefixes[-1]}"
            faults.append(document.fault(path, f"{network} has a wrong size: {size}"))
        ranges.append((path, network))
    yield from faults
    yield from _overlaps(document, planes, ranges)
    for path, network in ranges:
        for address in host_addresses:
            if ipaddress.ip_address(address) in network:
                shown = f"{_named(document, path, network)} holds this host's address {address}"
                yield document.fault(path, shown)
    yield from _vip_faults(document, planes["controlPlane"], ranges)


ONLY_IPV4 = "builds IPv4 clusters only"
Placed = tuple[KeyPath, ipaddress.IPv4Network]


def _plane(
    document: Document, plane: str, host_addresses: Sequence[str], faults: list[Fault]
) -> list[Placed]:
    """Return the IPv4 networks of a plane; add a fault for each that is none, and when no host address fits."""
    placed: list[Placed] = []
    is_good, has_ipv6 = True, False
    cidrs = document.get("networks", plane, "cidrs")
    for index, cidr in enumerate(cidrs if isinstance(cidrs, list) else ()):
        path: KeyPath = ("networks", plane, "cidrs", index)
        network = _network(document, path, cidr, faults)
        if isinstance(network, ipaddress.IPv4Network):
            placed.append((path, network))
        has_ipv6 = has_ipv6 or isinstance(network, ipaddress.IPv6Network)
        is_good = is_good and network is not None
    whole: KeyPath = ("networks", plane, "cidrs")
    if is_good and has_ipv6 and not placed:
        text = f"holds IPv6 networks only; this version of Caisson {ONLY_IPV4}: add an IPv4 one"
        faults.append(document.fault(whole, text))
    elif is_good and placed and host_addresses:
        addresses = [ipaddress.ip_address(address) for address in host_addresses]
        if not any(address in network for _, network in placed for address in addresses):
            tried = ", ".join(str(network) for _, network in placed)
            text = f"no address of this host lies in {tried}; it has {', '.join(host_addresses)}"
            faults.append(document.fault(whole, text))
    return placed


def _vip_faults(document: Document, plane: Sequence[Placed], ranges: Sequence[Placed]) -> Iterator[Fault]:
    vip = document.get("networks", "controlPlane", "vip")
    path: KeyPath = ("networks", "controlPlane", "vip")
    if not isinstance(vip, str):
        return
    try:
        address = ipaddress.IPv4Address(vip)
    except ValueError:
        yield document.fault(path, f"{vip!r} is no IPv4 address, like 10.1.2.3")
        return
    holders = [network for _, network in plane if address in network]
    if plane and not holders:
        tried = ", ".join(str(network) for _, network in plane)
        yield document.fault(path, f"{address} lies in none of networks.controlPlane.cidrs: {tried}")
    for network in holders:
        if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
            yield document.fault(path, f"{address} is the first or last address of {network}")
    for other, network in ranges:
        if address in network:
            yield document.fault(path, f"{address} lies in {format_path(other)} ({network})")


def _overlaps(
    document: Document,
    planes: Mapping[str, Sequence[Placed]],
    ranges: Sequence[Placed],
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
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network that ``value`` writes; None, and a fault, when it is none that can be used."""
    if not isinstance(value, str):
        return None
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        faults.append(document.fault(path, _why_no_network(value)))
        return None
    if network.prefixlen == 0:
        faults.append(document.fault(path, f"{network} is everything, not a network"))
        return None
    for unusable in UNUSABLE:
        if isinstance(network, ipaddress.IPv4Network) and network.overlaps(unusable):
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


def _api_server_faults(document: Document) -> Iterator[Fault]:
    sans = document.get("apiServer", "extraSans")
    for index, san in enumerate(sans if isinstance(sans, list) else ()):
        if not isinstance(san, str) or not san:
            continue
        try:
            ipaddress.ip_address(san)
        except ValueError:
            if DNS_NAME.match(san) and len(san) <= 253 and not san.replace(".", "").isdigit():
                continue
            text = f"{san!r} is neither a DNS name in lower case nor an IP address"
            yield document.fault(("apiServer", "extraSans", index), text)


def _image_faults(document: Document) -> Iterator[Fault]:
    """Yield a fault for each path that is none. What is there the bootstrap looks at: once pushed, it may be gone."""
    for key in ("directory", "iso"):
        value = document.get("images", key)
        if isinstance(value, str) and value and not value.startswith("/"):
            yield document.fault(("images", key), f"{value!r} is no absolute path, like /mnt/images")


def _authority_faults(document: Document) -> Iterator[Fault]:
    for name, installed_file in INSTALLED_AUTHORITIES.items():
        given = _authority(document.get("authorities", name))
        if given is None or (installed_file.is_file() and not given.certificate_file.exists()):
            continue
        for key, text in examine(given):
            yield document.fault(("authorities", name, key), text)


def _leaf_faults(document: Document) -> Iterator[Fault]:
    given = _leaf(document.get("media", "certificate"))
    if given is None or leaves.is_taken_off(given, Path(leaves.INSTALLED_FILE)):
        return
    for key, text in leaves.examine(given):
        yield document.fault(("media", "certificate", key), text)


INSTALLED_AUTHORITIES: Mapping[str, Path] = {
    "services": Path("/etc/caisson/pki/ca.crt"),
    "cluster": Path("/etc/kubernetes/pki/ca.crt"),
}
"""Where the bootstrap puts them. From then on the files of the site may be taken off the host."""


def _authority(entry: object) -> Authority | None:
    """Return the authority of an entry, None when there is none or the schema has a fault for it."""
    if not isinstance(entry, dict):
        return None
    certificate, key = entry.get("certificateFile"), entry.get("keyFile")
    if not isinstance(certificate, str) or not isinstance(key, str) or not certificate or not key:
        return None
    return Authority(Path(certificate), Path(key))


def _leaf(entry: object) -> Leaf | None:
    """Return the certificate of an entry, None when there is none or the schema has a fault for it."""
    if not isinstance(entry, dict):
        return None
    files = [entry.get(key) for key in ("certificateFile", "keyFile", "authorityFile")]
    if not all(isinstance(file, str) and file for file in files):
        return None
    return Leaf(*(Path(str(file)) for file in files))


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
    containerd = document.get("overrides", "containerd")
    problem = containerd_problem(containerd) if isinstance(containerd, str) else ""
    if problem:
        yield document.fault(("overrides", "containerd"), problem)
    yield from _patch_faults(document)


def _patch_faults(document: Document) -> Iterator[Fault]:
    patches = document.get("overrides", "kubeadmPatches")
    for name, text in (patches if isinstance(patches, dict) else {}).items():
        if name in OWN_PATCHES:
            path = ("overrides", "kubeadmPatches", name)
            yield document.fault(path, "is the name of a patch of Caisson's own: give it another")
        if isinstance(text, str):
            try:
                # kubeadm splits a patch file at its '---' and applies each part. Source: kubeadm 1.36, util/patches.
                list(yaml.safe_load_all(text))
            except yaml.YAMLError as exc:
                problem = " ".join(str(exc).split())
                yield document.fault(("overrides", "kubeadmPatches", name), f"is not valid YAML: {problem}")


def containerd_problem(text: str) -> str:
    r"""Return what containerd would misread in a text for it, "" when nothing is seen.

    Python 3.9 reads no TOML: containerd itself reads the whole before it is started with it. A text without a version
    is worse than a fault, since containerd takes its keys for other ones and says nothing.
    Source: containerd 2.3, cmd/containerd/server/config, LoadConfig, "version 0".

    >>> containerd_problem('[plugins."io.containerd.cri.v1.runtime"]')
    "has no 'version = 3' before its first table: containerd would take its keys for those of version 1"
    >>> containerd_problem("# of the site\nversion = 3\n[plugins]"), containerd_problem("version = 3 # new")
    ('', '')
    """
    head = text[: match.start()] if (match := re.search(r"^[ \t]*\[", text, re.MULTILINE)) else text
    versions = re.findall(r"^[ \t]*version[ \t]*=[ \t]*(.*?)[ \t]*(?:#.*)?\r?$", head, re.MULTILINE)
    if not versions and text.strip():
        return "has no 'version = 3' before its first table: containerd would take its keys for those of version 1"
    if len(versions) > 1:
        return "has 'version' more than once"
    is_known = not versions or versions[0] in CONTAINERD_VERSIONS
    return "" if is_known else f"version = {versions[0]}: containerd reads 2, 3 and 4"


def _build(data: Mapping[str, Any], file: Path, text: str) -> Config:
    networks, overrides = data["networks"], data.get("overrides", {})
    control, notes = _ipv4_networks(networks["controlPlane"], "networks.controlPlane.cidrs")
    workload, more_notes = control, notes[:0]
    if "workloadPlane" in networks:
        workload, more_notes = _ipv4_networks(networks["workloadPlane"], "networks.workloadPlane.cidrs")
    vip = networks["controlPlane"].get("vip")
    pods = networks.get("pods", {}).get("cidr", DEFAULT_PODS_CIDR)
    services = networks.get("services", {}).get("cidr", DEFAULT_SERVICES_CIDR)
    authorities = data.get("authorities", {})
    return Config(
        cluster_name=data["clusterName"],
        networks=Networks(
            control_plane_cidrs=control,
            workload_plane_cidrs=workload,
            pods_cidr=ipaddress.IPv4Network(pods),
            services_cidr=ipaddress.IPv4Network(services),
            vip=ipaddress.IPv4Address(vip) if vip else None,
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
            allowed_package_changes=tuple(overrides.get("allowPackageChanges", ())),
        ),
        file=file,
        text=text,
        extra_sans=tuple(data.get("apiServer", {}).get("extraSans", ())),
        signing_key=data.get("media", {}).get("signingKey", "").upper(),
        images_directory=_path(data.get("images", {}).get("directory")),
        images_iso=_path(data.get("images", {}).get("iso")),
        discard_unpacked_layers=bool(data.get("containerd", {}).get("discardUnpackedLayers", False)),
        media_certificate=_leaf(data.get("media", {}).get("certificate")),
        services_authority=_authority(authorities.get("services")),
        cluster_authority=_authority(authorities.get("cluster")),
        notes=(*notes, *more_notes),
    )


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _ipv4_networks(
    plane: Mapping[str, Any], key: str
) -> tuple[tuple[ipaddress.IPv4Network, ...], tuple[str, ...]]:
    """Return the IPv4 networks of a plane, and a note for each of its others."""
    networks = [ipaddress.ip_network(cidr) for cidr in plane["cidrs"]]
    ignored = [str(network) for network in networks if isinstance(network, ipaddress.IPv6Network)]
    notes = tuple(
        f"{key}: {cidr} is IPv6, never chosen: this version of Caisson {ONLY_IPV4}" for cidr in ignored
    )
    return tuple(network for network in networks if isinstance(network, ipaddress.IPv4Network)), notes
