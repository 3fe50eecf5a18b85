# SPDX-License-Identifier: Apache-2.0
"""Commands on another host, by a real sshd on loopback with real users, passwords and sudo."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from installer.base.errors import CommandError, HostKeyError, LoginError, ReachError
from installer.base.paths import Paths
from installer.config.nodes import NodeEntry
from installer.engine import hostkeys, ssh
from installer.engine.ssh import Connection
from tests.unit.installer import sshd
from tests.unit.installer.sshd import PASSWORD, Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


def connect(
    server: Server, entry: NodeEntry | None = None, *answers: str, needs_root: bool = True
) -> Connection:
    return Connection(
        entry or server.entry(), paths=server.paths, terminal=Typist(*answers), needs_root=needs_root
    )


def test_a_command_and_what_it_leaves(server: Server) -> None:
    with connect(server) as host:
        said = host.run(["sh", "-c", "cat; echo err >&2; exit 255"], timeout_s=10, stdin=b"a\nb", check=False)
        assert (said.returncode, said.stdout, said.stderr) == (255, "a\nb", "err\n")
        assert host.run(["true"], timeout_s=10).stdout == ""
        assert host.run(["echo", "x"], timeout_s=10).stdout == "x\n"
        with pytest.raises(CommandError, match=r"'sh' failed on 127\.0\.0\.1: exit code 3") as caught:
            host.run(["sh", "-c", "echo why >&2; exit 3"], timeout_s=10)
        assert "| why" in caught.value.details
        assert host.run(["nonesuch"], timeout_s=10, check=False).returncode == 127


@pytest.mark.parametrize("user", ["root", "free", "asked"])
def test_every_argument_arrives_as_it_is(server: Server, user: str) -> None:
    words = ["a b", "", "$HOME", "`id`", "'", '"', "\\", "*", "!x", "new\nline", "-n", "ü", "a;b", "#"]
    answers = (PASSWORD,) if user == "asked" else ()
    with connect(server, server.entry(user), *answers) as host:
        script = "import sys; print(ascii(sys.argv[1:]))"
        said = host.run(["python3", "-c", script, *words], timeout_s=10)
        assert said.stdout == ascii(words) + "\n"


def test_a_secret_goes_through_stdin_and_stays_out_of_every_log(server: Server) -> None:
    secret = b"hunter2" * 100_000 + bytes(range(256))
    for user in ("root", "free", "asked"):
        answers = (PASSWORD,) if user == "asked" else ()
        with connect(server, server.entry(user), *answers) as host:
            said = host.run(["sha256sum"], timeout_s=30, stdin=secret, is_secret=True)
            digest = subprocess.run(["sha256sum"], input=secret, capture_output=True, check=True).stdout
            assert said.stdout.encode() == digest
    assert "hunter2" not in server.log


@pytest.mark.parametrize(
    ("user", "answers"), [("root", ()), ("free", ()), ("asked", (PASSWORD,)), ("mixed", (PASSWORD,))]
)
def test_users_become_root_each_in_their_way(server: Server, user: str, answers: tuple[str, ...]) -> None:
    with connect(server, server.entry(user), *answers) as host:
        assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"
        # Whatever sudo does with the password, the command is never told it.
        assert host.run(["cat"], timeout_s=10, stdin=b"data\n").stdout == "data\n"
        assert host.run(["cat"], timeout_s=10).stdout == ""
        mine = host.run(["id", "-un"], timeout_s=10, as_root=False).stdout
        assert mine == f"{user}\n"


def test_a_password_is_asked_for_once_for_login_and_sudo(server: Server) -> None:
    entry = server.entry("asked", with_key=False)
    typist = Typist(PASSWORD)
    with Connection(entry, paths=server.paths, terminal=typist) as host:
        for _ in range(3):
            assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"
        (directory,) = server.paths.ssh_dir.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "password").stat().st_mode & 0o777 == 0o600
        assert everywhere(PASSWORD) == []
    assert len(typist.questions) == 1
    assert list(server.paths.ssh_dir.iterdir()) == []


def test_what_a_killed_installer_left_goes_with_the_next_connection(server: Server, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = ssh._mark_of(os.getpid())
    left = [tmp_path / f"{ended.pid}.12345.abc", tmp_path / f"{os.getpid()}.1.abc"]
    for directory in (*left, tmp_path / f"{mine}abc"):
        directory.mkdir()
        (directory / "password").write_text(PASSWORD)
    ssh.sweep(tmp_path)
    assert [directory.name for directory in tmp_path.iterdir()] == [f"{mine}abc"]
    server.paths.ssh_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tmp_path / f"{mine}abc", server.paths.ssh_dir / left[0].name)
    with Connection(server.entry(), paths=server.paths, terminal=Typist()):
        assert not (server.paths.ssh_dir / left[0].name).exists()


def test_a_run_directory_without_programs_does_not_stop_a_password(server: Server) -> None:
    """Hardened hosts mount /run noexec: what answers ssh is then on the disk, the password never."""
    where = server.paths.ssh_dir
    where.mkdir(parents=True, exist_ok=True)
    server.paths.state_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", str(where)], check=True)
    try:
        with connect(server, server.entry("asked", with_key=False), PASSWORD) as host:
            assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"
            assert PASSWORD not in (server.paths.state_dir / "askpass").read_text()
    finally:
        subprocess.run(["umount", str(where)], check=True)


def everywhere(secret: str) -> list[str]:
    """Return the processes that have a secret among their arguments or in their environment, this one left out."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                data = (process / name).read_bytes()
            except OSError:
                continue
            if secret.encode() in data and process.name != str(os.getpid()):
                found.append(f"{process.name}/{name}")
    return found


@pytest.mark.parametrize(
    ("user", "with_key", "answers", "message"),
    [
        ("asked", False, ("wrong",), "127.0.0.1 refuses the password of asked"),
        ("asked", False, (), "nobody can be asked for the password of asked on 127.0.0.1"),
        ("nobody-here", True, (), "refuses the key"),
        ("asked", True, ("wrong",), "asked does not become root on 127.0.0.1: the password is wrong"),
        ("asked", True, (), "sudo wants a password, and no terminal is there to ask for it"),
        ("plain", True, (PASSWORD,), "plain does not become root on 127.0.0.1: plain may not"),
        ("shut", True, (), "lets shut in and does not run the command"),
        ("told", True, (), "lets told in and does not run the command"),
    ],
)
def test_refused_logins_are_told_apart(
    server: Server, user: str, with_key: bool, answers: tuple[str, ...], message: str
) -> None:
    with (
        pytest.raises(LoginError) as caught,
        connect(server, server.entry(user, with_key=with_key), *answers),
    ):
        pass
    assert message in caught.value.message
    assert caught.value.details
    assert caught.value.resolution
    assert PASSWORD not in str(caught.value)
    if user == "told":
        assert "Please login as the user rocky" in caught.value.details
    assert list(server.paths.ssh_dir.iterdir()) == []


def test_a_wrong_sudo_password_is_one_failed_try_and_no_data(server: Server) -> None:
    with pytest.raises(LoginError), connect(server, server.entry("asked"), "wrong") as host:
        host.run(["cat"], timeout_s=10, stdin=b"secret")


def test_what_a_login_shell_prints_is_no_answer(server: Server) -> None:
    with connect(server, server.entry("noisy")) as host:
        assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"


def test_a_key_with_a_passphrase_asks_for_it(server: Server) -> None:
    locked = server.directory / "locked"
    sshd.keygen(locked, passphrase=PASSWORD)
    (server.directory / "keys/root").write_text(
        (server.directory / "id.pub").read_text() + locked.with_suffix(".pub").read_text()
    )
    entry = replace(server.entry(), identity=locked)
    with connect(server, entry, PASSWORD) as host:
        assert host.run(["id", "-u"], timeout_s=10).stdout == "0\n"
    with pytest.raises(LoginError), connect(server, entry, "wrong"):
        pass
    with pytest.raises(LoginError, match=f"nobody can be asked for the passphrase of {locked}"):
        connect(server, entry).__enter__()


def test_a_wrong_key_gets_nothing(server: Server, tmp_path: Path) -> None:
    """The host that is known has been replaced: neither a login nor a byte of the command reaches the other."""
    paths = Paths(server.directory / "other")
    entry = server.entry(host_key="")
    other = hostkeys.HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA==")
    hostkeys.remember(paths.known_hosts_file, entry, other)
    before = server.log
    with pytest.raises(HostKeyError, match="shows another key") as caught:
        Connection(entry, paths=paths, terminal=Typist("yes")).__enter__()
    assert f"expected: {other.fingerprint}" in caught.value.details
    assert f"it shows: {server.fingerprints[0]}" in caught.value.details
    new = server.log.removeprefix(before)
    assert "Accepted" not in new
    assert "Failed" not in new


def test_a_host_that_dropped_the_pinned_kind_of_key_gets_nothing_either() -> None:
    with sshd.serving() as server:
        paths = Paths(server.directory / "root")
        with Connection(server.entry(), paths=paths, terminal=Typist()):
            pass
        server.stop()
        (server.directory / "host_ed25519").unlink()
        server.start()
        with pytest.raises(HostKeyError):
            Connection(server.entry(host_key=""), paths=paths, terminal=Typist("yes")).__enter__()


def test_who_cannot_be_reached(server: Server) -> None:
    entry = replace(server.entry(), port=1)
    with pytest.raises(ReachError, match=r"nobody listens on 127\.0\.0\.1 port 1"):
        connect(server, entry).__enter__()
    hostkeys.remember(server.paths.known_hosts_file, entry, hostkeys.HostKey("ssh-ed25519", "AAAA"))
    with pytest.raises(ReachError, match=r"nobody listens on 127\.0\.0\.1 port 1"):
        connect(server, replace(entry, host_key="")).__enter__()


def test_nothing_of_the_users_configuration_takes_part(server: Server, tmp_path: Path) -> None:
    words = ssh.options(server.entry(), tmp_path / "known_hosts")
    assert "ForwardAgent=no" in words
    said = subprocess.run(
        ["ssh", "-G", "-F", "/dev/null", *words, "127.0.0.1"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for line in (
        "stricthostkeychecking true",
        "globalknownhostsfile /dev/null",
        "forwardagent no",
        "batchmode yes",
        "identitiesonly yes",
        "identityagent none",
        "connecttimeout 10",
        f"identityfile {server.identity}",
    ):
        assert line in said, line


def test_one_login_serves_all_commands_side_by_side(server: Server) -> None:
    before = server.log.count("Accepted publickey")
    with connect(server) as host:
        said: list[str] = []
        threads = [
            threading.Thread(
                target=lambda number=number: said.append(
                    host.run(["echo", str(number)], timeout_s=30).stdout.strip()
                )
            )
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said) == list("012345")
    assert server.log.count("Accepted publickey") == before + 1


def test_a_lost_connection_says_so() -> None:
    with sshd.serving() as server, connect(server) as host:
        failed: list[Exception] = []

        def work() -> None:
            try:
                host.run(["sleep", "60"], timeout_s=50)
            except ReachError as exc:
                failed.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1)
        server.stop()
        thread.join(timeout=30)
        assert "connection to 127.0.0.1 was lost" in str(failed[0])
        with pytest.raises(ReachError, match="nobody listens"):
            host.run(["true"], timeout_s=10)


def test_a_secret_answer_is_in_no_error() -> None:
    with sshd.serving() as server, connect(server) as host:
        failed: list[Exception] = []

        def work() -> None:
            try:
                host.run(["sh", "-c", "echo hunter2; sleep 60"], timeout_s=50, is_secret=True)
            except ReachError as exc:
                failed.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(1)
        server.stop()
        thread.join(timeout=30)
        assert "was lost" in str(failed[0])
        assert "hunter2" not in str(failed[0])


def test_a_command_that_takes_too_long_is_ended_here(server: Server) -> None:
    with connect(server) as host:
        with pytest.raises(CommandError, match="did not finish within 1 s"):
            host.run(["sleep", "30"], timeout_s=1)
        assert host.run(["echo", "x"], timeout_s=10).stdout == "x\n"


def test_a_connection_whose_master_was_killed_is_made_again(server: Server) -> None:
    with connect(server) as host:
        (master,) = _masters(server)
        os.kill(master, signal.SIGKILL)
        assert host.run(["echo", "x"], timeout_s=20).stdout == "x\n"


def _masters(server: Server) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_of_run = str(server.paths.ssh_dir).encode() in (process / "cmdline").read_bytes()
            if is_of_run and (process / "comm").read_text().startswith("ssh"):
                found.append(int(process.name))
    return found


def test_a_conversation_goes_over_it(server: Server) -> None:
    script = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"
    for user, answers in (("root", ()), ("free", ()), ("asked", (PASSWORD,))):
        with connect(server, server.entry(user), *answers) as host:
            talk = host.converse(["python3", "-u", "-c", script], mark="begin")
            try:
                while talk.hear(timeout_s=10) != b"begin<":
                    assert talk.returncode is None
                talk.tell(b"abc\n")
                assert talk.hear(timeout_s=10) == b"cba"
            finally:
                talk.close(timeout_s=5)
