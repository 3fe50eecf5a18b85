# SPDX-License-Identifier: Apache-2.0
"""The guard of tests/unit/conftest.py does refuse, and lets through what a mark allows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def _refused() -> Iterator[None]:
    with pytest.raises(BaseException, match="in a unit test") as caught:
        yield
    assert not isinstance(caught.value, Exception)


def test_programs_are_refused() -> None:
    with _refused():
        subprocess.run(["true"], check=False)
    with _refused():
        os.system("true")  # noqa: S605
    with _refused():
        os.fork()


def test_the_network_is_refused() -> None:
    with socket.socket() as stream, _refused():
        stream.connect(("192.0.2.1", 80))
    with _refused():
        socket.getaddrinfo("example.com", 80)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, _refused():
        datagram.sendto(b"", ("192.0.2.1", 53))


def test_loopback_is_refused_without_its_mark() -> None:
    with socket.socket() as stream, _refused():
        stream.connect(("127.0.0.1", 9))


@pytest.mark.loopback
def test_loopback_is_open_with_its_mark_and_nothing_else_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    with socket.socket() as stream, _refused():
        stream.connect(("192.0.2.1", 80))


@pytest.mark.subprocess
def test_programs_run_with_their_mark() -> None:
    """Starts Python."""
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0
