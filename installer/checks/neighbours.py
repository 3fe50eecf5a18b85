# SPDX-License-Identifier: Apache-2.0
"""Ask the network of an interface who has an address, as a host does before it takes one (RFC 5227, 2.1.1)."""

from __future__ import annotations

import socket
import struct
import time

ARP = 0x0806
ETHERNET, IPV4 = 1, 0x0800
REQUEST, ANSWER = 1, 2
TRIES = 3
WAIT_S = 0.4
NOBODY = b"\x00" * 6
EVERYBODY = b"\xff" * 6
HEADER = struct.Struct("!HHBBH6s4s6s4s")


def request(own: bytes, address: str) -> bytes:
    """Return the frame that asks who has an address, from a host that has none yet. Pure."""
    target = socket.inet_aton(address)
    body = HEADER.pack(ETHERNET, IPV4, 6, 4, REQUEST, own, b"\x00" * 4, NOBODY, target)
    return EVERYBODY + own + struct.pack("!H", ARP) + body


def owner(frame: bytes, address: str) -> str:
    """Return the hardware address that a frame says has the address, empty when it says nothing of it. Pure."""
    if len(frame) < 14 + HEADER.size or frame[12:14] != struct.pack("!H", ARP):
        return ""
    found = HEADER.unpack_from(frame, 14)
    is_answer = found[4] == ANSWER and found[6] == socket.inet_aton(address)
    return ":".join(f"{byte:02x}" for byte in found[5]) if is_answer else ""


def find_owner(address: str, interface: str) -> str:
    """Return the hardware address of the other host that has an address, empty when nobody answers.

    Raises:
        OSError: this user, or this interface, cannot ask.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as asker:
        asker.bind((interface, ARP))
        own = asker.getsockname()[4]
        for _ in range(TRIES):
            asker.send(request(own, address))
            ends_at = time.monotonic() + WAIT_S
            while (left := ends_at - time.monotonic()) > 0:
                asker.settimeout(left)
                try:
                    found = owner(asker.recv(128), address)
                except socket.timeout:
                    break
                if found and found != ":".join(f"{byte:02x}" for byte in own):
                    return found
    return ""
