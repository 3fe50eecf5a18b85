# SPDX-License-Identifier: Apache-2.0
"""What the bus asks of a further node: the installer's own modules answer, as JSON data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installer.checks import agent
from installer.operations import own_state
from tests.unit.salt.test_modules import installer, load


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    found: Any = load("caisson_node")
    functions = {
        "caisson_installer.call": installer().call,
        "caisson_installer.tree_dir": lambda: Path("/opt/caisson/x"),
    }
    monkeypatch.setitem(found.__dict__, "__salt__", functions)
    node = {"name": "node2", "role": "worker"}
    monkeypatch.setitem(found.__dict__, "__pillar__", {"caisson": {"node": node}})
    return found


def test_it_says_how_it_is(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_state, "look", lambda paths, tree_dir: {"at": [str(paths.root), str(tree_dir)]})
    assert module.look() == {"at": ["/", "/opt/caisson/x"]}


def test_it_says_whether_it_is_still_fit(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the node that its pillar says, whatever it is asked as."""
    monkeypatch.setattr(agent, "look", lambda request: {"report": request, "facts": "its addresses"})
    asked = {"with_trials": False, "name": "node3", "role": "bootstrap"}
    expected = {"with_trials": False, "name": "node2", "role": "worker"}
    assert module.check(json.dumps(asked)) == {"report": expected}
