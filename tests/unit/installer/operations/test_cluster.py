# SPDX-License-Identifier: Apache-2.0
"""The hand-over of the minion: its master reaches it, and it reaches its master's states and pillar."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from installer.base.errors import CommandError, SaltError
from installer.base.run import Completed
from installer.operations import cluster
from installer.operations.bootstrap import PHASES
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


def test_an_answer_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PING_TIMEOUT_S", 0.5)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: False)
    with pytest.raises(SaltError, match="does not answer its master") as caught:
        cluster.wait_for_answer(make_context(tmp_path), threading.Event())
    assert "not connected" in caught.value.details
    assert "crictl logs" in caught.value.resolution


def test_a_command_that_hangs_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path)
    answers: Iterator[CommandError | Completed] = iter(
        [CommandError("'crictl' did not finish within 60 s"), Completed(0, "0123", "")]
    )

    def run(args: Sequence[str], **_: object) -> Completed:
        if "exec" in args:
            return Completed(0, json.dumps({context.facts.node_name: GOOD}), "")
        answer = next(answers)
        if isinstance(answer, CommandError):
            raise answer
        return answer

    monkeypatch.setattr(cluster, "run", run)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: True)
    cluster.wait_for_answer(context, threading.Event())
    assert next(answers, None) is None


def test_the_hand_over_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path)
    monkeypatch.setattr(cluster, "HAND_OVER", lambda _: True)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: False)
    assert cluster.run_minion_connected(context) is True
    context.beside.close()
    assert [phase.name for phase in PHASES if phase.awaits_all] == ["verify-cluster"]
