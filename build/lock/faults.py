# SPDX-License-Identifier: Apache-2.0
"""Collect the faults of branches that do not need one another, so that one run tells all of them.

work, items --attempt, each--> what could be had, and the errors of the rest --stop--> one error

Only errors for people are collected; anything else ends the run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from build.base.errors import BuildError, joined

_WORKERS = 8

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Faults:
    """The errors met so far; safe to use from several threads."""

    def __init__(self) -> None:
        self._errors: list[BuildError] = []
        self._guard = threading.Lock()

    def add(self, *errors: BuildError) -> None:
        """Keep errors."""
        with self._guard:
            self._errors += errors

    def attempt(self, work: Callable[[], _Out]) -> _Out | None:
        """Return what work returns; None when it failed, and keep the error."""
        try:
            return work()
        except BuildError as exc:
            self.add(exc)
            return None

    def each(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """Call for every item, some at once; return what could be had, in the order of the items."""

        def attempt(item: _In) -> tuple[_Out, ...]:
            try:
                return (work(item),)
            except BuildError as exc:
                self.add(exc)
                return ()

        return [outcome for found in in_threads(attempt, list(items)) for outcome in found]

    def stop(self, what: str) -> None:
        """Raise what was collected, as one error; nothing when there is none."""
        if self._errors:
            raise joined(self._errors, what)


def in_threads(work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Call for every item at once, in a bounded number of threads; the first error ends it."""
    pool = ThreadPoolExecutor(max_workers=_WORKERS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)
