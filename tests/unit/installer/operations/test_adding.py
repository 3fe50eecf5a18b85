# SPDX-License-Identifier: Apache-2.0
"""Adding hosts as a job: by a real sshd on loopback; the phases are small ones, job, journal and errors are real."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import (
    HostError,
    HostKeyError,
    InstallerError,
    InternalError,
    PreflightError,
    ReachError,
    SaltError,
    StoppedError,
)
from installer.base.paths import Paths
from installer.base.run import Completed, run
from installer.base.terminal import Remembering
from installer.config import facts, nodes
from installer.config.nodes import NodeEntry, Role
from installer.engine import jobrecord, jobrun, jobs, jobsecrets, jobunit, journal, pillartop, ssh
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job
from installer.engine.phase import Operation, Phase
from installer.engine.ssh import Connection
from installer.operations import adding, cluster_state, host_results, joining, node_add, probe
from installer.operations.cluster_state import Member
from installer.operations.probe import Material, Probe
from tests.unit.installer import sshd
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT, product_bytes
from tests.unit.installer.sshd import PASSWORD, Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serving() as running:
        yield running


class Cluster:
    """A bootstrap node; ``fails`` says of which host which error a phase raises."""

    def __init__(self, paths: Paths, tree_dir: Path) -> None:
        self.paths = paths
        self.tree_dir = tree_dir
        self.fails: dict[str, Exception] = {}
        self.seen: list[str] = []
        self.members: list[Member] = []
        self.waits: Callable[[str], None] = lambda _: None
        self.at_work: set[str] = set()
        self.most_at_work = 0

    def connect(self, context: Context) -> bool:
        node = joining.of(context)
        assert node.host.run(["id", "-u"], timeout_s=30).stdout == "0\n"
        self.seen.append(node.entry.name)
        return False

    def change(self, context: Context) -> bool:
        name = joining.of(context).entry.name
        self.at_work.add(name)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        try:
            self.waits(name)
        finally:
            self.at_work.discard(name)
        if name in self.fails:
            raise self.fails[name]
        return True

    def run(self, *entries: NodeEntry) -> Job:
        """Ask for the job and carry it out in this process; raise what it failed for."""
        data = [nodes.to_data(entry) for entry in entries]
        command = ("caisson", "node", "add")
        job = jobrecord.prepare(self.paths, Request(node_add.NAME, {"nodes": data}, command))
        jobrun.carry_out(job, adding.work, paths=self.paths, tree_dir=self.tree_dir)
        return job


@pytest.fixture
def cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    tree_dir = tmp_path / "tree"
    tree_dir.mkdir()
    (tree_dir / "product.json").write_bytes(product_bytes())
    # Short: the path of a socket has 108 bytes at most.
    paths = Paths(Path(tempfile.mkdtemp(prefix="a", dir=server.directory)))
    paths.config_file.parent.mkdir(parents=True)
    paths.at("/run").mkdir(parents=True)
    paths.config_file.write_text(CONFIG_TEXT + "node: {name: node1}\n")
    found = Cluster(paths, tree_dir)
    phases = (
        Phase("CSP401", "connect", "connect", found.connect, "none: x"),
        Phase("CSP403", "send", "send", found.change, "none: x"),
    )
    monkeypatch.setattr(node_add, "OPERATION", Operation(node_add.NAME, phases, begins_anywhere=False))
    monkeypatch.setattr(facts, "read_addresses", lambda: list(ADDRESSES))
    monkeypatch.setattr(cluster_state, "get_members", lambda _: tuple(found.members))
    monkeypatch.setattr(jobunit, "is_active", lambda _: False)

    def gather(_: object, config: Any, members: Any) -> Material:
        found.seen.append(f"members: {', '.join(member.name for member in members)}")
        return Material(config, "", "", b"")

    monkeypatch.setattr(probe, "gather_material", gather)
    monkeypatch.setattr(adding, "_look_at_all", lambda *_: Probe.__new__(Probe))
    with probe.connections([server.entry()], paths=paths, terminal=Typist()):
        pass  # its key is confirmed from now on
    return found


def entry(server: Server, name: str) -> NodeEntry:
    return replace(server.entry(), name=name)


def test_one_host_is_added(server: Server, cluster: Cluster) -> None:
    job = cluster.run(entry(server, "node2"))
    result = job.result()
    assert result is not None
    assert result.exit_code == 0
    assert "node2 (127.0.0.1): 2 phases" in result.summary
    for file in (cluster.paths.journal_file, job.journal_file):
        lines = [(line.operation, line.phase, line.event) for line in journal.read(file)]
        assert lines == [
            ("node-add/127.0.0.1", phase, event)
            for phase in ("connect", "send")
            for event in ("start", "done")
        ]
    assert "CSP403 send" in job.output_file.read_text()


def test_what_it_failed_for_keeps_its_class_and_says_how_to_go_on(server: Server, cluster: Cluster) -> None:
    cluster.fails["node2"] = SaltError("no room", resolution="make some")
    with pytest.raises(SaltError, match="CSP403 send: no room") as caught:
        cluster.run(entry(server, "node2"))
    assert caught.value.resolution.splitlines() == ["make some", "run the same command again"]


def test_one_that_fails_stops_no_other(server: Server, cluster: Cluster, capsys: Captured) -> None:
    """One table tells of all of them, in the order of the list; the exit code is that of the class that weighs most."""
    cluster.fails["node3"] = HostError("no room")
    hosts = [entry(server, name) for name in ("node2", "node3", "node4")]
    away = replace(entry(server, "node5"), port=1)
    with pytest.raises(ReachError, match="2 of 4 hosts could not be added") as caught:
        cluster.run(*hosts, away)
    assert sorted(cluster.seen[1:]) == ["node2", "node3", "node4"]
    first, second = caught.value.details.splitlines()
    assert first == "node3 (127.0.0.1): CSE012 CSP403 send: no room"
    assert second.startswith("node5 (127.0.0.1): CSE014 CSP401 connect: ")
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines[lines.index(next(line for line in lines if "NAME " in line)) :]]
    assert table[0] == ["NAME", "ADDRESS", "ROLE", "RESULT", "PHASE", "SECONDS", "WHY"]
    assert [row[:4] for row in table[1:]] == [
        [name, "127.0.0.1", "worker", result]
        for name, result in (("node2", "Ready"), ("node3", "failed"), ("node4", "Ready"), ("node5", "failed"))
    ]
    assert table[2][4:6] + table[2][7:] == ["CSP403", "send", "CSE012", "no", "room"]
    # Every line of several hosts says whose it is.
    assert any(line.startswith("node3 |") and "CSE012" in line for line in lines)


def test_a_fault_of_ours_with_one_host_stops_no_other(
    server: Server, cluster: Cluster, capsys: Captured
) -> None:
    cluster.fails["node2"] = ZeroDivisionError("division by zero")
    with pytest.raises(InternalError, match="1 of 2 hosts could not be added"):
        cluster.run(entry(server, "node2"), entry(server, "node3"))
    said = capsys.readouterr().out
    assert "node2 | ZeroDivisionError: division by zero" in said
    assert "node3  127.0.0.1  worker  Ready" in said


def test_three_workers_at_once_after_the_control_planes_one_by_one(server: Server, cluster: Cluster) -> None:
    """Three are there together, and no fourth; a control plane is alone."""
    meet = threading.Barrier(3)
    begun: list[str] = []

    def wait(name: str) -> None:
        begun.append(name)
        if name.startswith("c"):
            assert cluster.at_work == {name}
        elif len(begun) <= 5:
            meet.wait(timeout=60)

    cluster.waits = wait
    planes = [replace(entry(server, name), role=Role.CONTROL_PLANE) for name in ("c1", "c2")]
    workers = [entry(server, f"w{number}") for number in range(1, 6)]
    job = cluster.run(workers[0], planes[0], *workers[1:], planes[1])
    assert begun[:2] == ["c1", "c2"]
    assert sorted(begun[2:]) == ["w1", "w2", "w3", "w4", "w5"]
    assert cluster.most_at_work == 3
    result = job.result()
    assert result is not None
    assert result.summary == "7 hosts are nodes; 7 changed"


def test_hosts_that_wait_for_their_turn_keep_their_connections(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection ends by itself: that of the fourth host of a list would, and a password opens it once only."""
    monkeypatch.setattr(ssh, "IDLE_S", 2)
    monkeypatch.setattr(adding, "KEEP_OPEN_S", 0.5)
    monkeypatch.setattr(adding, "WORKERS_AT_ONCE", 1)
    cluster.waits = lambda name: time.sleep(6) if name == "node2" else None
    hosts = [replace(server.entry("asked", with_key=False), name=name) for name in ("node2", "node3")]
    terminal = Remembering(Typist(PASSWORD, PASSWORD))
    with probe.connections(hosts, paths=cluster.paths, terminal=terminal):
        pass
    monkeypatch.setattr(jobsecrets, "take", lambda *_: terminal.secrets)
    cluster.run(*hosts)
    assert cluster.seen[1:] == ["node2", "node3"]


def test_the_end_of_the_job_ends_all_in_order(server: Server, cluster: Cluster, tmp_path: Path) -> None:
    """What runs is ended, what is to be put back is, nobody begins; each row says where its host was."""
    begun = threading.Barrier(4)

    def wait(name: str) -> None:
        file = tmp_path / name
        try:
            file.touch()
            begun.wait(timeout=60)
            run(["sleep", "120"], timeout_s=200)
        finally:
            run(["rm", str(file)], timeout_s=60)

    def cancel() -> None:
        begun.wait(timeout=60)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)  # what the handler of SIGTERM does

    cluster.waits = wait
    threading.Thread(target=cancel, daemon=True).start()
    started = time.monotonic()
    hosts = [entry(server, f"node{number}") for number in range(2, 6)]
    with pytest.raises(StoppedError, match="stopped: 0 of 4 hosts are Ready") as caught:
        cluster.run(*hosts)
    assert time.monotonic() - started < 60
    assert caught.value.details.splitlines() == [
        *(f"node{number}: stopped, CSP403 send" for number in (2, 3, 4)),
        "node5: waiting",
    ]
    assert list(tmp_path.glob("node*")) == []
    (job,) = jobs.read_all(cluster.paths)[0]
    found = host_results.read(job.directory)
    assert [row.result for row in found] == ["stopped"] * 3 + ["waiting"]
    assert found[0].exit_code == 130
    # The journal knows it too: the same command goes on.
    events = [line.event for line in journal.read(job.journal_file)]
    assert events.count("failed") == 3


def test_a_host_of_which_nobody_confirmed_the_key(server: Server, cluster: Cluster) -> None:
    cluster.paths.known_hosts_file.unlink()
    with pytest.raises(InstallerError, match="no terminal is there") as caught:
        cluster.run(replace(entry(server, "node2"), host_key=""))
    assert caught.value.exit_code == 15


def test_a_node_may_be_added_again_by_itself_and_by_no_other(server: Server, cluster: Cluster) -> None:
    """Its own entry in the cluster is no double of it; that of another machine with its name is one."""
    own = Path("/etc/machine-id").read_text().strip() if Path("/etc/machine-id").exists() else ""
    host = Member("node2", own, is_control_plane=False)
    cluster.members = [Member("node1", "1", is_control_plane=True), host]
    cluster.run(entry(server, "node2"))
    assert cluster.seen[0] == ("members: node1" if own else "members: node1, node2")
    cluster.seen.clear()
    cluster.members = [Member("node2", "another", is_control_plane=False)]
    cluster.run(entry(server, "node2"))
    assert cluster.seen[0] == "members: node2"


def test_a_node_that_never_said_who_it_is_may_be_added_again_at_the_address_it_was_told(
    server: Server, cluster: Cluster
) -> None:
    """An addition failed after the node was registered: it is no double of itself, and any other host is one."""
    cluster.members = [Member("node2", "", is_control_plane=False)]
    cluster.run(entry(server, "node2"))
    assert cluster.seen[0] == "members: node2"
    node = {"name": "node2", "control_plane_address": "10.77.1.12", "role": "worker"}
    for address, expected in (("10.77.1.12", "members: node2"), ("127.0.0.1", "members: ")):
        pillartop.write(cluster.paths, "node1", {"node": {**node, "control_plane_address": address}})
        cluster.seen.clear()
        cluster.run(entry(server, "node2"))
        assert cluster.seen[0] == expected


class Impostor:
    """A host that says of itself what another node is."""

    def run(self, words: Sequence[str], **_: Any) -> Completed:
        """Say the name, or the machine id."""
        return Completed(0, "node3\n" if words[0] == "uname" else "id3\n", "")


@pytest.mark.parametrize(
    ("address", "name", "told", "is_taken_for_it"),
    [
        ("10.0.0.9", "", {"node3": "10.0.0.3"}, False),
        ("10.0.0.9", "", {}, False),
        ("10.0.0.3", "", {"node3": "10.0.0.3"}, True),
        ("10.0.0.9", "node3", {"node3": "10.0.0.3"}, True),
    ],
)
def test_who_says_the_machine_id_of_a_node_is_it_only_where_somebody_meant_that_node(
    address: str, name: str, told: dict[str, str], *, is_taken_for_it: bool
) -> None:
    """Every node can read the ids of all: else a host that is added would get another node's key and place."""
    member = Member("node3", "id3", is_control_plane=False)
    meant = NodeEntry(address, name=name)
    host = cast("Connection", Impostor())
    left = adding.members_beside([member], [meant], {meant.title: host}, told=told)
    assert left == ([] if is_taken_for_it else [member])


def test_the_error_of_a_list_is_of_the_class_that_weighs_most() -> None:
    """A key that nobody confirmed weighs more than a host that is away, which weighs more than what failed there."""
    errors: dict[str, InstallerError] = {"a": SaltError("x"), "b": ReachError("y"), "c": HostKeyError("z")}
    assert adding.failure(errors, 3).exit_code == HostKeyError.exit_code
    assert adding.failure({name: errors[name] for name in "ab"}, 3).exit_code == ReachError.exit_code
    others: dict[str, InstallerError] = {"a": SaltError("x"), "b": HostError("y")}
    assert adding.failure(others, 3).exit_code == SaltError.exit_code
    assert adding.failure({"b": errors["b"]}, 1) is errors["b"]


def test_of_a_host_that_is_not_fit_the_row_says_what_is_wrong(server: Server, cluster: Cluster) -> None:
    details = "CSN601 the name: it is node1's -> rename it\nCSN605 the clock: 2 s -> set it"
    cluster.fails["node2"] = PreflightError("node2 is not fit to become a node", details=details)
    with pytest.raises(PreflightError):
        cluster.run(entry(server, "node2"), entry(server, "node3"))
    (job,) = jobs.read_all(cluster.paths)[0]
    first, second = host_results.read(job.directory)
    assert (first.why, first.code, first.exit_code) == (
        "CSN601 the name: it is node1's; CSN605 the clock: 2 s",
        "CSE004",
        4,
    )
    assert (second.result, second.code, second.exit_code) == ("Ready", "", 0)
