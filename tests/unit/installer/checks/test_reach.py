# SPDX-License-Identifier: Apache-2.0
"""What is tried between hosts, between two addresses of loopback and two namespaces."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from installer.base import namespaces
from installer.base.run import run
from installer.checks import reach
from installer.checks.reach import Network

pytestmark = pytest.mark.loopback


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port(protocol: str, number: int) -> dict[str, object]:
    return {"protocol": protocol, "address": "127.0.0.1", "port": number}


def test_what_listens_is_reached_and_what_is_forgotten_is_not(network: Network) -> None:
    ports = [port("tcp", free_port()), port("udp", free_port())]
    assert network.listen({"ports": ports, "peers": []}) == {"held": []}
    assert network.connect({"targets": ports})["outcomes"] == ["open", "open"]
    network.forget({})
    assert network.connect({"targets": ports})["outcomes"] == ["refused", "refused"]
    assert network.listen({"ports": ports}) == {"held": []}


def test_a_port_that_another_holds_is_told(network: Network) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        held = port("tcp", other.getsockname()[1])
        assert network.listen({"ports": [held, port("udp", free_port())], "peers": []}) == {"held": [held]}
        assert network.connect({"targets": [held]})["outcomes"] == ["open"]


def test_a_datagram_whose_answer_is_lost_was_heard(network: Network) -> None:
    """Whoever sent it does not know; the listener does."""
    ports = [port("tcp", free_port()), port("udp", free_port())]
    network.listen({"ports": ports, "peers": []})
    word = b"8 bytes."
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for data in (word, b"noise of another length"):
            asking.sendto(data, ("127.0.0.1", int(str(ports[1]["port"]))))
        sent = network.connect({"targets": ports})["words"]
        assert network.heard({}) == {"words": sorted([sent[1], word.hex()])}
    network.listen({"ports": ports, "peers": []})
    assert network.heard({}) == {"words": []}


def test_many_connections_are_answered(network: Network) -> None:
    ports = [port("tcp", free_port()) for _ in range(5)]
    network.listen({"ports": ports, "peers": []})
    assert network.connect({"targets": ports * 10})["outcomes"] == ["open"] * 50


@pytest.mark.subprocess
@pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket and a network namespace are used: needs root")
def test_the_largest_packet_that_passes_is_found() -> None:
    """Loopback of a namespace of its own, whose MTU is what the test says."""
    inside = namespaces.Network()

    def passes(mtu: int) -> object:
        return inside.call(lambda: Network().measure_path({"address": "127.0.0.1", "mtu": mtu}))["passes"]

    try:
        inside.call(lambda: run(["ip", "link", "set", "lo", "mtu", "1400", "up"], timeout_s=10))
        assert passes(1400) == 1400
        # An interface that allows more than the way: the kernel refuses what is larger than it.
        assert passes(1500) == 1400
        inside.call(lambda: run(["ip", "link", "set", "lo", "down"], timeout_s=10))
        assert passes(1400) == 0
    finally:
        inside.close()


def test_an_echo_request_has_the_right_checksum() -> None:
    for size in (0, 1, 2, 57):
        packet = reach._echo_request(0xBEEF, 7, size)
        padded = packet + b"\0" * (len(packet) % 2)
        total = sum(int.from_bytes(padded[index : index + 2], "big") for index in range(0, len(padded), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF
        assert len(packet) == size + 8
