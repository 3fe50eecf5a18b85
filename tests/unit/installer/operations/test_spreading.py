# SPDX-License-Identifier: Apache-2.0
"""Which pod of DNS is placed again, when."""

from __future__ import annotations

from typing import Any

import pytest

from installer.operations import spreading


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
