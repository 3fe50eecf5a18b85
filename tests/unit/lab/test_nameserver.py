# SPDX-License-Identifier: Apache-2.0
"""Questions, answers and packets, byte by byte."""

from __future__ import annotations

import struct

import pytest

from lab.nameserver import BadMessageError, no_such_name, packet_of, question_of

QUESTION = (
    struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 1)
    + b"\x07Example\x03COM\x00"
    + struct.pack("!HH", 28, 1)
    + b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"  # EDNS, which the answer leaves out
)


def test_a_question_is_understood() -> None:
    assert question_of(QUESTION) == ("example.com", "AAAA", 12 + 13 + 4)


def test_the_answer_repeats_number_and_question_and_says_no_such_name() -> None:
    name, _, end = question_of(QUESTION)
    answer = no_such_name(QUESTION, end)
    number, flags, questions, answers, authorities, additional = struct.unpack_from("!HHHHHH", answer)
    assert (number, questions, answers, authorities, additional) == (0x1234, 1, 0, 0, 0)
    assert flags & 0x8000  # an answer
    assert flags & 0x000F == 3  # NXDOMAIN
    assert flags & 0x0100  # recursion was asked for: repeated
    assert answer[12:] == QUESTION[12:end]
    assert name == "example.com"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        QUESTION[:11],
        QUESTION[:20],
        QUESTION[:26],
        QUESTION[:2] + b"\x81" + QUESTION[3:],
        QUESTION[:4] + b"\x00\x00" + QUESTION[6:],
        QUESTION[:12] + b"\xc0\x0c" + QUESTION[14:],
    ],
)
def test_what_is_no_question_is_refused(message: bytes) -> None:
    with pytest.raises(BadMessageError):
        question_of(message)


def ipv4(protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0,
        bytes([10, 77, 3, 11]), bytes([203, 0, 113, 1]),
    )  # fmt: skip
    return b"\x00" * 12 + b"\x08\x00" + header + payload


def test_packets_are_named() -> None:
    tcp = packet_of(ipv4(6, struct.pack("!HH", 40000, 443)))
    assert tcp == {"source": "10.77.3.11", "destination": "203.0.113.1", "protocol": "tcp", "port": 443}
    icmp = packet_of(ipv4(1, b"\x08\x00\x00\x00"))
    assert icmp == {"source": "10.77.3.11", "destination": "203.0.113.1", "protocol": "icmp"}


def test_a_later_fragment_has_no_port() -> None:
    seen = packet_of(ipv4(17, b"\x00\x35\x00\x35", fragment=100))
    assert seen is not None
    assert "port" not in seen


def test_ipv6_and_the_rest() -> None:
    header = struct.pack("!IHBB", 6 << 28, 4, 17, 64) + bytes(15) + b"\x01" + bytes(15) + b"\x02"
    seen = packet_of(b"\x00" * 12 + b"\x86\xdd" + header + struct.pack("!HH", 1, 53))
    assert seen == {"source": "::1", "destination": "::2", "protocol": "udp", "port": 53}
    assert packet_of(b"\x00" * 12 + b"\x08\x06" + bytes(28)) is None  # ARP
    assert packet_of(b"\x00" * 5) is None
