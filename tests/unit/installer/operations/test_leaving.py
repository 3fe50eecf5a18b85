# SPDX-License-Identifier: Apache-2.0
"""Whose host it is that is about to be reset, and what is said where nobody reaches it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import HostError, HostKeyError, InstallerError, LoginError, ReachError
from installer.base.run import Completed
from installer.config.nodes import NodeEntry
from installer.engine import pillartop
from installer.engine.ssh import Connection
from installer.operations import cluster_state, leaving, removing
from installer.operations.cluster_state import NodeState
from installer.operations.leaving import Leaving
from tests.unit.installer.helpers import make_context

ENTRY = NodeEntry("10.77.1.12", name="node2")


class Host:
    """A host that has been told what it is, or nothing; ``ran``: what was asked of it."""

    def __init__(self, told: str) -> None:
        self.entry = ENTRY
        self.told = told
        self.ran: list[list[str]] = []

    def run(self, words: list[str], **_: Any) -> Completed:
        """Answer with what it was told."""
        self.ran.append(words)
        return Completed(0, self.told, "")


def pillar(name: str) -> str:
    return "#!json\n" + json.dumps({"caisson": {"node": {"name": name, "role": "control-plane"}}})


def test_a_host_that_is_another_node_is_left_alone() -> None:
    """Its address is what the leaving node's kubelet says: a host of another name may stand there."""
    host = Host(pillar("node1"))
    with pytest.raises(HostError, match=r"the host at 10\.77\.1\.12 is node1, not node2") as caught:
        leaving.refuse_other_host(cast("Connection", host), "node2")
    assert "--address" in caught.value.resolution
    assert len(host.ran) == 1


@pytest.mark.parametrize(
    "told", [pillar("node2"), "", "torn", '#!json\n["x"]', '#!json\n{"caisson": {"node": null}}']
)
def test_one_that_is_it_or_was_told_nothing_may_go(told: str) -> None:
    leaving.refuse_other_host(cast("Connection", Host(told)), "node2")


@pytest.mark.parametrize(
    ("error", "is_off"),
    [
        (ReachError("no way leads to it", details="No route to host"), True),
        (ReachError("it does not answer", details="Connection timed out"), True),
        (ReachError("nobody listens", details="ssh: connect to host: Connection refused"), False),
        (LoginError("refuses the password"), False),
        (HostKeyError("another key"), False),
    ],
)
def test_one_that_answers_is_not_said_to_be_gone(error: InstallerError, *, is_off: bool) -> None:
    """A forced removal of a host that runs starts its pods a second time."""
    with pytest.raises(type(error)) as caught:
        Leaving(ENTRY, error).host.run(["true"], timeout_s=1)
    assert ("--dead" in caught.value.resolution) is is_off
    assert ("and only then" in caught.value.resolution) is is_off


def test_the_address_is_the_one_of_the_addition_before_what_the_node_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_context(tmp_path).paths
    said = (NodeState("node2", "v1", "10.77.1.11,fd00::1", is_ready=True, roles="-"),)
    monkeypatch.setattr(cluster_state, "get_nodes", lambda _: said)
    assert removing.address_of(paths, "node2") == "10.77.1.11"
    pillartop.write(paths, "node1", {"node": {"name": "node2", "control_plane_address": "10.77.1.12"}})
    assert removing.address_of(paths, "node2") == "10.77.1.12"
    assert removing.address_of(paths, "nobody") == ""
