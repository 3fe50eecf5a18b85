# SPDX-License-Identifier: Apache-2.0
"""Try the network between hosts: listen where a node will listen, connect, and measure what fits into a packet.

Every listener ends with its process. A host whose firewalld runs is told, at run time only and for a limited time, to
let the named hosts in to these ports. The node's own rules will say the same permanently; what stops the packets then
stands between the hosts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from installer.base.errors import InstallerError
from installer.base.run import run

CONNECT_TIMEOUT_S = 3.0
DATAGRAM_TIMEOUT_S = 0.7
DATAGRAM_TRIES = 3
WORD_BYTES, WORDS_KEPT = 8, 4096
OPEN_FOR_S = 180
"""How long firewalld lets the others in, should nobody tell it to stop."""
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""Set DF and take no path's known size into account. Source: linux/in.h; ip(7)."""
IP_AND_ICMP_BYTES = 28
SMALL_BYTES = 128
OPEN, REFUSED, NO_WAY, SILENT = "open", "refused", "no way", "silent"


class Network:
    """What this host holds open for the others, while it is looked at."""

    def __init__(self) -> None:
        self._listeners: list[socket.socket] = []
        self._rules: dict[str, list[str]] = {}
        self._thread: threading.Thread | None = None
        self._heard: set[bytes] = set()
        self._is_over = threading.Event()

    def listen(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Listen on ``ports`` (each protocol, address, port, interface) for ``peers``; return what others hold.

        A connection is accepted and closed, a datagram is sent back.
        """
        self.forget({})
        self._is_over, self._heard = threading.Event(), set()
        held = []
        for port in request["ports"]:
            try:
                self._listeners.append(_listener(port["protocol"], port["address"], int(port["port"])))
            except OSError as exc:
                if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                held.append(port)
        own = [port for port in request["ports"] if port not in held]
        if own and request.get("peers"):
            self._let_in(own, request["peers"])
        self._thread = threading.Thread(
            target=_answer, args=(list(self._listeners), self._is_over, self._heard), daemon=True
        )
        self._thread.start()
        return {"held": held}

    def connect(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Try ``targets`` (each protocol, address, port) side by side; return what came of each, in order.

        With it comes the word that was sent in datagrams: whoever listens is asked whether it was heard, when the
        answer did not get through. Calico lets VXLAN's port leave untracked, so a packet filter takes answers for new.
        """
        targets = request["targets"]
        outcomes = [""] * len(targets)
        words = [os.urandom(WORD_BYTES) for _ in targets]

        def attempt(index: int) -> None:
            target = targets[index]
            place = (target["address"], int(target["port"]))
            is_datagram = target["protocol"] == "udp"
            outcomes[index] = _try_datagram(place, words[index]) if is_datagram else _try_connection(place)

        threads = [threading.Thread(target=attempt, args=(index,)) for index in range(len(targets))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"outcomes": outcomes, "words": [word.hex() for word in words]}

    def heard(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  the shape of all answers
        """Return the words that came in datagrams since it listens."""
        return {"words": sorted(word.hex() for word in set(self._heard))}

    def measure_path(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the largest packet, up to ``mtu`` bytes, that reaches ``address`` whole and is answered; 0: none."""
        address, mtu = str(request["address"]), int(request["mtu"])
        if not _echoes(address, SMALL_BYTES):
            return {"passes": 0}
        if _echoes(address, mtu):
            return {"passes": mtu}
        low, high = SMALL_BYTES, mtu
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _echoes(address, middle) else (low, middle)
        return {"passes": low}

    def forget(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002  the shape of all answers
        """Close every listener, and let firewalld forget what it was told."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for zone, rules in self._rules.items():
            _firewall(zone, "remove", rules)
        self._rules = {}
        return {}

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(InstallerError, OSError):
            self.forget({})

    def _let_in(self, ports: Sequence[Mapping[str, Any]], peers: Sequence[str]) -> None:
        state = run(["systemctl", "is-active", "firewalld.service"], timeout_s=30, check=False).stdout.strip()
        if state != "active":
            return
        for port in ports:
            self._rules.setdefault(_zone(str(port["interface"])), []).extend(
                f"rule family=ipv4 source address={peer}/32 port port={port['port']} protocol={port['protocol']} accept"
                for peer in peers
            )
        for zone, rules in self._rules.items():
            _firewall(zone, "add", rules)


def _zone(interface: str) -> str:
    """Return firewalld's zone of an interface."""
    zone = run(
        ["firewall-cmd", f"--get-zone-of-interface={interface}"], timeout_s=30, check=False
    ).stdout.strip()
    return zone or run(["firewall-cmd", "--get-default-zone"], timeout_s=30).stdout.strip()


def _firewall(zone: str, verb: str, rules: Sequence[str]) -> None:
    limit = [f"--timeout={OPEN_FOR_S}"] if verb == "add" else []
    words = [f"--{verb}-rich-rule={rule}" for rule in rules]
    run(["firewall-cmd", "--quiet", f"--zone={zone}", *limit, *words], timeout_s=60, check=verb == "add")


def _listener(protocol: str, address: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        made.settimeout(0.0)
    except BaseException:
        made.close()
        raise
    return made


def _answer(listeners: Sequence[socket.socket], is_over: threading.Event, heard: set[bytes]) -> None:
    while not is_over.is_set():
        ready, _, _ = select.select(listeners, [], [], 0.2)
        for listener in ready:
            with contextlib.suppress(OSError):
                if listener.type == socket.SOCK_DGRAM:
                    data, peer = listener.recvfrom(2048)
                    if len(data) == WORD_BYTES and len(heard) < WORDS_KEPT:
                        heard.add(data)
                    listener.sendto(data, peer)
                else:
                    connection, _ = listener.accept()
                    connection.close()


def _try_connection(target: tuple[str, int]) -> str:
    try:
        with socket.create_connection(target, CONNECT_TIMEOUT_S):
            return OPEN
    except ConnectionRefusedError:
        return REFUSED
    except socket.timeout:
        return SILENT
    except OSError as exc:
        return SILENT if exc.errno == errno.ETIMEDOUT else NO_WAY


def _try_datagram(target: tuple[str, int], word: bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(DATAGRAM_TIMEOUT_S)
        for _ in range(DATAGRAM_TRIES):
            try:
                asking.connect(target)
                asking.send(word)
                if asking.recv(64) == word:
                    return OPEN
            except ConnectionRefusedError:
                return REFUSED
            except socket.timeout:
                continue
            except OSError:
                return NO_WAY
    return SILENT


def _echoes(address: str, size_bytes: int) -> bool:
    """Say whether a host answers to an echo request that fills a packet of this size, which nobody may cut (DF).

    Source: RFC 792, "Echo or Echo Reply Message"; ip(7), IP_MTU_DISCOVER.
    """
    number = int.from_bytes(os.urandom(2), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        for sequence in range(DATAGRAM_TRIES):
            packet = _echo_request(number, sequence, size_bytes - IP_AND_ICMP_BYTES)
            try:
                raw.sendto(packet, (address, 0))
            except OSError as exc:
                if exc.errno != errno.EMSGSIZE:
                    continue
                return False
            if _is_answered(raw, address, number, len(packet)):
                return True
    return False


def _is_answered(raw: socket.socket, address: str, number: int, size_bytes: int) -> bool:
    deadline = time.monotonic() + DATAGRAM_TIMEOUT_S
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([raw], [], [], left_s)[0]:
            return False
        data, peer = raw.recvfrom(70_000)
        answer = data[(data[0] & 15) * 4 :]
        is_echo = len(answer) == size_bytes and answer[0] == 0
        if peer[0] == address and is_echo and answer[4:6] == struct.pack("!H", number):
            return True


def _echo_request(number: int, sequence: int, data_bytes: int) -> bytes:
    """Return an ICMP echo request with this much data.

    >>> _echo_request(1, 2, 2).hex()
    '0800f7fc000100020000'
    """
    data = bytes(data_bytes)
    head = struct.pack("!BBHHH", 8, 0, 0, number, sequence)
    packed = head + data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(packed) // 2}H", packed))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, number, sequence) + data
