# SPDX-License-Identifier: Apache-2.0
"""Every file that a phase's states write is named by the words that take a phase back, or is a key, which stays."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from installer.engine.phase import Phase, States
from installer.operations import node_add
from installer.operations.bootstrap import PHASES
from installer.operations.node_jobs import Detached
from tests.sls.compiler import Compiler

#: They are kept on purpose: see the words of ``minion-local`` and ``salt-master``.
STAYS = (
    "/etc/caisson/pki/",
    "/etc/caisson/tls/",
    "/etc/caisson/ca.crt",
    "/etc/caisson/salt/pki/",
    "/etc/salt/pki/master/",
)
WRITING = [
    phase for phase in PHASES if isinstance(phase.applies, States) and "none" not in phase.undo.split(":")[0]
]


def _states(phase: Phase) -> tuple[str, ...]:
    """Return the states that a phase applies, here or on another host."""
    applies = phase.applies.keywords["states"] if isinstance(phase.applies, partial) else phase.applies
    return applies.sls if isinstance(applies, (States, Detached)) else ()


ON_A_NODE = [phase for phase in node_add.PHASES if _states(phase)]


def _written(compiler: Compiler, pillar: dict[str, Any], phase: Phase) -> set[str]:
    """Return the files that the states of a phase write."""
    found = set()
    for sls in _states(phase):
        for chunk in compiler.compile(sls, pillar).chunks:
            if (chunk["state"], chunk["fun"]) == ("file", "managed"):
                found.add(chunk["name"])
            if chunk["state"] == "caisson_static_pod":
                found.add(f"/etc/kubernetes/manifests/{chunk['name']}.yaml")
            if (chunk["state"], chunk["fun"]) == ("sysctl", "present"):
                found.add(chunk["config"])
    return found


@pytest.mark.parametrize("phase", WRITING, ids=[phase.name for phase in WRITING])
def test_what_a_phase_writes_is_named_by_its_undo_or_by_a_later_one(
    compiler: Compiler, pillar: dict[str, Any], phase: Phase
) -> None:
    """They are typed from the last phase to the first: what a later one took away is gone."""
    undone = " ".join(other.undo for other in PHASES[PHASES.index(phase) :]).replace(";", " ").split()
    written = {file for file in _written(compiler, pillar, phase) if not file.startswith(STAYS)}
    assert written - set(undone) == set()


@pytest.mark.parametrize("phase", ON_A_NODE, ids=[phase.name for phase in ON_A_NODE])
def test_what_a_phase_writes_on_another_node_is_named_too(
    compiler: Compiler, worker_pillar: dict[str, Any], phase: Phase
) -> None:
    phases = node_add.PHASES
    undone = " ".join(other.undo for other in phases[phases.index(phase) :]).replace(";", " ").split()
    assert _written(compiler, worker_pillar, phase) - set(undone) == set()
