# SPDX-License-Identifier: Apache-2.0
"""The bus: one place asks minions through their master; who does not answer is left out, and nobody waits long."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from installer.base.errors import CommandError
from installer.base.run import Completed
from installer.operations import bus


class Master:
    """What crictl answers, and with which bounds it was asked."""

    def __init__(self) -> None:
        self.container = "abc\n"
        self.said = ""
        self.error = ""
        self.asked: list[Sequence[str]] = []
        self.timeouts: list[float] = []

    def run(self, words: Sequence[str], *, timeout_s: float, check: bool) -> Completed:
        assert not check
        self.asked.append(words)
        self.timeouts.append(timeout_s)
        if words[1] == "ps":
            return Completed(0, self.container, "")
        if self.said == "hangs":
            raise CommandError("'crictl' did not finish within 60 s")
        return Completed(0, self.said, self.error)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    found = Master()
    monkeypatch.setattr(bus, "run", found.run)
    return found


def test_one_is_asked_by_its_exact_name(master: Master) -> None:
    master.said = json.dumps({"node*": {"a": 1}})
    assert bus.ask("node*", "caisson_job.look", "x") == {"a": 1}
    words = list(master.asked[-1])
    assert words[:3] == ["crictl", "exec", "abc"]
    assert words[words.index("--list") + 1 :] == ["node*", "caisson_job.look", "x"]


def test_why_nothing_came_back(master: Master) -> None:
    master.said, master.error = "{}", "Minion did not return"
    assert bus.ask_why("node2", "test.ping").why == "Minion did not return"
    master.said = "hangs"
    assert bus.ask_why("node2", "test.ping").why == "'crictl' did not finish within 60 s"
    master.container = ""
    found = bus.ask_why("node2", "test.ping")
    assert (found.value is bus.NO_ANSWER, found.why) == (True, bus.NO_MASTER)


def test_many_are_asked_at_once_within_a_bound(master: Master) -> None:
    """By one start of Salt; who did not answer, or was not asked, is not in the answer."""
    master.said = json.dumps({"node2": {"a": 1}, "node3": False, "other": True})
    found = bus.ask_all(["node2", "node3"], "caisson_node.look", "x", timeout_s=2, limit_s=4.0)
    assert found == {"node2": {"a": 1}}
    assert len(master.asked) == 2
    assert max(master.timeouts) <= 4.0
    assert json.loads(master.asked[-1][-1]) == {
        "minions": ["node2", "node3"],
        "function": "caisson_node.look",
        "arguments": ["x"],
        "timeout_s": 2,
    }
    master.container = ""
    assert bus.ask_all(["node2"], "test.ping", timeout_s=2, limit_s=4.0) is None
