# SPDX-License-Identifier: Apache-2.0
"""Digests of files, taken once: remembered with size, modification time and inode.

Hashing all products costs a second a gigabyte, asking for their status a few milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from build.base.exclusive import take_output
from build.base.files import write_atomically
from build.inventory.model import Digest
from build.store.objects import Store


class DigestCache:
    """The digests of files and directories; kept in a file between runs.

    Objects of the store are not read: the store itself knows whether they are what their names say.
    """

    def __init__(self, cache_file: Path, store: Store) -> None:
        self._cache_file = cache_file
        self._store = store
        self._objects_dir = str(store.root / "sha256") + os.sep
        self._table: dict[str, list[int | str]] | None = None
        self._is_changed = False

    def digest(self, path: Path) -> str | None:
        """Return the digest of a file's content, or of a directory's names and contents; None when absent."""
        try:
            if path.is_dir():
                return self._directory(path)
            return self._file(str(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def refresh(self) -> None:
        """Ask the store anew what it holds: a step that ran may have filled it."""
        self._store = Store(self._store.root)

    def begin(self) -> None:
        """Keep other builds from the products, and what they are made of in the store, until the process ends.

        Raises: WorkspaceError when another build is at work here; StoreError when objects are being removed.
        """
        take_output(self._cache_file.parent)
        self._store.use()

    def learn(self, path: Path, digest: str) -> None:
        """Take the digest of a file from whoever wrote it just now, in place of reading it."""
        status = path.stat()
        self._rows()[str(path)] = [status.st_size, status.st_mtime_ns, status.st_ino, digest]
        self._is_changed = True

    def save(self) -> None:
        """Write what was learnt, without files that are gone."""
        if self._is_changed and self._table is not None:
            table = {name: row for name, row in self._table.items() if Path(name).exists()}
            write_atomically(self._cache_file, json.dumps(table, sort_keys=True).encode())
            self._is_changed = False

    def _directory(self, path: Path) -> str:
        names = sorted(
            os.path.join(parent, file)  # noqa: PTH118 - Path objects would triple the time
            for parent, _, files in os.walk(path)
            for file in files
        )
        whole = hashlib.sha256()
        for name in names:
            whole.update(f"{os.path.relpath(name, path)}\0{self._file(name)}\n".encode())
        return whole.hexdigest()

    def _file(self, name: str) -> str:
        status = os.stat(name)  # noqa: PTH116 - as above
        if name.startswith(self._objects_dir):
            return self._object(Path(name), status.st_size)
        seen: list[int | str] = [status.st_size, status.st_mtime_ns, status.st_ino]
        row = self._rows().get(name)
        if row is not None and row[:3] == seen:
            return str(row[3])
        digest = Digest.of_file(Path(name)).hex
        self._rows()[name] = [*seen, digest]
        self._is_changed = True
        return digest

    def _object(self, path: Path, size_bytes: int) -> str:
        if not self._store.has(Digest(path.name), size_bytes):
            raise FileNotFoundError(path)
        return path.name

    def _rows(self) -> dict[str, list[int | str]]:
        if self._table is None:
            try:
                self._table = dict(json.loads(self._cache_file.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                self._table = {}
        return self._table
