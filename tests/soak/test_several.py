# SPDX-License-Identifier: Apache-2.0
"""Several nodes: a demo of them that is killed, and another host in the place of a control plane that is gone."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from lab import hosts
from tests.node.growing import Site, start_host, until
from tests.node.test_control_planes import voters
from tests.node.test_leftovers import kill_and_look
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab

NOT_READY_TIMEOUT_S = 120.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_demo_of_several_nodes_killed_leaves_nothing(
    repository_dir: Path, number: signal.Signals, record: Record
) -> None:
    """While a host joins: two nodes are there, and ssh from one into the other."""
    left = kill_and_look(repository_dir, "demo", number, phase="install-packages", nodes=2)
    assert left == []
    record(f"demo of two nodes, {number.name} while the second joins", "nothing is left")


def test_a_control_plane_that_is_gone_is_replaced(site: Site, record: Record) -> None:
    """By another host, which gets its name and its address."""
    name = site.control_planes[-1]
    site.nodes[name].cut_power()
    until(lambda: site.ready()[name] != "True", NOT_READY_TIMEOUT_S)
    began = time.monotonic()
    site.caisson("node", "remove", name, "--dead")
    removed_s = time.monotonic() - began
    assert voters(site) == list(site.control_planes[:-1])
    before = site.words[name]
    site.lab.nodes.pop(name).remove()
    start_host(site, name, site.driver.read_file(f"{hosts.IDENTITY_FILE}.pub"))
    assert site.words[name] != before, "it has a key of its own"
    began = time.monotonic()
    assert "succeeded" in site.add(name)
    added_s = time.monotonic() - began
    assert voters(site) == list(site.control_planes)
    assert site.is_whole()
    record(
        "a control plane gone, another host in its place",
        f"removed in {removed_s:.0f} s, added in {added_s:.0f} s",
    )
