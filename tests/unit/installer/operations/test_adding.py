# SPDX-License-Identifier: Apache-2.0
"""Adding hosts as a job: by a real sshd on loopback; the phases are small ones, job, journal and errors are real."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import HostError, InstallerError, ReachError, SaltError
from installer.base.paths import Paths
from installer.config import facts, nodes
from installer.config.nodes import NodeEntry
from installer.engine import jobrecord, jobrun, jobunit, journal
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job
from installer.engine.phase import Operation, Phase
from installer.operations import adding, cluster_state, joining, node_add, probe
from installer.operations.cluster_state import Member
from installer.operations.probe import Material, Probe
from tests.unit.installer import sshd
from tests.unit.installer.helpers import ADDRESSES, CONFIG_TEXT, product_bytes
from tests.unit.installer.sshd import Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serving() as running:
        yield running


class Cluster:
    """A bootstrap node; ``fails`` says of which host which error a phase raises."""

    def __init__(self, paths: Paths, tree_dir: Path) -> None:
        self.paths = paths
        self.tree_dir = tree_dir
        self.fails: dict[str, InstallerError] = {}
        self.seen: list[str] = []
        self.members: list[Member] = []

    def connect(self, context: Context) -> bool:
        node = joining.of(context)
        assert node.host.run(["id", "-u"], timeout_s=30).stdout == "0\n"
        self.seen.append(node.entry.name)
        return False

    def change(self, context: Context) -> bool:
        name = joining.of(context).entry.name
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


def test_one_that_fails_stops_no_other(server: Server, cluster: Cluster) -> None:
    cluster.fails["node3"] = HostError("no room")
    hosts = [entry(server, name) for name in ("node2", "node3", "node4")]
    away = replace(entry(server, "node5"), port=1)
    with pytest.raises(HostError, match="2 of 4 hosts could not be added") as caught:
        cluster.run(*hosts, away)
    assert cluster.seen[1:] == ["node2", "node3", "node4"]
    first, second = caught.value.details.splitlines()
    assert first == "node3 (127.0.0.1): CSE012 CSP403 send: no room"
    assert second.startswith("node5 (127.0.0.1): CSE014 CSP401 connect: ")


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


def test_the_error_of_a_list_is_that_of_the_first() -> None:
    errors: dict[str, InstallerError] = {"a": ReachError("x"), "b": SaltError("y")}
    assert adding.failure(errors, 3).exit_code == ReachError.exit_code
    assert adding.failure({"b": errors["b"]}, 1) is errors["b"]
