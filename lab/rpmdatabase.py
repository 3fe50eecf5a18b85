# SPDX-License-Identifier: Apache-2.0
"""Make the database of an image whose user land was never installed by rpm: a row for each package.

Only the table that says what is installed; its indexes are rpm's own business, and no rpm runs in that image.
Source: rpm 4.16, lib/backend/sqlite.c; docs/manual/format_lead.md and format_header.md.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

_LEAD_BYTES = 96
_MAGIC_BYTES = 8
_ENTRY_BYTES = 16


def render(rpm_files: Iterable[Path]) -> bytes:
    """Return a database that says these packages are installed."""
    with TemporaryDirectory(prefix="caisson-rpmdb-") as scratch:
        file = Path(scratch, "rpmdb.sqlite")
        with contextlib.closing(sqlite3.connect(file)) as base:
            base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
            rows = [(_header(rpm_file.read_bytes()),) for rpm_file in rpm_files]
            base.executemany("INSERT INTO Packages (blob) VALUES (?)", rows)
            base.commit()
        return file.read_bytes()


def _header(rpm: bytes) -> bytes:
    """Return an RPM's header without its magic: what comes after the lead and the header of its signature."""
    end = _end_of_header(rpm, _LEAD_BYTES)
    start = end + -end % 8
    return rpm[start + _MAGIC_BYTES : _end_of_header(rpm, start)]


def _end_of_header(rpm: bytes, start: int) -> int:
    count, size_bytes = struct.unpack_from(">II", rpm, start + _MAGIC_BYTES)
    return int(start + _MAGIC_BYTES + 8 + count * _ENTRY_BYTES + size_bytes)
