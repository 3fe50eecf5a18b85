# SPDX-License-Identifier: Apache-2.0
"""The facts: the first network of each list that holds an address of the host."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest

from installer.base.errors import ConfigError, HostError
from installer.config import facts
from installer.config.facts import Address
from tests.unit.installer.helpers import ADDRESSES, make_config, make_facts


def test_the_second_network_of_each_list_is_taken() -> None:
    found = make_facts()
    assert (found.control_plane_address, found.control_plane_interface) == ("10.77.1.11", "eth0")
    assert (found.workload_plane_address, found.workload_plane_interface) == ("10.77.2.11", "eth1")
    assert (found.control_plane_cidr, found.workload_plane_cidr) == ("10.77.1.0/24", "10.77.2.0/24")
    assert (found.node_name, found.endpoint, found.nameservers) == ("node1", "api.lab.internal", ())


def test_what_matches_nothing_is_named_with_all_that_was_seen() -> None:
    with pytest.raises(ConfigError) as caught:
        facts.gather(make_config("node: {name: n}\n"), ADDRESSES[2:])
    assert caught.value.details.splitlines() == [
        (
            "networks.controlPlane.cidrs: no address of this host lies in any of: 192.0.2.0/24, "
            "10.77.1.0/24; the host's addresses: 10.77.3.11/24 (eth2)"
        ),
        (
            "networks.workloadPlane.cidrs: no address of this host lies in any of: 198.51.100.0/24, "
            "10.77.2.0/24; the host's addresses: 10.77.3.11/24 (eth2)"
        ),
    ]


def test_a_host_name_that_cannot_be_a_node_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my_host")
    with pytest.raises(ConfigError) as caught:
        facts.gather(make_config(), ADDRESSES)
    assert "node.name: 'my_host' cannot be a node's name" in caught.value.details


def test_a_host_name_is_taken_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Node1.Example")
    assert facts.gather(make_config(), ADDRESSES).node_name == "node1.example"


def test_a_virtual_ip_or_a_secondary_address_is_not_the_nodes() -> None:
    cidrs = [ipaddress.IPv4Network("10.1.0.0/24")]
    addresses = [
        Address("eth0", "10.1.0.100", 32),
        Address("eth0", "10.1.0.6", 24, is_secondary=True),
        Address("eth0", "10.1.0.5", 24),
    ]
    found = facts.select(cidrs, addresses)
    assert found is not None
    assert found[1].address == "10.1.0.5"


def test_addresses_of_pods_loopback_and_link_local_are_left_out() -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
        {
            "ifname": "eth0",
            "addr_info": [
                {"family": "inet", "local": "10.1.0.5", "prefixlen": 24, "scope": "global"},
                {
                    "family": "inet",
                    "local": "10.1.0.6",
                    "prefixlen": 24,
                    "scope": "global",
                    "secondary": True,
                },
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
            ],
        },
        {"ifname": "vxlan.calico", "addr_info": [{"family": "inet", "local": "10.233.1.0", "prefixlen": 32}]},
        # Of a check that runs beside: its addresses are those of pods.
        {
            "ifname": "caistrial0",
            "addr_info": [{"family": "inet", "local": "10.233.255.249", "prefixlen": 30}],
        },
        {"ifname": "cali12ab", "addr_info": [{"family": "inet", "local": "10.233.1.1", "prefixlen": 32}]},
        {},
    ]
    assert facts.parse_addresses(json.dumps(links)) == (
        Address("eth0", "10.1.0.5", 24),
        Address("eth0", "10.1.0.6", 24, is_secondary=True),
    )


def test_an_ip_command_that_is_not_iproute2() -> None:
    with pytest.raises(HostError, match="cannot be read"):
        facts.parse_addresses("eth0: 10.1.0.5")


def test_nameservers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# none\nsearch a\nnameserver 10.0.0.1\nnameserver\nnameserver fe80::1%eth0\n")
    assert facts.read_nameservers(file) == ("10.0.0.1", "fe80::1%eth0")
    assert facts.read_nameservers(tmp_path / "none") == ()
