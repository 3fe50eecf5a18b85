# SPDX-License-Identifier: Apache-2.0
"""So many requests a second, each a connection of its own: a server and a client, for the namespaces of pods.

Both run on a node, which has this file on their standard input: nothing but the standard library, one file. The client
starts each request at its time, however late the answers of others are; its report, as JSON: how many were sent, how
many failed and how, and how long the slowest took.
"""

from __future__ import annotations

import collections
import json
import select
import socket
import sys
import time

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
BACKLOG = 4096


def serve(address: str, port: int) -> None:
    """Answer for ever."""
    waiting: dict[int, socket.socket] = {}
    with socket.create_server((address, port), backlog=BACKLOG) as door, select.epoll() as poll:
        door.settimeout(0)
        poll.register(door, select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                if number != door.fileno():
                    poll.unregister(number)
                    _answer(waiting.pop(number))
                    continue
                for caller in _callers(door):
                    waiting[caller.fileno()] = caller
                    poll.register(caller, select.EPOLLIN)


def _callers(door: socket.socket) -> list[socket.socket]:
    """Take everyone who stands at the door."""
    found = []
    while True:
        try:
            found.append(door.accept()[0])
        except OSError:
            return found


def _answer(caller: socket.socket) -> None:
    with caller:
        try:
            caller.recv(4096)
            caller.sendall(ANSWER)
        except OSError:
            pass  # the client's report has it


class Client:
    """Requests under way: each with its socket, when it began, and what came back so far."""

    def __init__(self, target: tuple[str, int], timeout_s: float) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.sent = 0
        self.slowest_s = 0.0
        self.failures: collections.Counter[str] = collections.Counter()
        self.poll = select.epoll()
        self.open: dict[int, tuple[socket.socket, float]] = {}
        self.order: collections.deque[tuple[float, int, socket.socket]] = collections.deque()

    def begin(self) -> None:
        """Start one request."""
        self.sent += 1
        connection = socket.socket()
        connection.settimeout(0)
        connection.connect_ex(self.target)
        now = time.monotonic()
        self.open[connection.fileno()] = (connection, now)
        self.order.append((now, connection.fileno(), connection))
        self.poll.register(connection, select.EPOLLOUT)

    def step(self, wait_s: float) -> None:
        """Take up whatever comes within a time, then give up what is too old."""
        for number, _ in self.poll.poll(wait_s):
            self._take(number)
        now = time.monotonic()
        while self.order and (self.order[0][2].fileno() < 0 or now - self.order[0][0] > self.timeout_s):
            _, number, connection = self.order.popleft()
            if connection.fileno() >= 0:
                self._end(number, f"no answer in {self.timeout_s:g} s")

    def _take(self, number: int) -> None:
        connection, began = self.open[number]
        fault = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            self._end(number, f"errno {fault}")
            return
        try:
            content = connection.recv(4096)
        except BlockingIOError:
            connection.send(REQUEST)
            self.poll.modify(number, select.EPOLLIN)
            return
        except OSError as error:
            self._end(number, f"errno {error.errno}")
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self._end(number, "" if content == ANSWER else "cut short")

    def _end(self, number: int, failure: str) -> None:
        connection, _ = self.open.pop(number)
        self.poll.unregister(number)
        connection.close()
        if failure:
            self.failures[failure] += 1


def ask(target: tuple[str, int], rate: int, seconds: float, timeout_s: float) -> dict[str, object]:
    """Send ``rate`` requests a second for so long; return the report once each has its answer or has none."""
    client = Client(target, timeout_s)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        for _ in range(int(passed * rate) - client.sent):
            client.begin()
        client.step(0.001)
    lasted_s = time.monotonic() - began
    while client.open:
        client.step(0.01)
    return {
        "sent": client.sent,
        "per_second": round(client.sent / lasted_s),
        "failures": dict(client.failures),
        "slowest_s": round(client.slowest_s, 3),
    }


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    print(json.dumps(ask((sys.argv[2], int(sys.argv[3])), int(sys.argv[4]), float(sys.argv[5]), 20.0)))
