# SPDX-License-Identifier: Apache-2.0
"""The virtual address: what each node works out by itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.salt.test_modules import load

VIP = "10.77.1.100"
ADDRESSES = {"node1": "10.77.1.11", "node3": "10.77.1.13", "node4": "10.77.1.14"}


def of(name: str, *, vip: str | None = VIP) -> dict[str, Any]:
    """Return the part of a control plane's pillar that is looked at."""
    return {
        "node": {
            "name": name,
            "role": "control-plane" if name in ADDRESSES else "worker",
            "control_plane_address": ADDRESSES.get(name, "10.77.1.12"),
            "control_plane_interface": "eth0",
        },
        "networks": {"vip": vip},
        "control_planes": [{"name": node, "address": address} for node, address in ADDRESSES.items()],
    }


def test_every_control_plane_names_the_others_and_nobody_else() -> None:
    peers = load("caisson_vip").peers
    for name, address in ADDRESSES.items():
        assert sorted([*peers(of(name)), address]) == sorted(ADDRESSES.values())
    assert peers(of("worker")) == []
    assert peers(of("node1", vip=None)) == []


def test_they_agree_on_the_router_and_differ_in_priority() -> None:
    facts = load("caisson_vip").facts
    told = [facts(of(name), 6443) for name in ADDRESSES]
    assert {one["router"] for one in told} == {int.from_bytes(bytes([10, 77, 1, 100]), "big") % 255 + 1}
    assert len({one["priority"] for one in told}) == len(ADDRESSES)


@pytest.mark.parametrize("vip", ["10.0.0.0", "10.0.0.255", "10.77.1.100", "192.168.255.254", "172.16.0.1"])
def test_a_router_id_is_one_of_vrrp(vip: str) -> None:
    """Source: RFC 5798, 5.2.3: 1 to 255; and 5.2.4: 255 is the owner's priority, 0 says that the holder goes."""
    module = load("caisson_vip")
    assert 1 <= module.facts(of("node1", vip=vip), 6443)["router"] <= 255
    assert 1 <= module.priority(vip) <= 254
