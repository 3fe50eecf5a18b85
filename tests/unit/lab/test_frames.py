# SPDX-License-Identifier: Apache-2.0
"""Frames made by hand are such as a kernel takes: sums, lengths, addresses."""

from __future__ import annotations

import struct

from lab import frames

SOURCE, TARGET, MAC = "10.233.77.7", "10.77.1.11", "02:ca:15:00:01:0b"


def test_a_packet_has_a_sum_that_fits_and_its_addresses() -> None:
    content = frames.datagram(SOURCE, TARGET, 53, b"odd")
    assert frames.checksum(content[:20]) == 0
    assert struct.unpack("!H", content[2:4]) == (len(content),)
    assert content[12:20] == bytes([10, 233, 77, 7, 10, 77, 1, 11])
    assert struct.unpack("!HHHH", content[20:28]) == (frames.SOURCE_PORT, 53, 11, 0)


def test_a_syn_has_a_sum_that_fits() -> None:
    segment = frames.syn(SOURCE, TARGET, 6443)[20:]
    pseudo = bytes([10, 233, 77, 7, 10, 77, 1, 11, 0, frames.TCP, 0, len(segment)])
    assert frames.checksum(pseudo + segment) == 0
    assert (struct.unpack("!H", segment[2:4])[0], segment[13]) == (6443, 2)


def test_a_packet_for_another_port_is_as_if_made_for_it() -> None:
    for port in (1, 22, 6443, 40000, 65535):
        for make in (frames.syn, frames.datagram):
            assert frames.aimed(make(SOURCE, TARGET, 0), port) == make(SOURCE, TARGET, port)


def test_each_port_is_tried_by_both_protocols_on_the_card_that_is_named() -> None:
    request = {"source": SOURCE, "target": TARGET, "mac": MAC, "ports": [1, 9]}
    made = list(frames.frames(request))
    assert [(one[14 + 9], struct.unpack("!H", one[36:38])[0]) for one in made] == [
        (frames.TCP, 1),
        (frames.UDP, 1),
        (frames.TCP, 9),
        (frames.UDP, 9),
    ]
    assert {one[:6].hex(":") for one in made} == {MAC}


def test_a_tunnel_carries_the_frame_to_the_port_of_vxlan() -> None:
    inner_mac = "66:00:00:00:00:01"
    tunnel = {"source": "10.77.2.150", "target": "10.77.2.11", "mac": inner_mac, "network": 4096}
    request = {"source": SOURCE, "target": TARGET, "mac": MAC, "ports": [22], "tunnel": tunnel}
    outer = next(frames.frames(request))
    assert outer[14 + 12 : 14 + 20] == bytes([10, 77, 2, 150, 10, 77, 2, 11])
    assert struct.unpack("!H", outer[36:38]) == (frames.VXLAN_PORT,)
    assert outer[42:50] == bytes(
        [8, 0, 0, 0, 0, 16, 0, 0]
    )  # RFC 7348: the flag, then the number 4096 of 24 bits
    assert outer[50:56].hex(":") == inner_mac
    assert outer[50 + 14 :] == frames.syn(SOURCE, TARGET, 22)
