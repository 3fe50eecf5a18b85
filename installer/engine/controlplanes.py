# SPDX-License-Identifier: Apache-2.0
"""Say which control planes the cluster has, and in which order a node asks them: what the pillars here say.

The bootstrap node is the first of them. A further one is known from when its pillar is written, which is before it
joins: the others let it in then. It *serves* once it has joined, and only then its address stands behind the cluster's
endpoint on other nodes. On itself it stands there from the beginning: until something listens, it is refused at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer.engine import pillartop
from installer.engine.context import Context

ROLE = "control-plane"


@dataclass(frozen=True)
class ControlPlane:
    """A control plane by the name of its node and its address in the control plane's network."""

    name: str
    address: str
    serves: bool


def known(context: Context) -> tuple[ControlPlane, ...]:
    """Return the bootstrap node, then the further ones that have a pillar here, by name."""
    facts = context.facts
    first = ControlPlane(facts.node_name, str(facts.control_plane_address), serves=True)
    staying = [caisson for caisson in pillartop.pillars(context.paths) if not is_leaving(caisson)]
    further = [
        ControlPlane(str(node["name"]), str(node["control_plane_address"]), bool(node.get("serves")))
        for node in (caisson["node"] for caisson in staying)
        if node["role"] == ROLE
    ]
    return (first, *sorted(further, key=lambda entry: entry.name))


def leaving(caisson: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pillar of a control plane that is being removed: it is known by its name, and counts no more. Pure."""
    return {**caisson, "node": {**caisson["node"], "leaves": True}}


def is_leaving(caisson: Mapping[str, Any]) -> bool:
    """Tell whether the removal of the node of a pillar has begun to be told. Pure."""
    return bool(caisson["node"].get("leaves"))


def listed(control_planes: Sequence[ControlPlane]) -> list[dict[str, str]]:
    """Return them as a pillar has them: whom etcd lets in. Pure."""
    return [{"name": entry.name, "address": entry.address} for entry in control_planes]


def endpoint_addresses(control_planes: Sequence[ControlPlane], node_name: str) -> list[str]:
    """Return the addresses behind the endpoint's name, in the order in which a node tries them. Pure.

    Its own first, where it is one of them; then the others, beginning at another one on each node: so not all of them
    wait for the same one when it is gone.

    >>> three = [ControlPlane(f"cp{number}", f"10.0.0.{number}", number != 3) for number in (1, 2, 3)]
    >>> endpoint_addresses(three, "cp2"), sorted(endpoint_addresses(three, "worker"))
    (['10.0.0.2', '10.0.0.1'], ['10.0.0.1', '10.0.0.2'])
    """
    own = [entry.address for entry in control_planes if entry.name == node_name]
    others = [entry.address for entry in control_planes if entry.serves and entry.name != node_name]
    begin = zlib.crc32(node_name.encode()) % max(1, len(others))
    return [*own, *others[begin:], *others[:begin]]
