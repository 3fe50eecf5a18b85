# SPDX-License-Identifier: Apache-2.0
"""Every file that a phase's states write is named by the words that take a phase back, or is a key, which stays."""

from __future__ import annotations

from typing import Any

import pytest

from installer.engine.phase import Phase, States
from installer.operations.bootstrap import PHASES
from tests.sls.compiler import Compiler

#: They are kept on purpose: see the words of ``minion-local`` and ``salt-master``.
STAYS = ("/etc/caisson/pki/", "/etc/caisson/ca.crt", "/etc/caisson/salt/pki/", "/etc/salt/pki/master/")
WRITING = [
    phase for phase in PHASES if isinstance(phase.applies, States) and "none" not in phase.undo.split(":")[0]
]


def _written(compiler: Compiler, pillar: dict[str, Any], phase: Phase) -> set[str]:
    """Return the files that the states of a phase write."""
    assert isinstance(phase.applies, States)
    found = set()
    for sls in phase.applies.sls:
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
