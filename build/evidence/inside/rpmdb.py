# SPDX-License-Identifier: Apache-2.0
"""Read the database of rpm in its form of today: SQLite, a header a row.

The two older forms (Berkeley DB, ndb) cannot be read without their libraries: they are named, not passed over.
Source: rpm 4.16 and later, lib/backend/sqlite.c; docs/manual/format_header.md.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from build.evidence.inside.model import Package
from build.upstream import rpmtags
from build.upstream.rpmtags import Tags

_DIRECTORIES = r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)"
PATHS = re.compile(rf"{_DIRECTORIES}/rpmdb\.sqlite")
LOG_SUFFIX = "-wal"
OLD_PATHS = re.compile(rf"{_DIRECTORIES}/(?:Packages|Packages\.db)")
_STEPS_BETWEEN_LOOKS = 1_000_000
_MOST_LOOKS = 200
_KEYS = "gpg-pubkey"  # imported keys are kept as if they were packages


class DatabaseError(Exception):
    """A file is no database of rpm."""


def read_headers(file: Path) -> Iterator[Tags]:
    """Yield the header of each package of a database; a log of late writes beside it is taken along.

    Raises: DatabaseError.
    """
    mode = "ro" if file.with_name(file.name + LOG_SUFFIX).exists() else "ro&immutable=1"
    looks = 0

    def is_enough() -> bool:
        nonlocal looks
        looks += 1
        return looks > _MOST_LOOKS

    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True)) as base:
            base.set_progress_handler(is_enough, _STEPS_BETWEEN_LOOKS)
            base.execute("PRAGMA trusted_schema = OFF")
            if base.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall() != [
                ("table",)
            ]:
                raise DatabaseError("it has no table of packages")
            for (blob,) in base.execute("SELECT blob FROM Packages ORDER BY hnum"):
                tags = Tags.of_blob(blob if isinstance(blob, bytes) else b"")
                if tags.text(rpmtags.NAME) != _KEYS:
                    yield tags
    except (sqlite3.Error, ValueError) as exc:
        raise DatabaseError(str(exc)) from exc


def read_rpmdb(file: Path) -> tuple[Package, ...]:
    """Return the packages of a database. Raises: DatabaseError."""
    return tuple(
        Package(
            kind="rpm",
            name=tags.text(rpmtags.NAME),
            version=tags.evr,
            arch=tags.text(rpmtags.ARCH),
            source=tags.text(rpmtags.SOURCE_RPM),
            licence=tags.text(rpmtags.LICENCE),
        )
        for tags in read_headers(file)
        if tags.text(rpmtags.NAME)
    )
