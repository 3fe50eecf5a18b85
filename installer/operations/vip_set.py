# SPDX-License-Identifier: Apache-2.0
"""See whether the control plane may be given a virtual address, another one, or none any more."""

from __future__ import annotations

import ipaddress

from installer.base.errors import ClusterError, ConfigError, HostError
from installer.base.paths import Paths
from installer.checks import neighbours
from installer.config import changes
from installer.config.facts import Facts
from installer.operations import vip_state

RESOLUTION = "choose an address that nobody has, and that no DHCP server gives away; nothing was changed"


def refuse(paths: Paths, address: str, facts: Facts) -> None:
    """Refuse a change of the virtual address that would break something; "" gives it up. No change is fine.

    Raises:
        ClusterError: there are further control planes, which were made for what is now.
        ConfigError, HostError: see :func:`refuse_taken`.
    """
    known = changes.recorded(paths) or {}
    now, own = str(known.get("networks", {}).get("vip") or ""), str(known.get("node", {}).get("name", ""))
    if address == now:
        return
    others = sorted({*vip_state.control_planes(known)} - {own})
    if others:
        raise ClusterError(
            f"the virtual address of a cluster with further control planes stays: {now or 'there is none'}",
            details=f"{', '.join(others)}: their certificates, and where their API servers listen, were made for it",
            resolution="remove them ('caisson node remove NAME'), run the same command again, then add them again",
        )
    if address:
        refuse_taken(address, facts)


def refuse_taken(address: str, facts: Facts) -> None:
    """Refuse an address that a host has already, or that could not move.

    Raises:
        ConfigError: it lies in another network than this host: no other one could take it over.
        HostError: this host has it as one of its own, or another one answers for it.
    """
    if ipaddress.ip_address(address) not in ipaddress.ip_network(facts.control_plane_cidr):
        raise ConfigError(
            f"networks.controlPlane.vip: {address} is not in {facts.control_plane_cidr}, where this host is",
            details=f"this host has {facts.control_plane_address}; a virtual address is taken over by ARP, within one "
            "network",
            resolution=f"choose a free address of {facts.control_plane_cidr}",
        )
    if vip_state.is_here(address):
        raise HostError(f"{address} is an address of this host", resolution=RESOLUTION)
    try:
        found = neighbours.find_owner(address, facts.control_plane_interface)
    except OSError as exc:
        raise HostError(
            f"nobody can be asked on {facts.control_plane_interface} whether they have {address}",
            details=str(exc),
            resolution="see 'ip link': the interface of the control plane must be up",
        ) from exc
    if found:
        raise HostError(
            f"another host has {address}",
            details=f"the hardware address {found} answers for it on {facts.control_plane_interface}",
            resolution=RESOLUTION,
        )
