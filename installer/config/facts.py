# SPDX-License-Identifier: Apache-2.0
"""Gather what the configuration leaves to the host: which address, which interface, which name."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import ConfigError, HostError
from installer.base.run import run
from installer.config.bootstrap import Config

NODE_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
POD_INTERFACES = re.compile(
    r"^(cali[0-9a-f]+|vxlan\.calico|vxlan-v6\.calico|tunl0|kube-ipvs0|cni0|flannel\.\d+)$"
)
TRIAL_INTERFACES = ("caistrial0", "caistrial1")
"""This host's ends of what the trial of packets cables, for seconds."""


@dataclass(frozen=True)
class Address:
    """One IPv4 or IPv6 address of the host."""

    interface: str
    address: str
    prefix_length: int
    is_secondary: bool = False

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address without its prefix."""
        return ipaddress.ip_address(self.address)

    @property
    def network(self) -> str:
        """The network that it lies in."""
        return str(ipaddress.ip_interface(f"{self.address}/{self.prefix_length}").network)

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length} ({self.interface})"


@dataclass(frozen=True)
class Facts:
    """What was found on the host; the CIDRs are those of the configuration that matched."""

    node_name: str
    control_plane_address: str
    control_plane_interface: str
    control_plane_cidr: str
    workload_plane_address: str
    workload_plane_interface: str
    workload_plane_cidr: str
    nameservers: tuple[str, ...]
    endpoint: str


def gather(
    config: Config, addresses: Sequence[Address], *, resolv_conf_file: Path = Path("/etc/resolv.conf")
) -> Facts:
    """Match the configuration with the host.

    Raises:
        ConfigError: a list of CIDRs matches no address, or the node has no usable name; all faults at once.
    """
    faults: list[str] = []
    chosen: list[tuple[str, Address]] = []
    for key, cidrs in (
        ("networks.controlPlane.cidrs", config.networks.control_plane_cidrs),
        ("networks.workloadPlane.cidrs", config.networks.workload_plane_cidrs),
    ):
        found = select(cidrs, addresses)
        if found is None:
            faults.append(_no_match(key, cidrs, addresses))
        else:
            chosen.append(found)
    node_name = config.node_name or host_name()
    if not NODE_NAME.match(node_name) or len(node_name) > 63:
        faults.append(
            f"node.name: '{node_name}' cannot be a node's name: lower case letters, digits, '-' and '.', "
            "at most 63 characters"
        )
    if faults:
        raise ConfigError(
            "the configuration does not match this host",
            details="\n".join(faults),
            resolution=f"correct {config.file}, or the addresses and the name of this host",
        )
    (control_cidr, control), (workload_cidr, workload) = chosen
    return Facts(
        node_name=node_name,
        control_plane_address=control.address,
        control_plane_interface=control.interface,
        control_plane_cidr=control_cidr,
        workload_plane_address=workload.address,
        workload_plane_interface=workload.interface,
        workload_plane_cidr=workload_cidr,
        nameservers=read_nameservers(resolv_conf_file),
        endpoint=config.endpoint,
    )


def select(
    cidrs: Sequence[ipaddress.IPv4Network], addresses: Sequence[Address]
) -> tuple[str, Address] | None:
    """Return the first CIDR that a host address lies in, with that address; None when none does.

    Within one CIDR an interface's first address wins over its secondary ones, and an address with a network
    over a /32 (which is how a virtual IP looks).

    >>> eth0, eth1 = Address("eth0", "10.1.0.5", 24), Address("eth1", "10.2.0.5", 24)
    >>> select([ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("10.2.0.0/16")], [eth0, eth1])
    ('10.2.0.0/16', Address(interface='eth1', address='10.2.0.5', prefix_length=24, is_secondary=False))
    """
    ranked = sorted(addresses, key=lambda address: (address.is_secondary, address.prefix_length == 32))
    for cidr in cidrs:
        for address in ranked:
            if address.ip in cidr:
                return str(cidr), address
    return None


def read_addresses() -> tuple[Address, ...]:
    """Ask the kernel for the addresses of this host, without loopback's and those that pods brought."""
    return parse_addresses(run(["ip", "-json", "address", "show"], timeout_s=10).stdout)


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Parse the output of ``ip -json address show``.

    Link-local addresses are left out: they name no network.

    Raises:
        HostError: it is no such output.
    """
    try:
        found = []
        for link in json.loads(text):
            name = str(link.get("ifname", ""))
            if name == "lo" or not name or POD_INTERFACES.match(name) or name.startswith(TRIAL_INTERFACES):
                continue
            for info in link.get("addr_info", ()):
                if info.get("family") not in ("inet", "inet6") or info.get("scope") == "link":
                    continue
                found.append(
                    Address(
                        name, str(info["local"]), int(info["prefixlen"]), bool(info.get("secondary", False))
                    )
                )
        return tuple(found)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise HostError(
            "the addresses of this host cannot be read",
            details=f"'ip -json address show' gave: {text[:200]!r} ({exc})",
            resolution="check that 'ip' is iproute2's own",
        ) from exc


def read_default_interface() -> str:
    """Ask the kernel for the interface of the default route with the lowest metric; empty when there is none."""
    return parse_default_interface(
        run(["ip", "-json", "-4", "route", "show", "default"], timeout_s=10).stdout
    )


def parse_default_interface(text: str) -> str:
    """Parse the output of ``ip -json route show default``.

    >>> parse_default_interface('[{"dev": "eth1", "metric": 101}, {"dev": "eth0", "metric": 100}]')
    'eth0'
    >>> parse_default_interface('[{"type": "blackhole", "dst": "default"}]'), parse_default_interface("")
    ('', '')
    """
    try:
        routes = [route for route in json.loads(text or "[]") if route.get("dev")]
        return str(min(routes, key=lambda route: int(route.get("metric", 0)))["dev"]) if routes else ""
    except (ValueError, TypeError, AttributeError):
        return ""


def read_nameservers(file: Path) -> tuple[str, ...]:
    """Return the nameservers of resolv.conf in order; none when there is no such file.

    Zone suffixes (``fe80::1%eth0``) are kept as written.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    words = (line.split() for line in text.splitlines())
    return tuple(line[1] for line in words if len(line) >= 2 and line[0] == "nameserver")


def host_name() -> str:
    """Return the host's name as kubeadm would take it: lower case."""
    return socket.gethostname().strip().lower()


def _no_match(key: str, cidrs: Sequence[ipaddress.IPv4Network], addresses: Sequence[Address]) -> str:
    tried = ", ".join(str(cidr) for cidr in cidrs)
    seen = ", ".join(str(address) for address in addresses) or "none"
    return f"{key}: no address of this host lies in any of: {tried}; the host's addresses: {seen}"
