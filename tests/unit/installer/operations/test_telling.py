# SPDX-License-Identifier: Apache-2.0
"""Who is told of a control plane, when, and what comes of a node that is off; the bus and Salt are played."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import SaltError, to_json
from installer.base.ui import Ui
from installer.config.nodes import NodeEntry, Role
from installer.engine import nodepillar, pillartop, remotefiles, saltcall
from installer.engine.context import Context
from installer.engine.journal import Journal
from installer.engine.remotefiles import RemoteFile
from installer.engine.saltcall import Applied
from installer.engine.ssh import Connection
from installer.operations import bus, node_remove, spreading, telling
from installer.operations.joining import Joining, NodeContext
from installer.operations.leaving import Leaving, LeavingContext
from installer.operations.probe import Material
from tests.unit.installer.helpers import make_context

ENDPOINT = "api.lab.internal"
SAID = io.StringIO()
"""What the phases of a removal say."""


class Nodes:
    """The nodes of before, on the bus: what each has acted upon; and Salt on this host."""

    def __init__(self) -> None:
        self.paths: Any = None
        self.noted: dict[str, str] = {}
        self.off: set[str] = set()
        self.errors: dict[str, SaltError] = {}
        self.followed: list[str] = []
        self.busy: list[str] = []
        self.applied: list[tuple[str, ...]] = []

    def ask_each(self, names: Sequence[str], function: str, *arguments: str) -> dict[str, Any]:
        return {name: self.answer(name, function, *arguments) for name in names}

    def answer(self, name: str, function: str, *arguments: str) -> Any:
        if name in self.off:
            return bus.NO_ANSWER
        if function == "caisson_job.told":
            return self.noted.get(name, "")
        if function == "caisson_job.follow":
            if self.busy:
                return self.busy.pop()
            self.followed.append(name)
            if name not in self.errors:
                file = self.paths.pillar_dir / "nodes" / f"{name}.sls"
                told = json.loads(file.read_text().partition("\n")[2])["caisson"]
                self.noted[name] = nodepillar.digest(told)
            return arguments[0]
        error = to_json(self.errors[name]) if name in self.errors else None
        return {"state": "ended", "result": {"error": error}, "progress": ""}

    def apply(self, context: NodeContext, sls: Sequence[str], *, local: bool) -> Applied:
        assert local
        self.applied.append(tuple(sls))
        file = context.paths.at(telling.TOLD_FILE)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(nodepillar.digest(saltcall.pillar(context)) + "\n")
        return Applied(5, ("Note what this node was told",))


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes()
    monkeypatch.setattr(bus, "ask_each", nodes.ask_each)
    monkeypatch.setattr(bus, "ask", nodes.answer)
    monkeypatch.setattr(saltcall, "apply", nodes.apply)
    monkeypatch.setattr(telling, "POLL_S", 0.0)
    monkeypatch.setattr(spreading, "spread_dns", lambda _: False)
    return nodes


def make(context: NodeContext, name: str, number: int, role: Role, *, serves: bool = False) -> Joining:
    facts = replace(context.facts, node_name=name, control_plane_address=f"10.77.1.{number}")
    entry = NodeEntry(facts.control_plane_address, role, name)
    caisson = nodepillar.pillar(context, entry, facts, media_port=8443, cluster_ca_sha256="c")
    caisson = nodepillar.told_again(context, caisson, serves=serves)
    pillartop.write(context.paths, context.facts.node_name, caisson)
    return Joining(entry, cast("Connection", None), cast("Material", None), caisson=caisson)


@pytest.fixture
def context(tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> NodeContext:
    """Return a cluster with a second control plane and a worker, to which node4 is added as a control plane."""
    base = make_context(tmp_path, ui=Ui(io.StringIO(), is_terminal=False, interval_s=3600))
    journal = Journal(base.paths.journal_file, operation="node-add", run_id="run1")
    context = NodeContext(**{**vars(base), "journal": journal})
    nodes.paths = context.paths
    make(context, "node2", 12, Role.CONTROL_PLANE, serves=True)
    make(context, "node3", 13, Role.WORKER)
    for caisson in pillartop.pillars(context.paths):
        told = nodepillar.told_again(context, caisson)
        nodes.noted[caisson["node"]["name"]] = nodepillar.digest(told)
    joining = make(context, "node4", 14, Role.CONTROL_PLANE)
    there: dict[str, RemoteFile] = {}
    monkeypatch.setattr(
        remotefiles, "differing", lambda _, files: [file for file in files if there.get(file.path) != file]
    )
    monkeypatch.setattr(remotefiles, "put", lambda _, files: there.update({f.path: f for f in files}))
    return replace(context, joining=joining)


def pillar(context: NodeContext, name: str) -> dict[str, Any]:
    (found,) = (each for each in pillartop.pillars(context.paths) if each["node"]["name"] == name)
    return found


def test_before_the_join_the_control_planes_let_it_in_and_nobody_finds_it(
    context: NodeContext, nodes: Nodes
) -> None:
    assert telling.run_tell_peers(context) is True
    assert (nodes.followed, nodes.applied) == (["node2"], [("cluster.told",)])
    assert "10.77.1.14" in json.dumps(pillar(context, "node2")["control_planes"])
    assert "10.77.1.14" not in json.dumps(pillar(context, "node3"))
    assert "10.77.1.14" not in pillar(context, "node2")["elsewhere"][ENDPOINT]


def test_after_it_every_node_finds_it(context: NodeContext, nodes: Nodes) -> None:
    telling.run_tell_peers(context)
    nodes.followed.clear()
    assert telling.run_tell_nodes(context) is True
    assert nodes.followed == ["node2", "node3"]
    for name in ("node2", "node3"):
        assert "10.77.1.14" in pillar(context, name)["elsewhere"][ENDPOINT]
    assert pillar(context, "node4")["node"]["serves"] is True


def test_a_second_time_nobody_is_told_anything(context: NodeContext, nodes: Nodes) -> None:
    telling.run_tell_peers(context)
    telling.run_tell_nodes(context)
    told = list(nodes.followed), list(nodes.applied)
    assert telling.run_tell_peers(context) is False
    assert telling.run_tell_nodes(context) is False
    assert (nodes.followed, nodes.applied) == told


def test_a_worker_s_addition_tells_nobody(context: NodeContext, nodes: Nodes) -> None:
    joining = make(context, "node5", 15, Role.WORKER)
    for phase in (telling.run_tell_peers, telling.run_tell_nodes):
        assert phase(replace(context, joining=joining)) is False
    assert (nodes.followed, nodes.applied) == ([], [])


def test_a_worker_that_is_off_stops_nothing(context: NodeContext, nodes: Nodes) -> None:
    nodes.off.add("node3")
    assert telling.run_tell_nodes(context) is True
    nodes.off.clear()
    nodes.followed.clear()
    telling.run_tell_nodes(context)
    assert nodes.followed == ["node3"]


def test_a_control_plane_that_is_off_must_be_told(
    context: NodeContext, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "LIMIT_S", 0.05)
    nodes.off.add("node2")
    with pytest.raises(SaltError, match="node2 was not told of the control planes"):
        telling.run_tell_peers(context)


@pytest.mark.parametrize(
    "said", ["host-of-another-run", "The minion function caused an exception: Traceback"]
)
def test_a_node_that_is_at_work_is_told_after_it(context: NodeContext, nodes: Nodes, said: str) -> None:
    nodes.busy = [said, said]
    assert telling.run_tell_peers(context) is True
    assert nodes.followed == ["node2"]


def test_one_that_never_joined_bars_no_other(context: NodeContext, nodes: Nodes) -> None:
    make(context, "node6", 16, Role.CONTROL_PLANE)
    nodes.off.add("node6")
    assert telling.run_tell_peers(context) is True
    assert nodes.followed == ["node2"]


def test_what_failed_on_a_node_is_said_with_its_name_and_tried_again(
    context: NodeContext, nodes: Nodes
) -> None:
    nodes.errors["node2"] = SaltError("1 state failed", resolution="fix it")
    with pytest.raises(SaltError, match="1 state failed on node2"):
        telling.run_tell_peers(context)
    nodes.errors.clear()
    assert telling.run_tell_peers(context) is True


# ---- a control plane that leaves ---------------------------------------------------------------------------------


@pytest.fixture
def leaving(context: NodeContext) -> LeavingContext:
    """Return the cluster of before, which node2 leaves; it is still known by its name."""
    pillartop.forget(context.paths, context.facts.node_name, "node4")
    base = {field.name: getattr(context, field.name) for field in fields(Context)}
    base["ui"] = Ui(SAID, is_terminal=False, interval_s=3600)
    SAID.truncate(0)
    return LeavingContext(**base, leaving=Leaving(NodeEntry("10.77.1.12", name="node2")))


def test_nobody_lets_in_or_looks_for_one_that_leaves(leaving: LeavingContext, nodes: Nodes) -> None:
    make(cast("NodeContext", leaving), "node5", 15, Role.CONTROL_PLANE, serves=True)
    assert node_remove.run_tell_others(leaving) is True
    assert nodes.followed == ["node3", "node5"]
    assert nodes.applied == [("cluster.told",)]
    for name in ("node3", "node5"):
        told = pillar(cast("NodeContext", leaving), name)
        assert "10.77.1.12" not in json.dumps([told["elsewhere"], told["control_planes"]])
        assert "10.77.1.11" in json.dumps(told["elsewhere"])
    assert "10.77.1.12" not in json.dumps(saltcall.pillar(leaving)["control_planes"])


def test_a_removal_that_was_cut_goes_on_for_its_node_is_known_until_its_end(
    leaving: LeavingContext, nodes: Nodes
) -> None:
    node_remove.run_tell_others(leaving)
    assert "node2" in pillartop.known(leaving.paths)
    assert node_remove.run_tell_others(leaving) is False
    assert node_remove.run_forget_node(leaving) is True
    assert "node2" not in pillartop.known(leaving.paths)
    assert node_remove.run_tell_others(leaving) is False
    assert nodes.followed == ["node3"]


def test_one_that_cannot_be_told_of_it_is_named_and_holds_nothing_up(
    leaving: LeavingContext, nodes: Nodes
) -> None:
    make(cast("NodeContext", leaving), "node5", 15, Role.CONTROL_PLANE, serves=True)
    nodes.errors["node5"] = SaltError("1 state failed")
    assert node_remove.run_tell_others(leaving) is True
    said = SAID.getvalue()
    assert "1 state failed on node5" in said
    assert "caisson node add" in said


def test_nobody_is_told_of_a_worker_that_leaves(leaving: LeavingContext, nodes: Nodes) -> None:
    worker = Leaving(NodeEntry("10.77.1.13", name="node3"))
    assert node_remove.run_tell_others(replace(leaving, leaving=worker)) is False
    assert (nodes.followed, nodes.applied) == ([], [])


def test_the_two_sides_mean_the_same_file(repository_dir: Path) -> None:
    for file in ("cluster/noted.sls", "_modules/caisson_job.py"):
        assert telling.TOLD_FILE in (repository_dir / "salt" / file).read_text()
