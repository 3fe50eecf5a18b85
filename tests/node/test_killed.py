# SPDX-License-Identifier: Apache-2.0
"""A host without a nameserver: the installer is killed in the middle, power is cut, and it is started again.

It ends where the calm installation of the other node tests ends, and nothing tries to leave it meanwhile. A power
cut loses what was not synced: once of dnf's transaction, once of the control plane. ``tests/soak`` does both in every
phase (of images that are imported, too), starts it once more, and watches for ten minutes.
"""

from __future__ import annotations

import difflib
import json
import random
from collections.abc import Iterator

import pytest

from installer.operations.bootstrap import PHASES
from lab.node import Lab, Node
from tests.node.conftest import Calm
from tests.node.installing import (
    Ended,
    Moment,
    Victim,
    footprint,
    journal,
    killed,
    lab_iso,
    shell,
    start,
    unready,
)

pytestmark = pytest.mark.lab

SEED = 20261123
KILLS = 1
CUTS = (
    Moment(phase="install-minion", delay_s=1.5, victim=Victim.POWER),
    Moment(phase="control-plane", delay_s=3.0, victim=Victim.POWER),
)
#: The other phases that take long enough to be hit, with about what they take on the test machine.
LONG_PHASES_S = {
    "kubelet-standalone": 1.8,
    "salt-master": 2.5,
    "minion-connected": 1.3,
    "nginx": 3.0,
    "firewall": 2.0,
    "addons": 2.5,
}


def moments(seed: int, count: int) -> list[Moment]:
    """Return the power cuts and moments to kill at, in the order in which an installation comes to them."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    chosen = chance.sample(sorted(LONG_PHASES_S), count)
    kills = [
        Moment(phase=phase, delay_s=round(chance.uniform(0, LONG_PHASES_S[phase]), 1)) for phase in chosen
    ]
    order = [phase.name for phase in PHASES]
    return sorted([*kills, *CUTS], key=lambda moment: order.index(moment.phase))


@pytest.fixture(scope="module")
def killed_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def node(killed_lab: Lab) -> Node:
    """Return a node with an empty resolv.conf, counted from before its boot, after a proof that the count works."""
    witness = killed_lab.start_node("node9")
    proof = killed_lab.switch.probe(witness)
    assert (proof.packets, proof.dns_queries) == (2, 1)
    witness.remove()
    killed_lab.switch.reset()
    node = killed_lab.start_node("node1", iso=lab_iso(), nameserver=None)
    assert node.read_file("/etc/resolv.conf") == ""
    return node


@pytest.fixture(scope="module")
def command(node: Node) -> list[str]:
    """Mount the ISO and return what starts the bootstrap from it."""
    return node.prepare_bootstrap()


@pytest.fixture(scope="module")
def starts(node: Node, command: list[str]) -> list[Ended]:
    """Start the bootstrap once for each moment, and kill it then; a last time it may end."""
    ended = [killed(node, command, moment) for moment in moments(SEED, KILLS)]
    return [*ended, start(node, command)]


def test_after_kills_and_power_cuts_the_next_start_ends_well(starts: list[Ended], node: Node) -> None:
    *killed, last = starts
    assert [entry.was_killed for entry in killed] == [True] * (KILLS + len(CUTS)), [
        entry.output[-500:] for entry in killed
    ]
    assert [fault for entry in starts for fault in entry.faults] == []
    assert last.returncode == 0, last.output[-4000:]
    assert f"was interrupted in the phase '{killed[-1].phase}'" in last.output
    assert {entry["event"] for entry in journal(node)} == {"start", "done"}
    assert unready(node) == []


def test_all_of_it_is_one_job(starts: list[Ended], node: Node) -> None:
    """Written down at each start, before the power was cut; each of them was seen as interrupted by the next."""
    (job,) = json.loads(shell(node, "caisson jobs --json"))["jobs"]
    assert (job["operation"], job["state"]) == ("bootstrap", "succeeded")
    assert len(job["starts"]) == len(starts)
    assert len({start["boot"] for start in job["starts"]}) == 1 + len(CUTS)
    assert job["summary"] in starts[-1].output


def test_it_ends_where_a_calm_installation_ends(starts: list[Ended], node: Node, calm: Calm) -> None:
    assert starts[-1].returncode == 0
    nameserver = "/etc/caisson/pillar/caisson.sls"  # the one file that says whether there is one
    left, killed = (
        [line for line in lines if not line.endswith(nameserver)]
        for lines in (calm.footprint, footprint(node))
    )
    assert "\n".join(difflib.unified_diff(left, killed, "calm", "killed", lineterm="", n=2)) == ""


def test_nothing_left_the_node_since_its_boot(starts: list[Ended], node: Node, killed_lab: Lab) -> None:
    counts = killed_lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert killed_lab.switch.probe(node).dns_queries == 1
