# SPDX-License-Identifier: Apache-2.0
"""Send frames that no honest sender would: any source address, to each of some ports, bare or in a VXLAN tunnel.

A program of its own, run in a neighbour's network: its standard input says what to send, as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

TCP = 6
UDP = 17
SOURCE_PORT = 40000
VXLAN_PORT = 4789
BATCH = 256
PAUSE_S = 0.001
"""After each batch: what the kernel's queue of received frames (1000 a CPU) does not hold is lost."""


def checksum(data: bytes) -> int:
    """Return the checksum of IPv4 and of what it carries. Source: RFC 1071.

    >>> hex(checksum(bytes.fromhex("4500003044224000800600008c7c19acae241e2b")))
    '0x442e'
    """
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def packet(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet. Source: RFC 791."""
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol)
    return start + struct.pack("!H", checksum(start + addresses)) + addresses + payload


def syn(source: str, target: str, port: int) -> bytes:
    """Return the first packet of a TCP connection to a port. Source: RFC 9293."""
    segment = struct.pack("!HHIIBBHHH", SOURCE_PORT, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    value = checksum(addresses + struct.pack("!BBH", 0, TCP, len(segment)) + segment)
    return packet(source, target, TCP, segment[:16] + struct.pack("!H", value) + segment[18:])


def aimed(content: bytes, port: int) -> bytes:
    """Return a packet that was made for port 0, for another one: a SYN's sum is corrected. Source: RFC 1624."""
    start, end = content[:22] + struct.pack("!H", port), content[24:]
    if content[9] == TCP:
        total = 0xFFFF - struct.unpack("!H", content[36:38])[0] + port
        end = content[24:36] + struct.pack("!H", 0xFFFF - (total & 0xFFFF) - (total >> 16)) + content[38:]
    return start + end


def datagram(source: str, target: str, port: int, payload: bytes = b"") -> bytes:
    """Return a UDP packet to a port, without a checksum, as IPv4 allows. Source: RFC 768."""
    return packet(source, target, UDP, struct.pack("!HHHH", SOURCE_PORT, port, 8 + len(payload), 0) + payload)


def frame(target_mac: str, content: bytes, source_mac: str = "02:00:00:00:00:99") -> bytes:
    """Return an Ethernet frame with an IPv4 packet."""
    return bytes.fromhex((target_mac + source_mac).replace(":", "")) + b"\x08\x00" + content


def tunnelled(content: bytes, network: int) -> bytes:
    """Return a frame as VXLAN carries it. Source: RFC 7348."""
    return struct.pack("!II", 0x08 << 24, network << 8) + content


def frames(request: dict[str, Any]) -> Iterator[bytes]:
    """Yield a SYN and a datagram to each port, from ``source`` to ``target``, for the card ``mac``.

    With ``tunnel`` (``source``, ``target``, ``mac`` inside, ``network``) the packets come inside VXLAN packets.
    """
    source, target, tunnel = request["source"], request["target"], request.get("tunnel")
    prototypes = (syn(source, target, 0), datagram(source, target, 0))
    for port in request["ports"]:
        for content in (aimed(prototype, port) for prototype in prototypes):
            if not tunnel:
                yield frame(request["mac"], content)
                continue
            inner = tunnelled(frame(tunnel["mac"], content), tunnel["network"])
            outer = datagram(tunnel["source"], tunnel["target"], VXLAN_PORT, inner)
            yield frame(request["mac"], outer)


def main() -> None:
    """Send what standard input says; print how many frames that were."""
    request = json.load(sys.stdin)
    count = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as card:
        card.bind((request["interface"], 0))
        for count, content in enumerate(frames(request), 1):
            card.send(content)
            if count % BATCH == 0:
                time.sleep(PAUSE_S)
    print(count)


if __name__ == "__main__":
    main()
