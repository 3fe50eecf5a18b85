# SPDX-License-Identifier: Apache-2.0
"""Collect the faults of branches that do not need one another, so that one run tells all of them.

work, items --attempt, each--> what could be had, and the errors of the rest --stop--> one error

What is no error for people (a bug, or input that nobody thought of) is told as a fault of its item, with its place
in the sources: it hides no other.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import shorten
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
        except Exception as exc:  # noqa: BLE001 - it must not hide the faults of others
            self.add(_unforeseen(exc, getattr(work, "__name__", "")))
        return None

    def each(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
        """Call for every item, some at once; return what could be had, in the order of the items."""

        def attempt(item: _In) -> tuple[_Out, ...]:
            try:
                return (work(item),)
            except BuildError as exc:
                self.add(exc)
            except Exception as exc:  # noqa: BLE001 - it must not hide the faults of others
                self.add(_unforeseen(exc, _name_of(item)))
            return ()

        return [outcome for found in in_threads(attempt, list(items)) for outcome in found]

    def stop(self, what: str) -> None:
        """Raise what was collected, as one error; nothing when there is none."""
        if self._errors:
            raise joined(self._errors, what)


def _name_of(item: object) -> str:
    """Return what people call an item: its reference, name or id, else its own text, not too long."""
    for attribute in ("reference", "name", "id"):
        if found := getattr(item, attribute, None):
            return str(found)
    return shorten(str(item), 120)


def _unforeseen(exc: Exception, name: str) -> BuildError:
    places = traceback.extract_tb(exc.__traceback__)
    place = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    error = BuildError(
        f"{name or 'a part'}: an error that was not foreseen",
        details=f"{type(exc).__name__}: {exc}{place}",
        resolution="see whether what upstream gives is whole; report the error, with these lines",
    )
    error.__cause__ = exc
    return error


def in_threads(work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Call for every item at once, in a bounded number of threads; the first error ends it."""
    pool = ThreadPoolExecutor(max_workers=_WORKERS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)
