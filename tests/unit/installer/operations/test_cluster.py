# SPDX-License-Identifier: Apache-2.0
"""The hand-over of the minion: its master reaches it, and it reaches its master's states and pillar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.run import Completed
from installer.operations import cluster
from tests.unit.installer.helpers import make_context

GOOD = {"cp.hash_file": {"hash_type": "sha256", "hsum": "ab"}, "pillar.ls": ["caisson"]}


@pytest.mark.parametrize(
    ("answer", "is_good"),
    [
        (GOOD, True),
        ({**GOOD, "cp.hash_file": {}}, False),
        ({**GOOD, "cp.hash_file": ""}, False),
        ({**GOOD, "pillar.ls": []}, False),
        (False, False),
        (None, False),
    ],
)
def test_a_minion_has_states_and_pillar_from_its_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: object, *, is_good: bool
) -> None:
    context = make_context(tmp_path)
    asked: list[Sequence[str]] = []

    def run(args: Sequence[str], **_: object) -> Completed:
        asked.append(args)
        if "ps" in args:
            return Completed(0, "0123\n", "")
        told = {} if answer is None else {context.facts.node_name: answer}
        return Completed(0, f"[WARNING ] words\n{json.dumps(told)}", "")

    monkeypatch.setattr(cluster, "run", run)
    said = cluster._ask(context)
    assert (said == "") is is_good, said
    assert list(asked[1])[-3:] == ["cp.hash_file,pillar.ls", "salt://top.sls", ","]


def test_without_a_salt_master_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "run", lambda *_, **__: Completed(0, "", ""))
    assert cluster._ask(make_context(tmp_path)) == "no container salt-master is running"
