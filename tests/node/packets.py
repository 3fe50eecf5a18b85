# SPDX-License-Identifier: Apache-2.0
"""Packets from a neighbour to every port, with any source, and what of them came past all firewalls of a node.

A chain behind every filter of the node notes who came through, so that a port without a listener is judged as one
with a listener is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lab import frames
from lab.neighbour import INTERFACE, Neighbour
from lab.node import Node

EVERY_PORT = range(1, 65536)
NAMES = {frames.TCP: "tcp", frames.UDP: "udp"}
# Source: firewalld 1.3, nftables.py, NFT_HOOK_OFFSET: its chains have the usual priorities + 10.
_PROOF = """
table inet proof {
  set arrived { type ipv4_addr; flags dynamic; counter; size 65535; }
  set input { type ipv4_addr . inet_proto . inet_service; flags dynamic; size 524288; }
  set forward { type ipv4_addr . inet_proto . inet_service; flags dynamic; size 524288; }
  chain before {
    type filter hook prerouting priority -500;
    iifname { "eth*", "vxlan.calico" } meta l4proto { tcp, udp } update @arrived { ip saddr }
  }
  chain inwards {
    type filter hook input priority 500;
    iifname { "eth*", "vxlan.calico" } meta l4proto { tcp, udp } update @input { ip saddr . meta l4proto . th dport }
  }
  chain onwards {
    type filter hook forward priority 500;
    iifname { "eth*", "vxlan.calico" } meta l4proto { tcp, udp } update @forward { ip saddr . meta l4proto . th dport }
  }
}
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a node saw of a source: how many packets came to it, and (protocol, port) of those that came through.

    ``input``: to the node itself; ``forward``: on to a pod.
    """

    packets: int
    input: frozenset[tuple[str, int]]
    forward: frozenset[tuple[str, int]]


def watch(node: Node) -> None:
    """Start to note, with nothing noted yet; a reboot of the node ends it."""
    unwatch(node)
    node.run(["nft", "--file", "-"], input_text=_PROOF, timeout_s=30)


def unwatch(node: Node) -> None:
    """Note no more."""
    node.run(["nft", "delete", "table", "inet", "proof"], check=False, timeout_s=30)


def seen(node: Node, source: str) -> Seen:
    """Return what was noted of a source since ``watch``."""
    counters = [entry["elem"] for entry in _elements(node, "arrived")]
    passed = {
        name: frozenset(
            (NAMES.get(protocol, protocol), port)
            for address, protocol, port in (entry["concat"] for entry in _elements(node, name))
            if address == source
        )
        for name in ("input", "forward")
    }
    return Seen(
        packets=sum(entry["counter"]["packets"] for entry in counters if entry["val"] == source),
        input=passed["input"],
        forward=passed["forward"],
    )


def send(
    neighbour: Neighbour,
    node: Node,
    target: str,
    ports: Iterable[int],
    *,
    source: str = "",
    tunnel: Any = None,
) -> Seen:
    """Send a SYN and a datagram to each port of ``target``, and return what the node saw.

    They go to the card that the node has in the neighbour's network; ``source``: another address than its own;
    ``tunnel``: see ``lab.frames.frames``.
    """
    watch(node)
    request = {
        "interface": INTERFACE,
        "mac": neighbour.plane.mac_address(node.number),
        "source": source or neighbour.source,
        "target": target,
        "ports": list(ports),
        "tunnel": tunnel,
    }
    program = [sys.executable, "-I", "-S", frames.__file__]
    neighbour.run(program, input_text=json.dumps(request), timeout_s=120)
    return seen(node, source or neighbour.source)


def _elements(node: Node, name: str) -> list[Any]:
    """Return the elements of a set. Source: libnftables-json(5)."""
    listed = node.run(["nft", "--json", "list", "set", "inet", "proof", name], timeout_s=60).stdout
    (found,) = (item["set"] for item in json.loads(listed)["nftables"] if "set" in item)
    elements: list[Any] = found.get("elem", [])
    return elements
