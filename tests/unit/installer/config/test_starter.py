# SPDX-License-Identifier: Apache-2.0
"""The first configuration proposes a network that config check takes, on hosts as they are."""

from __future__ import annotations

import ipaddress

import pytest

from installer.config import bootstrap, starter
from installer.config.facts import Address

BMC, BRIDGE = Address("usb0", "169.254.3.1", 24), Address("docker0", "172.17.0.1", 16)
FIRST, SECOND = Address("eth0", "10.1.0.5", 24), Address("eth1", "10.2.0.5", 24)


@pytest.mark.parametrize(
    ("addresses", "default_interface", "control"),
    [
        ((FIRST, SECOND), "", "10.1.0.0/24"),
        ((FIRST, SECOND), "eth1", "10.2.0.0/24"),
        ((BMC, BRIDGE, FIRST), "", "10.1.0.0/24"),
        ((BMC, FIRST, SECOND), "eth1", "10.2.0.0/24"),
        ((BMC, BRIDGE), "", starter.EXAMPLE_CIDR),
        ((Address("docker0", "10.233.0.1", 16), FIRST), "eth0", "10.1.0.0/24"),
    ],
)
def test_the_control_plane(addresses: tuple[Address, ...], default_interface: str, control: str) -> None:
    text = starter.render(addresses, "node1", default_interface=default_interface)
    found = bootstrap.parse(text)
    assert [str(cidr) for cidr in found.networks.control_plane_cidrs] == [control]
    assert not any(found.networks.pods_cidr.overlaps(_network(address)) for address in addresses)


def _network(address: Address) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(address.network)
