# SPDX-License-Identifier: Apache-2.0
"""Compare versions as rpm does: which of two builds is the newer one."""

from __future__ import annotations

import re

_PARTS = re.compile(r"[0-9]+|[a-zA-Z]+|[~^]")


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts versions, or releases, as rpm does.

    Numbers sort above letters, ``~`` below the end and ``^`` above it, but below everything else.
    Source: rpm 4.16, rpmio/rpmvercmp.c and doc/manual "Dependencies".

    >>> sorted(["1.10", "1.9", "1.9~rc1", "1.9^git", "1.9.a"], key=version_key)
    ['1.9~rc1', '1.9', '1.9^git', '1.9.a', '1.10']
    """
    return (*(_part_key(part) for part in _PARTS.findall(version)), (1, 0, ""))


def evr_key(epoch: int, version: str, release: str) -> tuple[object, ...]:
    """Return a key that sorts builds of a package: epoch, then version, then release."""
    return epoch, version_key(version), version_key(release)


def _part_key(part: str) -> tuple[int, int, str]:
    if part == "~":
        return 0, 0, ""
    if part == "^":
        return 2, 0, ""
    if part.isdecimal():
        return 4, int(part), ""
    return 3, 0, part
