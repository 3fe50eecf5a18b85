# SPDX-License-Identifier: Apache-2.0
"""The table of contents of the bundle, made in parts: who puts which file where, with size and digest.

    a step that makes files -> parts/NAME.json -+
    ...                                         +-> SHA256SUMS, index.html, the path list of the ISO
    a step that names objects of the store -----+

A file of the store is listed and never copied. Digests are the lock's, or are taken when a file is written:
nothing is read again to be listed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from build.base.errors import BuildError, IntegrityError, joined_faults
from build.base.files import write_atomically
from build.inventory.model import Digest

_IGNORED_DIRS = frozenset({"__pycache__"})
_IGNORED_SUFFIXES = (".pyc", ".pyo", ".orig", ".rej", ".swp", "~")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the bundle. ``path`` is relative to its root; ``owners`` say what the file belongs to."""

    path: str
    source: Path
    size_bytes: int
    digest: Digest
    owners: tuple[str, ...] = ()
    is_executable: bool = False

    def __post_init__(self) -> None:
        pure = PurePosixPath(self.path)
        if pure.is_absolute() or str(pure) != self.path or ".." in pure.parts or "\n" in self.path:
            raise ValueError(f"not a plain relative path: {self.path!r}")


def describe_file(path: str, source: Path, *, owners: Sequence[str] = ()) -> Entry:
    """Return the entry of a file that was just made, reading it once."""
    return Entry(
        path=path,
        source=source,
        size_bytes=source.stat().st_size,
        digest=Digest.of_file(source),
        owners=tuple(owners),
    )


def write_json(file: Path, value: object) -> None:
    """Write canonical JSON: sorted keys, two spaces, one newline at the end."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(file, text.encode())


def list_files(directory: Path) -> tuple[str, ...]:
    """Return the files below a source directory, relative and sorted, less what editors and Python leave."""
    found: list[str] = []
    for parent, names, files in os.walk(directory):
        names[:] = [name for name in names if name not in _IGNORED_DIRS and not name.startswith(".")]
        here = Path(parent)
        found += [
            (here / file).relative_to(directory).as_posix()
            for file in files
            if not file.startswith(".") and not file.endswith(_IGNORED_SUFFIXES)
        ]
    return tuple(sorted(found))


def replace_tree(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make ``directory`` hold exactly these files; the old tree stays until the new one is whole."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = directory.with_name(f".{directory.name}.new")
    stale = directory.with_name(f".{directory.name}.old")
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    for path, data in sorted(files.items()):
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if directory.exists():
        directory.rename(stale)
    fresh.rename(directory)
    shutil.rmtree(stale, ignore_errors=True)


def entries_of_tree(
    directory: Path, prefix: str, files: Mapping[str, bytes], owner: str
) -> tuple[Entry, ...]:
    """Return the entries of files that :func:`replace_tree` wrote, from the bytes in memory."""
    return tuple(
        Entry(
            path=f"{prefix}/{path}" if prefix else path,
            source=directory / path,
            size_bytes=len(data),
            digest=Digest(hashlib.sha256(data).hexdigest()),
            owners=(owner,),
        )
        for path, data in sorted(files.items())
    )


def write_part(file: Path, entries: Iterable[Entry], facts: Mapping[str, Any] | None = None) -> None:
    """Write the table of one part; ``facts`` are JSON data for the steps that follow."""
    write_json(
        file,
        {
            "facts": dict(facts or {}),
            "files": [
                {
                    "path": entry.path,
                    "source": str(entry.source),
                    "size_bytes": entry.size_bytes,
                    "sha256": entry.digest.hex,
                    "owners": list(entry.owners),
                    "executable": entry.is_executable,
                }
                for entry in sorted(entries, key=lambda entry: entry.path)
            ],
        },
    )


def read_part(file: Path) -> tuple[Entry, ...]:
    """Read the entries of one part. Raises: IntegrityError when it is damaged."""
    try:
        return tuple(_entries(_read(file)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise _damaged(file, exc) from exc


def read_facts(file: Path) -> dict[str, Any]:
    """Read the facts of one part. Raises: IntegrityError when it is damaged."""
    try:
        return dict(_read(file)["facts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise _damaged(file, exc) from exc


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def _damaged(file: Path, exc: Exception) -> IntegrityError:
    return IntegrityError(
        f"the list of a part of the bundle is damaged: {file.name}",
        details=f"{file}: {type(exc).__name__}: {exc}",
        resolution=f"build again (remove '{file}' first)",
    )


def _entries(part: Mapping[str, Any]) -> Iterator[Entry]:
    for item in part["files"]:
        yield Entry(
            path=item["path"],
            source=Path(item["source"]),
            size_bytes=int(item["size_bytes"]),
            digest=Digest(item["sha256"]),
            owners=tuple(item["owners"]),
            is_executable=item["executable"],
        )


def merge_parts(files: Iterable[Path]) -> tuple[Entry, ...]:
    """Join the tables of all parts, sorted by path; a file that several parts share is listed once.

    Raises: BuildError when two parts put different content at one path, or a file where another part has a
    directory. All such faults are named.
    """
    merged: dict[str, Entry] = {}
    faults: list[str] = []
    for file in files:
        for entry in read_part(file):
            known = merged.get(entry.path)
            if known is None:
                merged[entry.path] = entry
            elif known.digest != entry.digest:
                faults.append(f"{entry.path}: {_names(known)} and {_names(entry)} differ")
            else:
                owners = tuple(sorted({*known.owners, *entry.owners}))
                merged[entry.path] = dataclasses.replace(known, owners=owners)
    faults += [
        f"{parent}: a file, and a directory for {path}"
        for path in merged
        for parent in PurePosixPath(path).parents
        if str(parent) in merged
    ]
    if faults:
        raise BuildError(
            "two parts of the bundle want the same path",
            details=joined_faults(sorted(faults)),
            resolution="rename one of them in the inventory",
        )
    return tuple(merged[path] for path in sorted(merged))


def _names(entry: Entry) -> str:
    return ", ".join(entry.owners) or str(entry.source)
