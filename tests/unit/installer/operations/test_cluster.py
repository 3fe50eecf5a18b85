# SPDX-License-Identifier: Apache-2.0
"""The hand-over of the minion: its master reaches it, and it reaches its master's states and pillar."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from installer.base.errors import CommandError, HostError, SaltError
from installer.base.run import Completed
from installer.engine import runner, saltcall
from installer.engine.beside import Signs
from installer.engine.phase import Operation
from installer.engine.saltcall import Applied
from installer.operations import bus, cluster
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

    monkeypatch.setattr(bus, "run", run)
    said = cluster._ask(context)
    assert (said == "") is is_good, said
    assert list(asked[1])[-3:] == ["cp.hash_file,pillar.ls", "salt://top.sls", ","]


def test_without_a_salt_master_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "run", lambda *_, **__: Completed(0, "", ""))
    assert cluster._ask(make_context(tmp_path)) == "no container salt-master is running"


def test_an_answer_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PING_TIMEOUT_S", 0.5)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: False)
    signs = Signs()
    signs.awaited.set()
    with pytest.raises(SaltError, match="does not answer its master") as caught:
        cluster.wait_for_answer(make_context(tmp_path), signs)
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

    monkeypatch.setattr(bus, "run", run)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: True)
    cluster.wait_for_answer(context, Signs())
    assert next(answers, None) is None


def test_the_hand_over_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path)
    monkeypatch.setattr(cluster, "HAND_OVER", lambda _: True)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: False)
    assert cluster.run_minion_connected(context) is True
    context.beside.close()
    assert [phase.name for phase in PHASES if phase.awaits] == ["nginx", "verify-cluster"]


def test_who_begins_after_the_hand_over_asks_for_the_answer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minion that did not answer stops ``verify-cluster``: to begin there again is no way past it."""
    context = make_context(tmp_path)
    monkeypatch.setattr(saltcall, "apply", lambda *_, **__: Applied(1, ()))
    monkeypatch.setattr(cluster, "PING_TIMEOUT_S", 0.5)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: False)
    operation = Operation("bootstrap", tuple(phase for phase in PHASES if phase.name == "verify-cluster"))
    with pytest.raises(SaltError, match="CSP304 verify-cluster: the minion does not answer its master"):
        runner.run_phases(operation, operation.phases, context)


def test_the_answer_may_take_as_long_as_the_other_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host may be busy with them for minutes: its time is counted from when only the answer is waited for."""
    context = make_context(tmp_path)
    is_there = threading.Event()
    monkeypatch.setattr(cluster, "PING_TIMEOUT_S", 0.2)
    monkeypatch.setattr(cluster, "_listens_to_master", is_there.is_set)
    monkeypatch.setattr(cluster, "_ask", lambda _: "")
    context.beside.begin(cluster.ANSWER, partial(cluster.wait_for_answer, context))
    time.sleep(1.0)
    is_there.set()
    context.beside.wait(lambda _: None)


def test_a_fresh_minion_is_left_in_peace_unless_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path)
    asked: list[int] = []

    def ask(_: object) -> str:
        asked.append(1)
        return ""

    monkeypatch.setattr(cluster, "HAND_OVER", lambda _: True)
    monkeypatch.setattr(cluster, "_listens_to_master", lambda: True)
    monkeypatch.setattr(cluster, "_ask", ask)
    assert cluster.run_minion_connected(context) is True
    time.sleep(1.0)
    assert asked == []
    context.beside.wait(lambda _: None)
    assert asked == [1]


def test_a_look_that_hangs_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])

    def listens() -> bool:
        if not next(answers):
            raise CommandError("'ss' did not finish within 30 s")
        return True

    monkeypatch.setattr(cluster, "_listens_to_master", listens)
    monkeypatch.setattr(cluster, "_ask", lambda _: "")
    cluster.wait_for_answer(make_context(tmp_path), Signs())
    assert next(answers, None) is None


@pytest.mark.parametrize("fault", ["", "gone", "empty"])
def test_a_run_from_a_later_phase_asks_for_the_keys_that_it_passes_over(tmp_path: Path, fault: str) -> None:
    """As nginx's pod would wait for a certificate that nothing makes any more."""
    context = make_context(tmp_path)
    made = [context.paths.at(name) for name in cluster.SERVICE_FILES]
    for file in made:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    if fault == "gone":
        made[1].unlink()
    if fault == "empty":
        made[1].write_bytes(b"")
    standing = next(phase.standing for phase in PHASES if phase.name == "salt-master")
    assert standing is not None
    with pytest.raises(HostError) if fault else contextlib.nullcontext() as caught:
        standing(context)
    if caught is not None:
        assert (caught.value.details, "salt-master" in caught.value.resolution) == (str(made[1]), True)
