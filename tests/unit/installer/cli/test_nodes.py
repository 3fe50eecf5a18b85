# SPDX-License-Identifier: Apache-2.0
"""``caisson node check``: what is said of hosts is read whole; nothing is sent to one that cannot be trusted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import ClusterError, HostKeyError, LoginError, ReachError
from installer.base.terminal import Terminal, Told
from installer.cli import jobs
from installer.cli import main as cli
from installer.cli import nodes as commands
from installer.config import nodes
from installer.engine import hostkeys, pillartop
from installer.engine.jobrecord import Request
from installer.engine.ssh import Connection
from installer.operations import cluster_state, probe, schemas
from installer.operations.cluster_state import Member, NodeState
from tests.unit.installer import sshd
from tests.unit.installer.helpers import CONFIG_TEXT, pack_installer, product_bytes
from tests.unit.installer.sshd import PASSWORD, Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]
Captured = pytest.CaptureFixture[str]
WRONG_KEY = "SHA256:" + "A" * 43


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serving() as running:
        yield running


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, repository_dir: Path) -> Path:
    """Return the installer's own copy on a host, as far as this command needs it."""
    directory = tmp_path_factory.mktemp("tree")
    with zipfile.ZipFile(io.BytesIO(pack_installer(repository_dir))) as packed:
        packed.extractall(directory)
    (directory / "product.json").write_bytes(product_bytes())
    (directory / "salt/parameters").mkdir(parents=True)
    ports = (repository_dir / "salt/parameters/ports.yaml").read_text()
    (directory / "salt/parameters/ports.yaml").write_text(ports)
    return directory


@pytest.fixture(autouse=True)
def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Let the host have a cluster of one node; return who sits at its terminal: nobody, until answers are added."""
    typist = Typist()
    monkeypatch.setattr(commands, "Terminal", lambda: typist)
    monkeypatch.setattr(commands, "handle_signals", lambda: None)
    monkeypatch.setattr(nodes, "UNUSABLE", ())  # the other host is this machine's loopback
    monkeypatch.setattr(cluster_state, "get_members", lambda _: (Member("node1", "", is_control_plane=True),))
    file = server.paths.config_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CONFIG_TEXT + "node: {name: node1}\n")
    return typist


def call(server: Server, tree: Path, *words: str) -> int:
    return cli.main(["node", "check", *words], tree_dir=tree, paths=server.paths)


def test_a_host_or_a_file_must_be_named(server: Server, tree: Path, capsys: Captured) -> None:
    assert call(server, tree) == 2
    assert "no host is named" in capsys.readouterr().err
    assert call(server, tree, "10.77.1.12", "--file", "nodes.yaml", "--host-key", WRONG_KEY) == 2
    assert "--file and HOST, --host-key exclude each other" in capsys.readouterr().err


def test_all_faults_of_the_options_at_once(server: Server, tree: Path, capsys: Captured) -> None:
    words = ["node9.example", "--role", "master", "--port", "ssh", "--host-key", "SHA256:x", "--labels", "a"]
    words += ["--identity", "nonesuch", "--taints", "a:Never", "--user=-x", "--name", "A"]
    assert call(server, tree, *words) == 3
    said = capsys.readouterr().err
    for option in (
        "HOST",
        "--role",
        "--port",
        "--host-key",
        "--labels",
        "--identity",
        "--taints",
        "--user",
        "--name",
    ):
        assert f"{option}: " in said, said
    assert f"{Path.cwd()}/nonesuch cannot be read" in said


def test_all_faults_of_a_file_at_once(server: Server, tree: Path, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "apiVersion: caisson/v1\nkind: NodeList\nnodes:\n"
        "  - {address: 10.77.1.12, name: A}\n  - {address: 10.77.1.12, port: 0}\n  - {address: 10.233.3.4, x: 1}\n"
    )
    before = server.log
    assert call(server, tree, "--file", str(file), "--json") == 3
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schemas.load("node-check"))
    details = shown["error"]["details"]
    assert [line.split(": ")[0].partition(":")[2] for line in details] == ["4", "5", "5", "6", "6"]
    assert server.log == before


def test_without_a_cluster(
    server: Server, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def refuse(_: Path) -> None:
        raise ClusterError("there is no cluster")

    monkeypatch.setattr(cluster_state, "get_members", refuse)
    assert call(server, tree, "10.77.1.12") == 11
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert call(server, tree, "10.77.1.12") == 12


def test_one_host_by_options(server: Server, tree: Path, capsys: Captured, cluster: Typist) -> None:
    """This machine is taken for another host: it is reached, seen, and not fit, for it is no EL9 host."""
    cluster.answers = ["yes"]
    words = ["127.0.0.1", "--name", "node2", "--port", str(server.port), "--identity", str(server.identity)]
    assert call(server, tree, *words, "--json") == 4
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    jsonschema.validate(data, schemas.load("node-check"))
    assert data["exit_code"] == 4
    # The cluster's configuration may not be for this machine: its own node is told of, too.
    (host,) = [host for host in data["hosts"] if host["host"] != "this host"]
    assert host["host"] == "node2 (127.0.0.1)"
    assert "CSN102" in {finding["id"] for finding in host["findings"]}
    assert server.fingerprints[0] in cluster.questions[0]
    assert "the preflights of each host" in captured.err
    assert list(server.paths.ssh_dir.iterdir()) == []


def test_what_a_list_says_is_one_table_and_one_exit_code(
    server: Server, tree: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "apiVersion: caisson/v1\nkind: NodeList\nnodes:\n"
        f"  - {{address: 127.0.0.1, name: node2, port: {server.port}, identity: {server.identity},"
        f' hostKey: "{WRONG_KEY}", role: control-plane}}\n'
    )
    before = server.log
    assert call(server, tree, "--file", str(file)) == 15
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split() == ["HOST", "CODE", "STATUS", "CHECK", "FOUND", "->", "FIX"]
    codes = [(line.split()[0], line.split()[2]) for line in lines if line.startswith("node")]
    assert codes == [("node2", "CSN602")]
    assert lines[-1].endswith("node2 (127.0.0.1); nothing was changed there")
    assert "note: there will be 2 control planes" in captured.err
    new = server.log.removeprefix(before)
    assert "Accepted" not in new
    assert "Failed" not in new
    assert "user root" not in new


# ---- caisson node add ---------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, dict[str, str]]]:
    """Return what the commands of a test ask for as jobs, with the secrets beside them; nothing is started."""
    found: list[tuple[Request, dict[str, str]]] = []

    def ask(
        _: object, request: Request, __: object, ___: object, *, secrets: dict[str, str] | None = None
    ) -> int:
        found.append((request, dict(secrets or {})))
        return 0

    monkeypatch.setattr(jobs, "ask_and_follow", ask)
    return found


def add(server: Server, tree: Path, *words: str) -> int:
    return cli.main(["node", "add", *words], tree_dir=tree, paths=server.paths)


def test_a_job_is_asked_for_and_told_the_password_beside_its_request(
    server: Server, tree: Path, cluster: Typist, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    """The key is confirmed and the password typed at the terminal; the job has none. sudo wants it, too."""
    hostkeys.forget(server.paths.known_hosts_file, server.entry())
    cluster.answers = ["yes", PASSWORD]
    words = ["127.0.0.1", "--user", "asked", "--port", str(server.port), "--name", "node2", "--labels", "a=b"]
    assert add(server, tree, *words, "--taints", "gpu:NoSchedule") == 0
    ((request, secrets),) = asked
    data = {
        "address": "127.0.0.1",
        "role": "worker",
        "name": "node2",
        "user": "asked",
        "port": server.port,
        "labels": {"a": "b"},
        "taints": ["gpu:NoSchedule"],
    }
    assert (request.operation, request.arguments) == ("node-add", {"nodes": [data]})
    assert list(secrets.values()) == [PASSWORD]
    assert PASSWORD not in json.dumps([request.arguments, list(request.command)])
    assert request.command[:4] == ("caisson", "node", "add", "127.0.0.1")
    (entry,) = nodes.from_data(request.arguments["nodes"])
    with probe.connections([entry], paths=server.paths, terminal=Told(secrets)) as connected:
        (host,) = connected.values()
        assert isinstance(host, Connection), host
        assert host.run(["id", "-u"], timeout_s=30).stdout == "0\n"
    with probe.connections([entry], paths=server.paths, terminal=Told({})) as connected:
        (refused,) = connected.values()
        assert isinstance(refused, LoginError)


def test_a_control_plane_is_asked_for_by_its_role(
    server: Server, tree: Path, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    words = ["127.0.0.1", "--port", str(server.port), "--identity", str(server.identity)]
    assert add(server, tree, *words, "--role", "control-plane") == 0
    ((request, _),) = asked
    assert request.arguments["nodes"][0]["role"] == "control-plane"
    assert request.command[-6:-4] == ("--role", "control-plane")


def test_no_job_for_hosts_of_which_none_can_be_reached(
    server: Server, tree: Path, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    words = ["127.0.0.1", "--port", str(server.port), "--identity", str(server.identity)]
    assert add(server, tree, *words, "--host-key", WRONG_KEY) == 15
    assert asked == []


def test_of_a_list_of_which_none_can_be_reached_one_table_tells_why(
    server: Server,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    asked: list[tuple[Request, dict[str, str]]],
) -> None:
    """The exit code is that of what weighs most: a wrong key more than a host that is away."""
    errors = {"node2 (10.77.1.12)": ReachError("nobody answers"), "10.77.1.13": HostKeyError("another key")}
    monkeypatch.setattr(probe, "connections", lambda *_, **__: contextlib.nullcontext(errors))
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "apiVersion: caisson/v1\nkind: NodeList\nnodes:\n"
        "  - {address: 10.77.1.12, name: node2}\n  - {address: 10.77.1.13}\n"
    )
    assert add(server, tree, "--file", str(file)) == 15
    said = capsys.readouterr().err.splitlines()
    heading = next(index for index, line in enumerate(said) if line.startswith("NAME "))
    rows = [line.split() for line in said[heading : heading + 3]]
    assert rows[0][:6] == ["NAME", "ADDRESS", "ROLE", "RESULT", "PHASE", "SECONDS"]
    assert rows[1][:7] == ["node2", "10.77.1.12", "worker", "failed", "-", "-", "CSE014"]
    assert rows[2][:7] == ["-", "10.77.1.13", "worker", "failed", "-", "-", "CSE015"]
    assert any("2 of 2 hosts could not be added" in line for line in said)
    assert asked == []


def test_a_password_that_was_refused_is_told_at_once_and_is_not_tried_again(
    server: Server,
    tree: Path,
    tmp_path: Path,
    cluster: Typist,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    asked: list[tuple[Request, dict[str, str]]],
) -> None:
    """Refused a second time by the job, an account of a hardened host would be locked by one slip."""

    def connections(*_: object, terminal: Terminal, **__: object) -> Any:
        for name in ("node2", "node3"):
            terminal.ask_secret(f"the password of root on {name} (10.77.1.1{name[-1]}): ")
        found = {
            "node2 (10.77.1.12)": LoginError("it refuses the password of root"),
            "node3 (10.77.1.13)": object(),
        }
        return contextlib.nullcontext(found)

    monkeypatch.setattr(probe, "connections", connections)
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "apiVersion: caisson/v1\nkind: NodeList\nnodes:\n"
        "  - {address: 10.77.1.12, name: node2}\n  - {address: 10.77.1.13, name: node3}\n"
    )
    cluster.answers = ["wrong", "right"]
    assert add(server, tree, "--file", str(file)) == 0
    ((request, secrets),) = asked
    assert len(request.arguments["nodes"]) == 2
    assert list(secrets.values()) == ["right"]
    assert "node2 (10.77.1.12): CSE016 it refuses the password of root" in capsys.readouterr().err


# ---- caisson node remove ------------------------------------------------------------------------------------


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cluster have a worker, whose host is this machine's loopback."""
    states = (
        NodeState("node1", "v1", "10.77.1.11", is_ready=True, roles="control-plane"),
        NodeState("node2", "v1", "127.0.0.1", is_ready=True, roles="-"),
        NodeState("node3", "v1", "127.0.0.1", is_ready=False, roles="-"),
    )
    monkeypatch.setattr(cluster_state, "get_nodes", lambda _: states)


def remove(server: Server, tree: Path, *words: str) -> int:
    return cli.main(["node", "remove", *words], tree_dir=tree, paths=server.paths)


@pytest.mark.usefixtures("two_nodes")
def test_who_leaves_is_looked_up_and_its_host_is_logged_in_to(
    server: Server, tree: Path, cluster: Typist, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    hostkeys.forget(server.paths.known_hosts_file, server.entry())
    cluster.answers = ["yes", PASSWORD]
    words = ["node2", "--user", "asked", "--port", str(server.port), "--drain-timeout", "60"]
    assert remove(server, tree, *words) == 0
    ((request, secrets),) = asked
    host = {"address": "127.0.0.1", "role": "worker", "name": "node2", "user": "asked", "port": server.port}
    said = {"host": host, "dead": False, "force": False, "drain_timeout_s": 60}
    assert (request.operation, request.arguments) == ("node-remove", said)
    assert list(secrets.values()) == [PASSWORD]
    assert PASSWORD not in json.dumps([request.arguments, list(request.command)])
    expected = ("caisson", "node", "remove", "node2", "--drain-timeout", "60", "--user", "asked")
    assert request.command == (*expected, "--port", str(server.port))


@pytest.mark.usefixtures("two_nodes", "asked")
@pytest.mark.parametrize("value", ["0", "-5", "x", "1.5", ""])
def test_a_limit_that_is_none_is_refused(value: str, server: Server, tree: Path, capsys: Captured) -> None:
    """Kubectl takes 0 for no limit: the removal would wait for ever, or be ended with the wrong reason."""
    assert remove(server, tree, "node2", "--drain-timeout", value) == 2
    assert "no number of seconds" in capsys.readouterr().err


@pytest.mark.usefixtures("two_nodes")
def test_its_ssh_server_may_listen_elsewhere_and_a_key_is_found_from_every_directory(
    server: Server,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[Request, dict[str, str]]],
) -> None:
    monkeypatch.chdir(server.identity.parent)
    words = ["--address", "127.0.0.1", "--port", str(server.port), "--identity", server.identity.name]
    assert remove(server, tree, "node2", *words) == 0
    ((request, _),) = asked
    assert request.arguments["host"]["address"] == "127.0.0.1"
    assert str(server.identity) in request.command
    assert request.command[4:6] == ("--address", "127.0.0.1")


@pytest.mark.usefixtures("two_nodes")
def test_a_host_that_is_gone_is_not_asked_anything(
    server: Server, tree: Path, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    before = server.log
    assert remove(server, tree, "node2", "--dead") == 11
    assert remove(server, tree, "node3", "--dead", "--port", str(server.port)) == 0
    ((request, secrets),) = asked
    assert (request.arguments["dead"], secrets, server.log) == (True, {}, before)


@pytest.mark.usefixtures("two_nodes")
def test_one_that_nobody_knows_or_that_shows_another_key_is_no_job(
    server: Server, tree: Path, capsys: Captured, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    before = server.log
    assert remove(server, tree, "nobody") == 2
    assert "has no node 'nobody'" in capsys.readouterr().err
    assert remove(server, tree, "node1") == 11
    assert "last control plane" in capsys.readouterr().err
    assert server.log == before
    words = ["--port", str(server.port), "--identity", str(server.identity), "--host-key", WRONG_KEY]
    assert remove(server, tree, "node2", *words) == 15
    assert asked == []


@pytest.mark.usefixtures("two_nodes")
def test_one_whose_node_is_deleted_already_is_found_by_what_it_was_told(
    server: Server, tree: Path, asked: list[tuple[Request, dict[str, str]]]
) -> None:
    """A removal that was cut is gone on with by the same command."""
    pillartop.write(server.paths, "node1", {"node": {"name": "node4", "control_plane_address": "10.77.1.14"}})
    assert remove(server, tree, "node4", "--dead") == 0
    assert asked[0][0].arguments["host"]["address"] == "10.77.1.14"
    pillartop.forget(server.paths, "node1", "node4")
