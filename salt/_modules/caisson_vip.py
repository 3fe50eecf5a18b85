# SPDX-License-Identifier: Apache-2.0
"""The control plane's virtual address: what keepalived is told on this node, and whether a node has the address.

Peers, priority and router id follow from the addresses of the control planes, so that every node works out the same
ones by itself.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

ADVERT_S = 1
HIGHEST_PRIORITY = 254
PRIORITIES = 16
CONNECT_TIMEOUT_S = 2.0
NONE = "0.0.0.0"  # noqa: S104  no address, bound to by nobody: where the site has no virtual one, nothing reads it


def facts(caisson: dict[str, Any], port: int) -> dict[str, Any]:
    """Return what the files of keepalived say on this node. Pure.

    ``router`` tells routers of one network apart, where several are heard; here only named peers are.
    """
    node, vip = caisson["node"], caisson["networks"]["vip"] or NONE
    return {
        "name": node["name"],
        "interface": node["control_plane_interface"],
        "address": node["control_plane_address"],
        "vip": vip,
        "router": int(ipaddress.ip_address(vip)) % 255 + 1,
        "priority": priority(node["control_plane_address"]),
        "advert_s": ADVERT_S,
        "peers": peers(caisson),
        "port": port,
    }


def priority(address: str) -> int:
    """Return a node's priority, which follows from its address alone. Pure.

    It decides only how many milliseconds after the others a node takes an address that nobody has: the lower, the
    later. That two have the same is settled by their addresses. Source: RFC 5798, 6.1, Skew_Time, and 6.4.3.

    >>> priority("10.77.1.11"), priority("10.77.1.12")
    (243, 242)
    """
    return HIGHEST_PRIORITY - int(ipaddress.ip_address(address)) % PRIORITIES


def is_shared(caisson: dict[str, Any]) -> bool:
    """Tell whether this node is one of those that share a virtual address. Pure."""
    return bool(caisson["networks"]["vip"]) and caisson["node"]["role"] != "worker"


def peers(caisson: dict[str, Any]) -> list[str]:
    """Return with which addresses this node shares the virtual one: none where there is none, or on a worker. Pure."""
    own = caisson["node"]["control_plane_address"]
    found = {entry["address"] for entry in caisson["control_planes"]} if is_shared(caisson) else set()
    return sorted(found - {own}, key=ipaddress.ip_address)


def fault(address: str, port: int, peers: list[str]) -> str:
    """Return "" when this node has the address, or another one answers there; else what is missing."""
    if is_here(address):
        return ""
    if not peers:
        return f"this node to have {address}: see 'crictl logs' of the container keepalived"
    try:
        with socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S):
            return ""
    except OSError as error:
        return f"{address} to be had by a node: {error}"


def is_here(address: str) -> bool:
    """Tell whether an address is one of this host's interfaces'."""
    command = ["ip", "-oneline", "address", "show", "to", address]
    return bool(__salt__["cmd.run_stdout"](command, python_shell=False, timeout=30).strip())
