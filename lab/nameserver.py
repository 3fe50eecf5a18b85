# SPDX-License-Identifier: Apache-2.0
"""The switch's nameserver: answers "no such name" to every question and writes each down; with it, a witness
of every packet that reaches the switch on its way out.

It runs as a program of its own inside the switch's network namespace, so it uses the standard library only.
Both logs hold one JSON object a line and are opened for appending: truncating them starts a new count.

    nameserver.py ADDRESS DEVICE QUERIES_LOG PACKETS_LOG
"""

from __future__ import annotations

import ipaddress
import json
import os
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

DNS_PORT = 53
READY = "ready"
_ETHERNET_IPV4 = 0x0800
_ETHERNET_IPV6 = 0x86DD
_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    65: "HTTPS",
}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


class BadMessageError(ValueError):
    """The bytes are no DNS question."""


def question_of(message: bytes) -> tuple[str, str, int]:
    """Return name (lower case, no final dot), type and end of the first question of a DNS message.

    Source: RFC 1035, 4.1. Compression cannot occur in a first question.

    Raises:
        BadMessageError: it is too short, an answer, or asks nothing.
    """
    if len(message) < 12:
        raise BadMessageError("shorter than a header")
    flags, questions = struct.unpack_from("!HH", message, 2)
    if flags & 0x8000 or questions < 1:
        raise BadMessageError("no question")
    labels: list[str] = []
    at = 12
    try:
        while (length := message[at]) != 0:
            if length > 63:
                raise BadMessageError("a label longer than 63")
            labels.append(message[at + 1 : at + 1 + length].decode("ascii", "backslashreplace"))
            at += 1 + length
        (kind,) = struct.unpack_from("!H", message, at + 1)
    except (IndexError, struct.error) as exc:
        raise BadMessageError("cut short") from exc
    return ".".join(labels).lower(), _TYPES.get(kind, str(kind)), at + 5


def no_such_name(message: bytes, end: int) -> bytes:
    """Return the answer NXDOMAIN to a question that ends at ``end``: same number and question, no record."""
    number, flags = struct.unpack_from("!HH", message)
    header = struct.pack("!HHHHHH", number, 0x8080 | (flags & 0x7900) | 3, 1, 0, 0, 0)
    return header + message[12:end]


def packet_of(frame: bytes) -> dict[str, Any] | None:
    """Return who sends what to whom in an Ethernet frame, or None for what is not IP.

    ``port`` is the destination's; absent where the protocol has none and in a later fragment.
    """
    if len(frame) < 14:
        return None
    (kind,) = struct.unpack_from("!H", frame, 12)
    packet = frame[14:]
    if kind == _ETHERNET_IPV4 and len(packet) >= 20:
        protocol, source, destination = packet[9], packet[12:16], packet[16:20]
        later_fragment = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF != 0
        rest = b"" if later_fragment else packet[(packet[0] & 0x0F) * 4 :]
    elif kind == _ETHERNET_IPV6 and len(packet) >= 40:
        protocol, source, destination, rest = packet[6], packet[8:24], packet[24:40], packet[40:]
    else:
        return None
    seen: dict[str, Any] = {
        "source": str(ipaddress.ip_address(source)),
        "destination": str(ipaddress.ip_address(destination)),
        "protocol": _PROTOCOLS.get(protocol, str(protocol)),
    }
    if protocol in (6, 17) and len(rest) >= 4:
        seen["port"] = struct.unpack_from("!H", rest, 2)[0]
    return seen


class Nameserver:
    """The sockets and the two logs."""

    def __init__(self, address: str, device: str, queries_file: Path, packets_file: Path) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._queries = os.open(queries_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._packets = os.open(packets_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, DNS_PORT))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, DNS_PORT))
        tcp.listen(64)
        witness = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        witness.bind((device, 0x0003))
        for sock, handler in ((udp, self._on_udp), (tcp, self._on_connection), (witness, self._on_frame)):
            sock.settimeout(0)
            self._selector.register(sock, selectors.EVENT_READ, handler)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _on_udp(self, sock: socket.socket) -> None:
        message, peer = sock.recvfrom(65535)
        answer = self._answer(message, peer[0], "udp")
        if answer:
            sock.sendto(answer, peer)

    def _on_connection(self, sock: socket.socket) -> None:
        connection, peer = sock.accept()
        with connection:
            connection.settimeout(2.0)
            try:
                length = struct.unpack("!H", _exactly(connection, 2))[0]
                answer = self._answer(_exactly(connection, length), peer[0], "tcp")
                if answer:
                    connection.sendall(struct.pack("!H", len(answer)) + answer)
            except (OSError, struct.error):
                return

    def _on_frame(self, sock: socket.socket) -> None:
        frame, origin = sock.recvfrom(65535)
        if origin[2] == socket.PACKET_OUTGOING:  # type: ignore[attr-defined,unused-ignore]
            return
        seen = packet_of(frame)
        if seen is None or self._stays(seen):
            return
        _append(self._packets, seen)

    def _stays(self, seen: dict[str, Any]) -> bool:
        """Tell whether a packet is the network's own talk or a question to us, which is in the other log."""
        destination = ipaddress.ip_address(seen["destination"])
        if str(destination) == self._address:
            return seen.get("port") == DNS_PORT or seen["protocol"] == "icmp"
        network = ipaddress.ip_network(f"{self._address}/24", strict=False)
        broadcast = str(destination) == "255.255.255.255"
        return destination in network or destination.is_multicast or destination.is_link_local or broadcast

    def _answer(self, message: bytes, source: str, transport: str) -> bytes | None:
        try:
            name, kind, end = question_of(message)
        except BadMessageError as exc:
            _append(self._queries, {"source": source, "transport": transport, "name": "", "type": str(exc)})
            return None
        _append(self._queries, {"source": source, "transport": transport, "name": name, "type": kind})
        return no_such_name(message, end)


def _append(descriptor: int, fields: dict[str, Any]) -> None:
    line = json.dumps({"time": round(time.time(), 3), **fields}, sort_keys=True)
    os.write(descriptor, line.encode() + b"\n")


def _exactly(connection: socket.socket, size_bytes: int) -> bytes:
    parts = b""
    while len(parts) < size_bytes:
        part = connection.recv(size_bytes - len(parts))
        if not part:
            raise OSError("closed early")
        parts += part
    return parts


def main(argv: list[str]) -> None:
    """Bind, say so on standard output, serve."""
    address, device, queries_file, packets_file = argv
    server = Nameserver(address, device, Path(queries_file), Path(packets_file))
    print(READY, flush=True)
    server.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
