# SPDX-License-Identifier: Apache-2.0
"""The keys of other hosts: nothing is sent before somebody has confirmed one. Real sshd, ssh-keyscan, ssh-keygen."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from installer.base.errors import HostKeyError, ReachError
from installer.config.nodes import NodeEntry
from installer.engine import hostkeys
from tests.unit.installer.sshd import Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


def test_a_scan_shows_what_ssh_keygen_shows(server: Server) -> None:
    keys = hostkeys.scan(server.entry())
    assert [key.fingerprint for key in keys] == server.fingerprints
    assert [key.kind for key in keys] == ["ssh-ed25519", "ssh-rsa"]


def test_a_given_fingerprint_is_pinned_whichever_key_it_is_of(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    for fingerprint in server.fingerprints:
        key = hostkeys.confirm(file, server.entry(host_key=fingerprint), Typist())
        assert key.fingerprint == fingerprint
        assert hostkeys.known(file, server.entry()) == key
        assert len(file.read_text().splitlines()) == 1
        assert file.stat().st_mode & 0o777 == 0o600


def test_another_fingerprint_is_refused_with_both(server: Server, tmp_path: Path) -> None:
    wrong = "SHA256:" + "A" * 43
    with pytest.raises(HostKeyError) as caught:
        hostkeys.confirm(tmp_path / "known_hosts", server.entry(host_key=wrong), Typist("yes"))
    assert f"expected: {wrong}" in caught.value.details
    assert f"it shows: {server.fingerprints[0]} (ssh-ed25519)" in caught.value.details
    assert not (tmp_path / "known_hosts").exists()


def test_without_a_terminal_the_fingerprint_is_in_the_message(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match="no terminal is there to ask") as caught:
        hostkeys.confirm(tmp_path / "known_hosts", server.entry(host_key=""), Typist())
    assert f"--host-key {server.fingerprints[0]}" in caught.value.resolution
    assert not (tmp_path / "known_hosts").exists()


@pytest.mark.parametrize("answer", ["yes", "YES", "fingerprint"])
def test_it_is_shown_confirmed_and_then_known(server: Server, tmp_path: Path, answer: str) -> None:
    file = tmp_path / "known_hosts"
    typist = Typist(server.fingerprints[0] if answer == "fingerprint" else answer)
    hostkeys.confirm(file, server.entry(host_key=""), typist)
    assert server.fingerprints[0] in typist.questions[0]
    hostkeys.confirm(file, server.entry(host_key=""), Typist())


@pytest.mark.parametrize("answer", ["no", "", "y", "SHA256:" + "A" * 43])
def test_anything_else_is_no(server: Server, tmp_path: Path, answer: str) -> None:
    with pytest.raises(HostKeyError, match="was not confirmed"):
        hostkeys.confirm(tmp_path / "known_hosts", server.entry(host_key=""), Typist(answer))
    assert not (tmp_path / "known_hosts").exists()


def test_a_host_that_was_installed_again_is_confirmed_again(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    other = hostkeys.HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    neighbour = NodeEntry("10.9.9.9")
    hostkeys.remember(file, neighbour, other)
    hostkeys.remember(file, server.entry(), other)
    assert hostkeys.confirm(file, server.entry(), Typist()).fingerprint == server.fingerprints[0]
    assert hostkeys.known(file, neighbour) == other
    hostkeys.forget(file, server.entry())
    assert hostkeys.known(file, server.entry()) is None
    assert hostkeys.known(file, neighbour) == other


def test_who_cannot_be_reached_is_told_apart(server: Server) -> None:
    with pytest.raises(ReachError, match="nobody listens on"):
        hostkeys.reach(replace(server.entry(), port=1))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        entry = replace(server.entry(), port=silent.getsockname()[1])
        with pytest.raises(ReachError, match=r"does not answer within 0\.3 s"):
            hostkeys.reach(entry, timeout_s=0.3)


def test_who_is_no_ssh_server_is_named() -> None:
    with socket.socket() as web:
        web.bind(("127.0.0.1", 0))
        web.listen(2)
        entry = NodeEntry("127.0.0.1", port=web.getsockname()[1])

        def greet() -> None:
            for greeting in (b"HTTP/1.1 400 Bad Request\r\n", b""):
                connection, _ = web.accept()
                connection.sendall(greeting)
                connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(ReachError, match="is no SSH server") as caught:
            hostkeys.reach(entry)
        assert "HTTP/1.1 400" in caught.value.details
        with pytest.raises(ReachError, match="is no SSH server") as caught:
            hostkeys.reach(entry)
        assert "without a word" in caught.value.details
        thread.join()
