# SPDX-License-Identifier: Apache-2.0
"""The guard by packets: its rules are loaded into a network namespace of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sls.compiler import Compiler

SCENE = Path(__file__).with_name("guard_scene.py")
OTHERS = ("before", "with the guard", "while it is loaded again")
# Whoever runs the tests is root in there, and nothing of it is left when the program ends.
APART = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")


@pytest.fixture
def seen(compiler: Compiler, pillar: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return which packets came past the guard, as the tree writes it for these networks."""
    given: dict[str, Any] = {**pillar["caisson"]}
    given["networks"] = {**given["networks"], "pods": "10.233.0.0/16", "services": "10.96.0.0/12"}
    chunks = compiler.compile("firewall.guard", {**pillar, "caisson": given}).chunks
    (written,) = (chunk for chunk in chunks if chunk["name"] == "/etc/caisson/guard.nft")
    rules = tmp_path / "guard.nft"
    rules.write_text(compiler.render(written["source"], written["context"], pillar), encoding="utf-8")
    words = [*APART, sys.executable, "-I", str(SCENE), str(rules)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_neighbour_that_routes_by_the_host_asks_no_pod_and_no_service(seen: dict[str, Any]) -> None:
    """Neither of this host nor behind it; nor in a moment in which the rules are loaded again."""
    targets = [f"a neighbour asks {address}" for address in ("10.233.0.5", "10.96.0.10", "10.233.64.54")]
    assert seen["before"] == dict.fromkeys(targets, True), "nothing but the guard is in the way"
    assert seen["with the guard"] == dict.fromkeys(targets, False)
    assert not seen["while it is loaded again"]


def test_only_answers_to_the_host_itself_come_without_the_tunnel(seen: dict[str, Any]) -> None:
    """A known connection lets nobody through to a pod: neither who forges its address nor who was there first."""
    assert {name: came for name, came in seen.items() if name not in OTHERS} == {
        "open before": True,
        "a service, open before": True,
        "answered": True,
        "a service, answered": True,
        "a pod asks another": True,
        "a neighbour answers in its name": False,
        "the pod answers": True,
        "a pod of another node asks": True,
        "the host asks a pod": True,
        "it answers without the tunnel": True,
        "a neighbour asks the host": True,
        "a neighbour asks the host as a pod": False,
        "what was open before": False,
        "a service that was open before": False,
    }
