# SPDX-License-Identifier: Apache-2.0
"""Any operation's phases: told, journalled, resumable, and silent about nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.base.errors import HostError, InstallerError, MediaError, StoppedError, UsageError
from installer.base.ui import Ui
from installer.engine import journal, runner
from installer.engine.context import Context
from installer.engine.journal import Journal
from installer.engine.phase import Operation, Phase
from installer.engine.runner import Outcome
from tests.unit.installer.helpers import make_context


def make_phase(
    name: str,
    applies: Callable[[Context], bool] = lambda _: False,
    standing: Callable[[Context], None] | None = None,
) -> Phase:
    return Phase("CSP901", name, f"do {name}", applies, "none", standing=standing)


def raise_it(error: BaseException) -> Callable[[Context], bool]:
    def run(_: Context) -> bool:
        raise error

    return run


class Clock:
    """A clock that goes on by half a second at each look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def bootstrap(*phases: Phase) -> Operation:
    return Operation("bootstrap", phases)


def open_context(root: Path, operation: Operation, stream: io.StringIO | None = None) -> Context:
    """Return the context of a new start of an operation on the same host."""
    context = make_context(root, ui=Ui(stream or io.StringIO(), is_terminal=False))
    return make_context(
        root, ui=context.ui, journal=Journal(context.paths.journal_file, operation=operation.name)
    )


def run_all(operation: Operation, context: Context, start_from: str = "") -> tuple[Outcome, ...]:
    chosen = runner.select(operation, start_from, context)
    return runner.run_phases(operation, chosen, context, clock=Clock())


def test_a_run_is_told_and_journalled(tmp_path: Path) -> None:
    stream = io.StringIO()
    operation = bootstrap(make_phase("one"), make_phase("two", lambda _: True))
    context = open_context(tmp_path, operation, stream)
    outcomes = run_all(operation, context)
    assert outcomes == (
        Outcome("one", has_changed=False, seconds=0.5),
        Outcome("two", has_changed=True, seconds=0.5),
    )
    assert runner.describe(outcomes) == "2 phases in 1.0 s, 1 change"
    assert stream.getvalue().splitlines() == [
        "[ 1/2] CSP901 one: do one",
        "        ok, 0.5 s",
        "[ 2/2] CSP901 two: do two",
        "        changed, 0.5 s",
    ]
    assert [(entry.phase, entry.event, entry.changed) for entry in journal.read(context.journal.file)] == [
        ("one", "start", None),
        ("one", "done", False),
        ("two", "start", None),
        ("two", "done", True),
    ]


def test_a_failure_names_its_phase_and_how_to_go_on(tmp_path: Path) -> None:
    error = MediaError("the disk is red", details="facts", resolution="paint it")
    operation = bootstrap(make_phase("one", raise_it(error)), make_phase("two"))
    context = open_context(tmp_path, operation)
    with pytest.raises(MediaError) as caught:
        run_all(operation, context)
    assert str(caught.value) == (
        "CSP901 one: the disk is red\n  facts\n  -> paint it\n"
        "  -> run the same command again; to begin at this phase, with the configuration as it is: --from one"
    )
    assert [entry.event for entry in context.journal.entries] == ["start", "failed"]


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (KeyboardInterrupt(), StoppedError, "CSP901 one: stopped"),
        (ZeroDivisionError("zero"), ZeroDivisionError, "zero"),
    ],
)
def test_what_else_ends_a_phase_is_journalled_too(
    tmp_path: Path, error: BaseException, expected: type[Exception], message: str
) -> None:
    operation = bootstrap(make_phase("one", raise_it(error)))
    context = open_context(tmp_path, operation)
    with pytest.raises(expected, match=message):
        run_all(operation, context)
    assert context.journal.entries[-1].event == "failed"


def test_from_a_phase(tmp_path: Path) -> None:
    def gone(_: Context) -> None:
        raise HostError("the second is gone", resolution="make it")

    operation = bootstrap(make_phase("one"), make_phase("two", standing=gone), make_phase("three"))
    context = open_context(tmp_path, operation)
    assert runner.select(operation, "", context) == operation.phases
    with pytest.raises(UsageError, match="there is no phase 'x'"):
        runner.select(operation, "x", context)
    with pytest.raises(UsageError, match="'one' before it was never finished"):
        runner.select(operation, "three", context)
    for name in ("one", "two"):
        context.journal.done(name, changed=False, seconds=0)
    with pytest.raises(HostError, match="--from three: the second is gone") as caught:
        runner.select(operation, "three", context)
    assert caught.value.resolution == "start without --from, or with --from two"
    assert [phase.name for phase in runner.select(operation, "two", context)] == ["two", "three"]


# ---- a second operation through the same runner ----------------------------------------------------------


def test_another_operation_fails_resumes_and_starts_in_the_middle(tmp_path: Path) -> None:
    is_broken = [True]

    def place(_: Context) -> bool:
        if is_broken[0]:
            raise HostError("no room")
        return True

    operation = Operation("node-add", (make_phase("reach"), make_phase("place", place), make_phase("hello")))
    with pytest.raises(InstallerError, match="CSP901 place: no room"):
        run_all(operation, open_context(tmp_path, operation))
    with pytest.raises(UsageError, match="'place' before it was never finished"):
        run_all(operation, open_context(tmp_path, operation), "hello")
    is_broken[0] = False
    stream = io.StringIO()
    outcomes = run_all(operation, open_context(tmp_path, operation, stream), "place")
    assert [outcome.name for outcome in outcomes] == ["place", "hello"]
    assert stream.getvalue().startswith("[ 2/3] CSP901 place: do place\n")
    assert [outcome.name for outcome in run_all(operation, open_context(tmp_path, operation), "hello")] == [
        "hello"
    ]


def test_an_interrupted_run_is_told_to_its_own_operation_only(tmp_path: Path) -> None:
    one, other = bootstrap(make_phase("mount")), Operation("node-add", (make_phase("mount"),))
    open_context(tmp_path, one).journal.start("mount")
    said = {}
    for operation in (other, one):
        stream = io.StringIO()
        run_all(operation, open_context(tmp_path, operation, stream))
        said[operation.name] = (
            "the last run was interrupted in the phase 'mount': going on" in stream.getvalue()
        )
    assert said == {"node-add": False, "bootstrap": True}


def test_what_a_power_cut_left_empty_goes_before_the_first_phase(tmp_path: Path) -> None:
    torn_file = tmp_path / "etc/kubernetes/kubelet.conf"
    operation = bootstrap(make_phase("one", lambda _: torn_file.exists()))
    open_context(tmp_path, operation).journal.start("one")
    torn_file.parent.mkdir(parents=True)
    torn_file.touch()
    (outcome,) = run_all(operation, open_context(tmp_path, operation))
    assert not outcome.has_changed
    torn_file.touch()
    (outcome,) = run_all(operation, open_context(tmp_path, operation))
    assert outcome.has_changed, "no run was cut off: whoever made it meant it"


def test_what_another_operation_has_done_is_not_done(tmp_path: Path) -> None:
    one = bootstrap(make_phase("mount"), make_phase("serve"))
    run_all(one, open_context(tmp_path, one))
    other = Operation("node-add", one.phases)
    with pytest.raises(UsageError, match="'mount' before it was never finished"):
        runner.select(other, "serve", open_context(tmp_path, other))


def test_a_journal_of_another_operation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the journal is of 'bootstrap', not of 'node-add'"):
        runner.run_phases(Operation("node-add", ()), (), make_context(tmp_path))
