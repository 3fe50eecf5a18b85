# SPDX-License-Identifier: Apache-2.0
"""Run the phases of an operation, whichever it is: announced, timed, journalled, and resumable.

The journal is written before and after each phase, so a kill or a power cut is seen by the next run, which simply
starts again from the first phase.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from installer.base.errors import InstallerError, StoppedError, UsageError
from installer.base.ui import format_seconds
from installer.engine import torn
from installer.engine.context import Context, Running
from installer.engine.phase import Operation, Phase


@dataclass(frozen=True)
class Outcome:
    """How one phase went."""

    name: str
    has_changed: bool
    seconds: float


def select(operation: Operation, start_from: str, context: Context) -> tuple[Phase, ...]:
    """Return the phases from the one called ``start_from`` on (all, if it is empty).

    Raises:
        UsageError: there is no such phase, or one before it was never finished on this host.
        InstallerError: what one before it made is gone.
    """
    if not start_from:
        return operation.phases
    names = [phase.name for phase in operation.phases]
    if start_from not in names:
        raise UsageError(f"there is no phase '{start_from}'", resolution=f"one of: {', '.join(names)}")
    index = names.index(start_from)
    missing = [name for name in names[:index] if not context.journal.has_done(name)]
    if missing:
        raise UsageError(
            f"--from {start_from}: the phase '{missing[0]}' before it was never finished on this host",
            details=f"never finished: {', '.join(missing)}",
            resolution=f"start with --from {missing[0]}, or without --from",
        )
    for phase in operation.phases[:index]:
        _look_again(phase, start_from, context)
    return operation.phases[index:]


def run_phases(
    operation: Operation,
    chosen: Sequence[Phase],
    context: Running,
    *,
    clock: Callable[[], float] = time.monotonic,
    clears: bool = True,
) -> tuple[Outcome, ...]:
    """Run the chosen phases of an operation one after the other; stop at the first that fails.

    ``clears``: what an interrupted run has left half-written is removed first; where others work beside this run, who
    starts all of them has done that.

    Raises:
        InstallerError: what the phase raised; its message then begins with the phase.
        ValueError: the journal is that of another operation.
    """
    if context.journal.operation != operation.name:
        raise ValueError(f"the journal is of '{context.journal.operation}', not of '{operation.name}'")
    left_open = context.journal.interrupted()
    if left_open is not None and clears:
        context.ui.note(f"the last run was interrupted in the phase '{left_open}': going on")
        for file in torn.remove(context.paths, context.ui.note):
            context.ui.detail(f"removed what it left half-written: {file}")
    outcomes = []
    for phase in chosen:
        number = operation.phases.index(phase) + 1
        context.journal.start(phase.name)
        context.ui.phase(phase.label, phase.title, number=number, total=len(operation.phases))
        outcomes.append(_run_phase(operation, phase, context, clock))
    return tuple(outcomes)


def describe(outcomes: Sequence[Outcome]) -> str:
    """Return the last line of a run.

    >>> describe([Outcome("a", False, 1.0), Outcome("b", False, 0.5)])
    '2 phases in 1.5 s, 0 changes'
    """
    changed = sum(outcome.has_changed for outcome in outcomes)
    total = format_seconds(sum(outcome.seconds for outcome in outcomes))
    return f"{len(outcomes)} phases in {total}, {changed} change{'' if changed == 1 else 's'}"


def _run_phase(operation: Operation, phase: Phase, context: Running, clock: Callable[[], float]) -> Outcome:
    started = clock()
    try:
        has_changed = phase.applies(context)
        if phase.awaits is not None:
            phase.awaits(context)
    except BaseException as exc:
        seconds = clock() - started
        context.ui.phase_end(f"FAILED after {format_seconds(seconds)}")
        context.journal.failed(phase.name, seconds=seconds)
        if isinstance(exc, KeyboardInterrupt):
            raise _in_phase(operation, phase, StoppedError("stopped")) from exc
        if isinstance(exc, InstallerError):
            raise _in_phase(operation, phase, exc) from exc
        raise
    seconds = clock() - started
    context.journal.done(phase.name, changed=has_changed, seconds=seconds)
    context.ui.phase_end(f"{'changed' if has_changed else 'ok'}, {format_seconds(seconds)}")
    return Outcome(phase.name, has_changed, seconds)


def _look_again(phase: Phase, start_from: str, context: Context) -> None:
    """Ask whether what a phase that is passed over has made still stands."""
    if phase.standing is None:
        return
    try:
        phase.standing(context)
    except InstallerError as exc:
        raise type(exc)(
            f"--from {start_from}: {exc.message}",
            details=exc.details,
            resolution=f"start without --from, or with --from {phase.name}",
        ) from exc


def _in_phase(operation: Operation, phase: Phase, error: InstallerError) -> InstallerError:
    """Return the error with the name of its phase and how to go on."""
    again = "run the same command again"
    if operation.begins_anywhere:
        again += f"; to begin at this phase, with the configuration as it is: --from {phase.name}"
    resolution = f"{error.resolution}\n{again}" if error.resolution else again
    return type(error)(f"{phase.label}: {error.message}", details=error.details, resolution=resolution)
