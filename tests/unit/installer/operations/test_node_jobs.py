# SPDX-License-Identifier: Apache-2.0
"""Jobs on another node: SSH starts them and asks how they are, else the bus. No answer is no information."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from installer.base.errors import ReachError, SaltError, to_json
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.config.nodes import NodeEntry
from installer.engine.ssh import Connection
from installer.operations import bus, node_jobs
from installer.operations.joining import Joining
from installer.operations.probe import Material

SLS = ("kubelet.installed", "kubelet.configured")
JOB = "kubelet-installed-run1"
RUNNING = {"state": "running", "result": None, "progress": "A"}
LOSS = ReachError("the connection was lost")
LOST = {"state": "lost", "result": None, "progress": ""}


def ended(error: object = None) -> dict[str, Any]:
    return {"state": "ended", "result": {"total": 2, "changed": ["A"], "error": error}, "progress": ""}


class Node:
    """The other node: what the bus and SSH answer, one thing after the other; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_bus: list[Any] = []
        self.by_ssh: list[Any] = []
        self.asked: list[tuple[str, ...]] = []
        self.entry = NodeEntry("10.77.1.12", name="node2")
        monkeypatch.setattr(bus, "ask", self.ask)
        monkeypatch.setattr(node_jobs, "POLL_S", 0.0)
        self.ui = Ui(io.StringIO(), is_terminal=False, interval_s=3600)

    def ask(self, minion_id: str, function: str, *words: str) -> Any:
        self.asked.append(("bus", minion_id, function, *words))
        return self.by_bus.pop(0) if len(self.by_bus) > 1 else self.by_bus[0]

    def run(self, words: Sequence[str], **_: object) -> Completed:
        self.asked.append(("ssh", *words))
        answer = self.by_ssh.pop(0) if len(self.by_ssh) > 1 else self.by_ssh[0]
        if isinstance(answer, Exception):
            raise answer
        return Completed(0, answer if isinstance(answer, str) else json.dumps(answer), "")

    def carry_out(self) -> Any:
        joining = Joining(self.entry, cast("Connection", self), cast("Material", None))
        joining.caisson = {"node": {"name": "node2"}}
        return node_jobs.carry_out(joining, SLS, "run1", self.ui)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def test_it_is_started_and_asked_over_ssh(node: Node) -> None:
    node.by_ssh = [json.dumps(JOB), RUNNING, ended()]
    assert node.carry_out()["changed"] == ["A"]
    start = ("ssh", "/usr/bin/caisson", "on-node", "start", JOB, *SLS, "--json")
    look = ("ssh", "/usr/bin/caisson", "on-node", "look", JOB, "--json")
    assert node.asked == [start, look, look]


def test_where_ssh_misses_the_bus_starts_it(node: Node) -> None:
    node.by_bus, node.by_ssh = [JOB], [LOSS, RUNNING, ended()]
    assert node.carry_out()["changed"] == ["A"]
    assert ("bus", "node2", "caisson_job.start", JOB, *SLS) in node.asked


@pytest.mark.parametrize("said", [bus.NO_ANSWER, "ERROR: no such function", ""])
def test_where_neither_starts_it_the_loss_is_told(node: Node, said: object) -> None:
    node.by_bus, node.by_ssh = [said], [LOSS]
    with pytest.raises(ReachError, match="the connection was lost"):
        node.carry_out()


def test_ssh_that_is_lost_on_the_way_is_not_needed(node: Node) -> None:
    node.by_bus, node.by_ssh = [RUNNING, ended()], [json.dumps(JOB), RUNNING, LOSS]
    assert node.carry_out()["changed"] == ["A"]


def test_questions_without_an_answer_say_nothing(node: Node) -> None:
    """One that is answered begins the count again; words that are no answer are none."""
    silent = bus.NO_ANSWER
    node.by_bus = [silent, "ERROR: x", silent, silent, silent]
    node.by_ssh = [json.dumps(JOB), LOSS, LOSS, RUNNING, "Traceback", LOSS, ended()]
    assert node.carry_out()["total"] == 2


def test_a_job_of_a_run_that_was_killed_is_waited_for(node: Node) -> None:
    node.by_ssh = [json.dumps("host-run0"), RUNNING, ended(to_json(SaltError("x")))]
    node.by_ssh += [json.dumps(JOB), ended()]
    assert node.carry_out()["total"] == 2
    assert ("ssh", "/usr/bin/caisson", "on-node", "look", "host-run0", "--json") in node.asked


def test_a_host_that_always_names_another_job_is_no_end_of_it(node: Node) -> None:
    node.by_ssh = [word for number in range(99) for word in (json.dumps(f"host-run{number}"), ended())]
    with pytest.raises(SaltError, match="names one other job after the other"):
        node.carry_out()


def test_what_it_failed_for_names_the_node(node: Node) -> None:
    error = SaltError("1 state failed", details="no room", resolution="make some")
    node.by_ssh = [json.dumps(JOB), ended(to_json(error))]
    with pytest.raises(SaltError, match="1 state failed on node2") as caught:
        node.carry_out()
    assert (caught.value.details, caught.value.resolution) == ("no room", "on node2: make some")


def test_a_job_that_is_gone_says_how_to_go_on(node: Node) -> None:
    node.by_ssh = [json.dumps(JOB), LOST]
    with pytest.raises(SaltError, match="gone without a result"):
        node.carry_out()


def test_neither_way_reaches_the_host(node: Node) -> None:
    node.by_bus, node.by_ssh = [bus.NO_ANSWER], [json.dumps(JOB), LOSS]
    with pytest.raises(ReachError):
        node.carry_out()
    assert len([words for words in node.asked if words[0] == "ssh"]) == 1 + node_jobs.MISSES


def test_a_job_without_end_is_an_error(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_jobs, "LIMIT_S", 0.0)
    node.by_ssh = [json.dumps(JOB), RUNNING]
    with pytest.raises(SaltError, match="still runs") as caught:
        node.carry_out()
    assert "last heard of: A" in caught.value.details


@pytest.mark.parametrize(
    "said", ["", "Traceback\n", '{"format": 1, "error": {"exit_code": 8, "message": "m"']
)
def test_words_that_are_no_answer(node: Node, said: str) -> None:
    node.by_bus, node.by_ssh = [bus.NO_ANSWER], [said]
    with pytest.raises(SaltError, match="gave no answer to 'start'"):
        node.carry_out()


def test_an_error_over_ssh_keeps_its_class(node: Node) -> None:
    error = {"format": 1, "error": to_json(ReachError("no way", details="d", resolution="r"))}
    node.by_bus, node.by_ssh = [bus.NO_ANSWER], [json.dumps(error)]
    with pytest.raises(ReachError, match=r"no way on node2 \(10.77.1.12\)"):
        node.carry_out()
