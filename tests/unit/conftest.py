# SPDX-License-Identifier: Apache-2.0
"""Refuse the network and other programs to unit tests, unless a test says that it needs them.

- ``@pytest.mark.subprocess``: the test starts real programs (its docstring says which and why);
- ``@pytest.mark.loopback``: the test talks to a server of its own on 127.0.0.1.

Nothing lifts the refusal of addresses other than loopback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"}
)
CONNECT_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
NAME_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
WATCHED_EVENTS = PROCESS_EVENTS | CONNECT_EVENTS | NAME_EVENTS
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost", b"127.0.0.1", b"::1", b"localhost"})


class Refused(BaseException):
    """A unit test reached for the world outside. No ``except Exception`` hides a BaseException."""


class _Guard:
    """What the running test may do. One audit hook reads it: hooks cannot be removed, so it is added once."""

    active = False
    processes = False
    loopback = False

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """Raise ``Refused`` for a watched event that the running test has not asked for."""
        if not self.active or event not in WATCHED_EVENTS:
            return
        if event in PROCESS_EVENTS:
            if not self.processes:
                raise Refused(
                    f"{event} in a unit test ({args[:2]!r}): mark it @pytest.mark.subprocess if it must"
                )
            return
        host = _host_of(event, args)
        if host is None:
            return
        if host not in LOOPBACK_HOSTS:
            raise Refused(f"{event} to {host!r} in a unit test: no mark allows this")
        if not self.loopback:
            raise Refused(f"{event} to {host!r} in a unit test: mark it @pytest.mark.loopback if it must")


def _host_of(event: str, args: tuple[object, ...]) -> object:
    """Return the host that an event is about; None for a Unix socket, which stays on this machine."""
    if event in NAME_EVENTS:
        return args[0] if args[0] is not None else "localhost"
    address = args[1] if len(args) > 1 else None
    return address[0] if isinstance(address, tuple) else None


_guard = _Guard()
sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _refuse_the_world(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse what the test's marks do not allow, from here until the test has ended."""
    _guard.processes = request.node.get_closest_marker("subprocess") is not None
    _guard.loopback = request.node.get_closest_marker("loopback") is not None
    _guard.active = True
    try:
        yield
    finally:
        _guard.active = False
