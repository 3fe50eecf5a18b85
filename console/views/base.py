# SPDX-License-Identifier: Apache-2.0
"""What several views need: how a thing is, in one of five words, and how fresh that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from console import text
from console.known import Known

API_FRESH_S = 10.0
DOOR_FRESH_S = 20.0
"""A host that hangs in parts takes seven seconds to say how it is."""
SLOW_FRESH_S = 120.0
"""Of what changes once a day and is asked for each half minute: certificates, ISOs, images."""


class Mark(StrEnum):
    """How a thing is; templates have a sign and a colour for each, never the colour alone."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"
    BUSY = "busy"


@dataclass(frozen=True, kw_only=True)
class Source:
    """From where a value is and of when, in words: what stands under every table."""

    name: str
    at: float | None
    note: str
    rule: str
    is_old: bool


def source_of(known: Known[Any], now: float, limit_s: float) -> Source:
    """Return what to say of a source."""
    note, rule = "", ""
    if known.fault is not None:
        note, rule = known.fault.message, known.fault.rule
    elif known.at is None:
        note = "not asked yet"
    elif now - known.at > limit_s:
        note = "no newer answer yet"
    is_old = known.value is not None and not known.is_fresh(now, limit_s)
    return Source(name=known.source, at=known.at, note=note, rule=rule, is_old=is_old)


def api_source(known: Known[Any], now: float) -> Source:
    """Return what to say of an answer of kube-apiserver."""
    return source_of(known, now, API_FRESH_S)


def door_source(known: Known[Any], now: float) -> Source:
    """Return what to say of an answer of the door."""
    return source_of(known, now, DOOR_FRESH_S)


def slow_source(known: Known[Any], now: float) -> Source:
    """Return what to say of an answer of the door that is not asked for often."""
    return source_of(known, now, SLOW_FRESH_S)


def number(found: Any) -> float | None:
    """Return a number; None where it is none."""
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def whole(found: Any) -> int | None:
    """Return a whole number; None where it is none."""
    return int(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def words(found: Any) -> str:
    """Return text, whatever was there."""
    return "" if found is None else str(found)


def texts(found: Any) -> list[str]:
    """Return a list of texts, whatever was there."""
    return [str(one) for one in found] if isinstance(found, list) else []


def ago(now: float, stamp: Any) -> float | None:
    """Return how many seconds ago a written time was; None where it is none."""
    moment = text.moment(stamp)
    return None if moment is None else now - moment
