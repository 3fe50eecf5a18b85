# SPDX-License-Identifier: Apache-2.0
"""Keep what a source said last, with its time, and ask each source once at a time.

A page waits for an answer at most :data:`WAIT_S`; a slower one goes on and is there for the next page. What is old
stays, with its date and the reason why there is nothing newer: a page can then say "as of", and never "OK".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

WAIT_S = 2.0
KEPT = 400
AGAIN_S = 1.0

T = TypeVar("T")
U = TypeVar("U")
DOOR = "the door of this host"
API = "the Kubernetes API"


class SourceError(Exception):
    """A source gave no answer, or refused one; ``status`` is the number of HTTP that fits, 0 where nobody answered."""

    def __init__(self, message: str, *, status: int = 0, rule: str = "", resolution: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.rule = rule
        self.resolution = resolution


@dataclass(frozen=True, kw_only=True)
class Known(Generic[T]):
    """What is known from a source: the last answer, when it came, and why there is no newer one."""

    source: str
    value: T | None = None
    at: float | None = None
    fault: SourceError | None = None

    def is_fresh(self, now: float, limit_s: float) -> bool:
        """Say whether the last answer is no older than the limit, and the last question was answered."""
        return self.at is not None and self.fault is None and now - self.at <= limit_s

    @property
    def is_refused(self) -> bool:
        """Say whether the user may not see it."""
        return self.fault is not None and self.fault.status == 403

    @property
    def is_silent(self) -> bool:
        """Say whether nobody answered."""
        return self.fault is not None and self.fault.status in (0, 503)

    def map(self, change: Callable[[T], U]) -> Known[U]:
        """Return the same with another value."""
        value = None if self.value is None else change(self.value)
        return Known(source=self.source, value=value, at=self.at, fault=self.fault)


def nothing(source: str, message: str, **more: Any) -> Known[Any]:
    """Return that nothing is known, and why."""
    return Known(source=source, fault=SourceError(message, **more))


@dataclass
class _Entry:
    known: Known[Any]
    task: asyncio.Task[None] | None = None
    asked: float = -1e9


class Cache:
    """The last answers, the least used of them forgotten first."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._now = now

    async def get(
        self,
        key: Hashable,
        source: str,
        ask: Callable[[], Awaitable[T]],
        *,
        fresh_s: float,
        wait_s: float | None = None,
    ) -> Known[T]:
        """Return what is known under a key; ask where that is older than ``fresh_s``, and nobody asks already."""
        entry = self._entry(key, source)
        known = entry.known
        wait_s = WAIT_S if wait_s is None else wait_s
        limit_s = fresh_s if known.fault is None else min(fresh_s, AGAIN_S)
        if entry.task is None and self._now() - entry.asked >= limit_s:
            entry.asked = self._now()
            entry.task = asyncio.create_task(self._ask(entry, ask))
        if entry.task is not None:
            task = entry.task
            await asyncio.wait({task}, timeout=wait_s)
            if not task.done() and entry.known.value is None and entry.known.fault is None:
                return nothing(source, f"no answer within {wait_s:g} s; still waiting")
        return entry.known

    def peek(self, key: Hashable, source: str) -> Known[Any]:
        """Return what is known without a question."""
        entry = self._entries.get(key)
        return Known(source=source) if entry is None else entry.known

    def forget(self, belongs: Callable[[Hashable], bool]) -> None:
        """Forget every answer whose key ``belongs``."""
        for key in [key for key in self._entries if belongs(key)]:
            del self._entries[key]

    def _entry(self, key: Hashable, source: str) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(Known(source=source))
        self._entries.move_to_end(key)
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        return entry

    async def _ask(self, entry: _Entry, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await ask()
        except SourceError as exc:
            # What a user may not see any more is not shown as of an earlier time.
            kept = replace(entry.known, value=None, at=None) if exc.status in (401, 403, 404) else entry.known
            entry.known = replace(kept, fault=exc)
        else:
            entry.known = Known(source=entry.known.source, value=value, at=self._now())
        finally:
            entry.task = None

    async def close(self) -> None:
        """End every question that is still open."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
