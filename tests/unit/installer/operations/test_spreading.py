# SPDX-License-Identifier: Apache-2.0
"""Which pod of DNS is placed again, when."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from installer.base.run import Completed
from installer.operations import spreading
from tests.unit.installer.helpers import make_context


def pod(name: str, node: str, phase: str = "Running", **metadata: str) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "spec": {"nodeName": node}, "status": {"phase": phase}}


def node(name: str, *, is_ready: bool = True, **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(is_ready)}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


def taint(key: str, effect: str = "NoSchedule") -> dict[str, Any]:
    return {"taints": [{"key": key, "effect": effect}]}


TOGETHER = [pod("coredns-a", "node1"), pod("coredns-b", "node1")]
ONE, TWO = node("node1"), node("node2")


@pytest.mark.parametrize(
    ("pods", "nodes", "expected"),
    [
        (TOGETHER, [ONE, TWO], "coredns-b"),
        (TOGETHER, [ONE, node("node2", **taint(spreading.TOLERATED))], "coredns-b"),
        (TOGETHER, [ONE, node("node2", **taint("gpu", "PreferNoSchedule"))], "coredns-b"),
        (TOGETHER, [ONE], ""),
        (TOGETHER, [ONE, node("node2", is_ready=False)], ""),
        (TOGETHER, [ONE, node("node2", unschedulable=True)], ""),
        (TOGETHER, [ONE, node("node2", **taint("gpu"))], ""),
        ([pod("coredns-a", "node1"), pod("coredns-b", "node2")], [ONE, TWO], ""),
        (TOGETHER[:1], [ONE, TWO], ""),
        ([TOGETHER[0], pod("coredns-b", "node1", deletionTimestamp="now")], [ONE, TWO], ""),
        ([TOGETHER[0], pod("coredns-b", "node1", "Failed")], [ONE, TWO], ""),
        ([TOGETHER[0], pod("coredns-b", "", "Pending")], [ONE, TWO], ""),
        ([], [ONE, TWO], ""),
    ],
)
def test_one_of_two_moves_where_there_is_room(
    pods: list[dict[str, Any]], nodes: list[dict[str, Any]], expected: str
) -> None:
    assert spreading.to_move({"items": pods}, {"items": nodes}) == expected


@pytest.mark.parametrize(("clears_after", "deleted"), [(3, ["coredns-b"]), (None, [])])
def test_a_node_that_is_ready_and_not_yet_free_of_its_taint_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clears_after: int | None, deleted: list[str]
) -> None:
    """A controller takes the taint off once the node is Ready; a pod deleted before would come back where it was."""
    ran: list[str] = []
    clock = iter(range(1000))

    def run(words: list[str], **_: object) -> Completed:
        asked = " ".join(words)
        if " delete " in asked:
            ran.append(words[words.index("pod") + 1])
            return Completed(0, "", "")
        if " pods " in asked:
            return Completed(0, json.dumps({"items": TOGETHER}), "")
        asked_before = next(looks)
        is_clear = clears_after is not None and asked_before >= clears_after
        new = TWO if is_clear else node("node2", **taint(spreading.PASSING[0]))
        return Completed(0, json.dumps({"items": [ONE, new]}), "")

    looks = iter(range(1000))
    monkeypatch.setattr(spreading, "run", run)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert spreading.spread_dns(make_context(tmp_path)) is bool(deleted)
    assert ran == deleted
