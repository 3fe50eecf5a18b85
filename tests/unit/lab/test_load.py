# SPDX-License-Identifier: Apache-2.0
"""The load generator counts what failed, and says how: against real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from lab import load

pytestmark = pytest.mark.loopback

ADDRESS = "127.0.0.1"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server((ADDRESS, 0)) as door:
        port: int = door.getsockname()[1]
        return port


@pytest.fixture
def server() -> int:
    """Return the port of a server that runs."""
    port = free_port()
    threading.Thread(target=load.serve, args=(ADDRESS, port), daemon=True).start()  # it has no end
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0:
                break
        time.sleep(0.01)
    return port


def test_every_request_has_its_answer(server: int) -> None:
    report = load.ask((ADDRESS, server), 200, 0.5, 5)
    assert report["failures"] == {}
    assert 90 <= int(str(report["sent"])) <= 100
    assert 0 <= float(str(report["slowest_s"])) < 5


def test_a_refusal_is_a_failure() -> None:
    report = load.ask((ADDRESS, free_port()), 50, 0.2, 1)
    assert report["failures"] == {"errno 111": report["sent"]}


def test_no_answer_is_a_failure() -> None:
    with socket.create_server((ADDRESS, 0)) as door:  # takes connections, and says nothing
        report = load.ask((ADDRESS, door.getsockname()[1]), 50, 0.1, 0.3)
    assert report["failures"] == {"no answer in 0.3 s": report["sent"]}
