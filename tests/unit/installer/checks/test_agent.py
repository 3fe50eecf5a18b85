# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself when it is looked at from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.checks import agent
from installer.config.facts import Address
from tests.unit.installer.helpers import ADDRESSES, make_facts

LINKS = {
    "eth0": {"ifname": "eth0", "address": "52:54:00:00:00:01", "mtu": 1500},
    "eth1": {"ifname": "eth1", "address": "52:54:00:00:00:02", "mtu": 9000},
    "virbr0": {"ifname": "virbr0", "address": "52:54:00:00:00:03", "mtu": 1500},
}


def test_who_it_is(tmp_path: Path) -> None:
    for name, text in (("etc/machine-id", "ab\n"), ("sys/class/dmi/id/product_uuid", "4C4C-0042\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert agent.identify(ADDRESSES[:2], make_facts(), LINKS, root=tmp_path) == {
        "name": "node1",
        "machine_id": "ab",
        "product_uuid": "4c4c-0042",
        "addresses": ["10.77.1.11", "10.77.2.11"],
        "hardware_addresses": ["52:54:00:00:00:01", "52:54:00:00:00:02"],
        "workload_mtu": 9000,
    }


@pytest.mark.parametrize("name", ["virbr0", "docker0", "podman1", "br-0123456789ab"])
def test_bridges_within_a_host_are_the_same_on_many(name: str, tmp_path: Path) -> None:
    links = {**LINKS, name: LINKS["virbr0"]}
    inward = (*ADDRESSES[:1], Address(name, "192.168.122.1", 24))
    found = agent.identify(inward, None, links, root=tmp_path)
    assert found["addresses"] == ["10.77.1.11"]
    assert found["hardware_addresses"] == ["52:54:00:00:00:01"]
    assert found["workload_mtu"] == 0


@pytest.mark.subprocess
def test_interfaces_are_those_of_the_network_it_is_in() -> None:
    assert agent.read_links()["lo"]["mtu"] > 1500
