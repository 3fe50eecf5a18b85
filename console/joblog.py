# SPDX-License-Identifier: Apache-2.0
"""Take the lines of a job's log from the door: its end for a page, all of it for a file, what comes for a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from console import api
from console.door import Door
from console.known import SourceError
from console.views import base

SHOWN_BYTES = 48 * 1024
QUIET_S = 0.6
WAIT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Log:
    """The end of a log, and from where to go on without a lost or doubled line."""

    lines: tuple[str, ...]
    journal: int
    log: int
    is_cut: bool
    fault: str = ""


UNREAD = Log(lines=(), journal=0, log=0, is_cut=False)
"""Of a job of which nothing is known yet: all of it comes as a stream."""


def sizes_of(answer: Mapping[str, Any]) -> tuple[int, int]:
    """Return how long journal and log were when the door answered."""
    files = api.part(answer, "files")
    return base.whole(files.get("journal")) or 0, base.whole(files.get("log")) or 0


async def collect(door: Door, job_id: str, answer: Mapping[str, Any]) -> Log:
    """Return the end of a log, within two seconds."""
    journal, size = sizes_of(answer)
    begin = max(0, size - SHOWN_BYTES)
    lines: list[str] = []
    reached, fault = begin, ""
    try:
        async with asyncio.timeout(WAIT_S):
            async for found, told in until(door, job_id, journal=journal, log=begin, size=size):
                lines += found
                reached = told
    except TimeoutError:
        fault = "the door is slow: the log is not shown to its end"
    except SourceError as exc:
        fault = exc.message
    if begin and lines:
        del lines[0]  # it begins in the middle
    return Log(lines=tuple(lines), journal=journal, log=reached, is_cut=begin > 0, fault=fault)


async def until(
    door: Door, job_id: str, *, journal: int, log: int, size: int
) -> AsyncIterator[tuple[list[str], int]]:
    """Yield the lines between two places of a log; a last line without its end counts once nothing more comes.

    Raises:
        SourceError: the door does not answer.
    """
    reached = log
    events = door.follow(job_id, journal=journal, log=log)
    async with contextlib.aclosing(events):  # type: ignore[type-var]
        while reached < size:
            try:
                event = await asyncio.wait_for(anext(events), QUIET_S if reached > log else WAIT_S)
            except (StopAsyncIteration, TimeoutError):
                return
            if event.get("event") == "log":
                reached = base.whole(event.get("log")) or reached
                yield base.texts(api.part(event, "data").get("lines")), reached
