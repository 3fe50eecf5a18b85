# SPDX-License-Identifier: Apache-2.0
"""A phase as data: what it applies, and what is told of it."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from installer.base.errors import SaltError
from installer.base.ui import Ui
from installer.engine import journal, runner, saltcall
from installer.engine.context import Context
from installer.engine.phase import Operation, Phase, States
from installer.engine.saltcall import Applied
from tests.unit.installer.helpers import make_context


@pytest.mark.parametrize(("changed", "expected"), [((), False), (("Write a file",), True)])
def test_states_are_applied_in_their_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[str, ...], *, expected: bool
) -> None:
    asked: list[tuple[Sequence[str], bool]] = []

    def apply(_: Context, sls: Sequence[str], *, local: bool, **__: object) -> Applied:
        asked.append((sls, local))
        return Applied(total=2, changed=changed)

    monkeypatch.setattr(saltcall, "apply", apply)
    assert States(("nginx", "images.pulled"), local=False)(make_context(tmp_path)) is expected
    assert asked == [(("nginx", "images.pulled"), False)]


def place(_: Context, *, target: str) -> bool:
    """Place the keys of one host."""
    return bool(target)


@pytest.mark.parametrize(
    ("phase", "explanation", "carried_out_by"),
    [
        (Phase("C", "n", "t", States(("a", "b"), local=True), "u"), "t", "Salt, from the media: a, b"),
        (
            Phase("C", "n", "t", States(("a",), local=False), "u", about="x"),
            "x",
            "Salt, through its master: a",
        ),
        (
            Phase("C", "n", "t", functools.partial(place, target="node2"), "u"),
            "Place the keys of one host.",
            "the installer",
        ),
        (Phase("C", "n", "t", lambda _: False, "u"), "t", "the installer"),
    ],
)
def test_what_is_told_of_a_phase(phase: Phase, explanation: str, carried_out_by: str) -> None:
    assert (phase.explanation, phase.carried_out_by) == (explanation, carried_out_by)


@pytest.mark.parametrize("changed", [(), ("Write a file",)])
def test_a_phase_tells_one_line_and_its_steps_are_in_the_journal_once_it_changed_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: tuple[str, ...]
) -> None:
    said = {"Compare": "2 is newer than 1", "Write a file": "written", "Wait": "so after 1.0 s", "Other": "x"}

    def apply(*_: object, tell: Callable[[Applied], None], **__: object) -> Applied:
        tell(Applied(total=4, changed=changed, said=said))
        return Applied(total=4, changed=changed, said=said)

    monkeypatch.setattr(saltcall, "apply", apply)
    spoken = io.StringIO()
    context = make_context(tmp_path, ui=Ui(spoken, is_terminal=False, interval_s=3600))
    states = States(("a",), local=True, tells="Compare", steps=("Write a file", "Wait"))
    phase = Phase("C", "n", "t", states, "u")
    runner.run_phases(Operation("bootstrap", (phase,)), [phase], context)
    assert "2 is newer than 1" in spoken.getvalue()
    *_, end = journal.read(context.journal.file)
    assert end.steps == (("Write a file: written", "Wait: so after 1.0 s") if changed else ())


def test_the_steps_of_a_phase_that_fails_are_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is away, and the old one does not end: both are to be read there."""
    answer = {
        "1": {"__id__": "Remove", "result": True, "changes": {"f": "removed"}, "comment": "was removed"},
        "2": {"__id__": "Wait", "result": False, "changes": {}, "comment": "still runs"},
        "3": {"__id__": "Run", "result": False, "comment": "One or more requisite failed: x.Wait"},
    }
    monkeypatch.setattr(saltcall, "call", lambda *_, **__: answer)
    spoken = io.StringIO()
    context = make_context(tmp_path, ui=Ui(spoken, is_terminal=False, interval_s=3600))
    states = States(("a",), local=True, tells="Remove", steps=("Import", "Remove", "Wait", "Run"))
    phase = Phase("C", "n", "t", states, "u")
    with pytest.raises(SaltError, match="1 state of a failed"):
        runner.run_phases(Operation("bootstrap", (phase,)), [phase], context)
    assert "was removed" in spoken.getvalue()
    *_, end = journal.read(context.journal.file)
    assert (end.event, end.steps) == ("failed", ("Remove: was removed", "Wait: failed: still runs"))
