# SPDX-License-Identifier: Apache-2.0
"""What somebody typed into a form logs a job in, by a real sshd; nothing of it is left when the job has ended."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from installer.base.errors import HostError, LoginError, UsageError
from installer.base.paths import Paths
from installer.base.terminal import Told
from installer.config.nodes import NodeEntry
from installer.engine import jobkeys, jobsecrets
from installer.engine.ssh import Connection
from tests.unit.installer.sshd import PASSWORD, Server

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


@pytest.fixture
def memory() -> Iterator[Paths]:
    """Return a host of which /run is in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Paths(Path(directory))


def who_is_it(server: Server, memory: Paths, entry: NodeEntry, secrets: Mapping[str, str]) -> str:
    """Log in as a job does, and ask who one is there."""
    with jobkeys.applied(memory, "a-job", secrets, [entry]) as (entries, answers):
        assert all(file.stat().st_mode & 0o077 == 0 for file in memory.secrets_dir.glob("*"))
        with Connection(entries[0], paths=server.paths, terminal=Told(answers)) as host:
            said = host.run(["id", "-un"], timeout_s=10, as_root=False).stdout
            assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"
    assert not list(memory.secrets_dir.glob("*"))
    return said.strip()


def test_a_private_key_logs_in_and_is_gone(server: Server, memory: Paths) -> None:
    """With the line ends that a browser sends."""
    key = server.identity.read_text().replace("\n", "\r\n").strip()
    entry = replace(server.entry("free"), identity=None)
    assert who_is_it(server, memory, entry, {"key": key}) == "free"


def test_a_key_and_a_password_for_sudo(server: Server, memory: Paths) -> None:
    entry = replace(server.entry("asked"), identity=None)
    secrets = {"key": server.identity.read_text(), "sudo": PASSWORD}
    assert who_is_it(server, memory, entry, secrets) == "asked"


def test_a_password_serves_for_login_and_sudo(server: Server, memory: Paths) -> None:
    entry = server.entry("asked", with_key=False)
    assert who_is_it(server, memory, entry, {"password": PASSWORD}) == "asked"


def test_a_wrong_password_is_refused_in_the_words_of_the_command_line(server: Server, memory: Paths) -> None:
    entry = server.entry("asked", with_key=False)
    with pytest.raises(LoginError, match="password"):
        who_is_it(server, memory, entry, {"password": "wrong"})


def test_a_key_with_a_passphrase(server: Server, memory: Paths, tmp_path: Path) -> None:
    """Its question names the file, which has another name each time."""
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    file = tmp_path / "id"
    shutil.copy(server.identity, file)
    file.chmod(0o600)
    words = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a phrase", "-f", str(file)]
    subprocess.run(words, check=True, capture_output=True)
    entry = replace(server.entry("free"), identity=None)
    secrets = {"key": file.read_text(), "passphrase": "a phrase"}
    assert who_is_it(server, memory, entry, secrets) == "free"


def test_what_was_typed_at_a_terminal_comes_through(memory: Paths) -> None:
    entry = NodeEntry("10.0.0.5")
    typed = {"the password of root on 10.0.0.5: ": "x"}
    with jobkeys.applied(memory, "a-job", typed, [entry]) as (entries, answers):
        assert (entries, answers) == ((entry,), typed)


def test_a_key_on_a_disk_is_refused(memory: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobsecrets, "IN_MEMORY", ())
    with (
        pytest.raises(HostError, match="not in memory"),
        jobkeys.applied(memory, "a-job", {"key": "x"}, [NodeEntry("10.0.0.5")]),
    ):
        pytest.fail("it was applied")
    assert not list(memory.secrets_dir.glob("*"))


def test_what_a_kill_has_left_goes_with_the_next_job(memory: Paths) -> None:
    memory.secrets_dir.mkdir(parents=True)
    (memory.secrets_dir / "killed.key").write_text("a key")
    jobsecrets.put(memory, "another", {})
    assert not list(memory.secrets_dir.glob("*"))


def test_a_public_key_is_refused_at_once() -> None:
    jobkeys.check({"password": "x"})
    with pytest.raises(UsageError, match="no private key"):
        jobkeys.check({"key": "ssh-ed25519 AAAAC3"})
