# SPDX-License-Identifier: Apache-2.0
"""Several nodes: a demo of them that is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.node.test_leftovers import kill_and_look
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_demo_of_several_nodes_killed_leaves_nothing(
    repository_dir: Path, number: signal.Signals, record: Record
) -> None:
    """While a host joins: two nodes are there, and ssh from one into the other."""
    left = kill_and_look(repository_dir, "demo", number, phase="install-packages", nodes=2)
    assert left == []
    record(f"demo of two nodes, {number.name} while the second joins", "nothing is left")
