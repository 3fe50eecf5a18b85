# SPDX-License-Identifier: Apache-2.0
"""A server is ours from its start to its end, and whoever holds its port is named."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from lab import servers
from lab.cleanup import is_alive, process_of
from lab.errors import LabError


@pytest.fixture
def port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(tmp_path: Path, port: int, *args: str) -> servers.Server:
    """Return a server that runs Python."""
    return servers.Server(
        name="example",
        args=(sys.executable, "-I", *args),
        port=port,
        path="/",
        log_file=tmp_path / "log" / "example.log",
    )


def web_server(tmp_path: Path, port: int) -> servers.Server:
    """Return Python's own web server."""
    return server(tmp_path, port, "-m", "http.server", "--bind", "127.0.0.1", str(port))


@pytest.mark.subprocess
@pytest.mark.loopback
def test_a_server_answers_while_it_serves_and_is_gone_afterwards(tmp_path: Path, port: int) -> None:
    """Start Python's web server through setpriv."""
    example = web_server(tmp_path, port)
    with servers.serving(example) as url:
        assert servers.fetch_text(url + "/") is not None
        assert servers.fetch_text(url + "/none") is None
        holder = servers.port_holder(port)
        assert holder is not None
        process = process_of(holder.pid)
        assert is_alive(process)
        assert "http.server" in holder.command
        with pytest.raises(LabError, match=f"port {port} .* is taken") as caught:
            servers.start(example)
        assert f"process {holder.pid}" in caught.value.details
    assert not is_alive(process)
    assert servers.port_holder(port) is None


@pytest.mark.subprocess
@pytest.mark.loopback
def test_a_server_that_ends_at_once_shows_its_last_words(tmp_path: Path, port: int) -> None:
    """Start a Python that only says why it will not serve."""
    example = server(tmp_path, port, "-c", "raise SystemExit('no licence for this')")
    with pytest.raises(LabError, match="ended with code 1") as caught:
        servers.start(example)
    assert caught.value.details == "no licence for this"


def test_the_holder_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        holder = servers.port_holder(listening.getsockname()[1])
    assert holder is not None
    assert holder.pid == os.getpid()
    assert str(holder).startswith(f"process {os.getpid()} (")


def test_nobody_holds_a_port_that_is_only_bound() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert servers.port_holder(bound.getsockname()[1]) is None


@pytest.mark.loopback
def test_no_answer_is_none(port: int) -> None:
    assert servers.fetch_text(f"http://127.0.0.1:{port}/") is None
