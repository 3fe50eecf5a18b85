# SPDX-License-Identifier: Apache-2.0
"""Show each certificate with the days that are left to it, the first to end first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console import api, text
from console.known import Known
from console.views import base
from console.views.base import Mark

AMBER_DAYS, RED_DAYS, FIRST_DAYS = 90, 30, 7
SHOWN_DAYS = 730.0


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One certificate; ``width`` is its life in percents of two years, for the picture."""

    name: str
    file: str
    user: str
    days: int | None
    ends: float | None
    renewed_by: str
    is_authority: bool
    mark: Mark
    fault: str
    fix: str
    width: float


def certificate_of(data: Mapping[str, Any]) -> Certificate:
    """Return one certificate."""
    ends = text.moment(data.get("ends"))
    days = base.whole(data.get("days")) if ends is not None else None
    return Certificate(
        name=base.words(data.get("name")),
        file=base.words(data.get("file")),
        user=base.words(data.get("user")),
        days=days,
        ends=ends,
        renewed_by=base.words(data.get("renewed_by")),
        is_authority=data.get("authority") is True,
        mark=mark_of(days),
        fault=base.words(data.get("fault")),
        fix=base.words(data.get("fix")),
        width=0.0 if days is None else round(min(100.0, max(0.0, days / SHOWN_DAYS * 100)), 2),
    )


def mark_of(days: int | None) -> Mark:
    """Return how a certificate is by the days that are left.

    >>> [mark_of(days).value for days in (91, 90, 30, -1, None)]
    ['good', 'warn', 'bad', 'bad', 'unknown']
    """
    if days is None:
        return Mark.UNKNOWN
    return Mark.BAD if days <= RED_DAYS else Mark.WARN if days <= AMBER_DAYS else Mark.GOOD


def certificates_of(known: Known[dict[str, Any]]) -> list[Certificate]:
    """Return all certificates, those that cannot be read first, then by their end."""
    found = [certificate_of(data) for data in api.items(known.value, "certificates")]
    return sorted(found, key=lambda one: (one.ends is not None, one.ends or 0.0))


def list_view(known: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page of certificates shows."""
    found = certificates_of(known)
    return {
        "certificates": [one for one in found if not one.is_authority],
        "authorities": [one for one in found if one.is_authority],
        "source": base.slow_source(known, now),
        "marks": [(days, round(days / SHOWN_DAYS * 100, 2)) for days in (RED_DAYS, AMBER_DAYS)],
    }
