# SPDX-License-Identifier: Apache-2.0
"""What the lab makes once and keeps: directories named by the digest of their inputs.

    <cache>/lab/<kind>/<name>/<digest>/        the result, renamed into place when it was complete
    <cache>/lab/<kind>/<name>/<digest>.json    its manifest: every file with size, sha256 and file times
    <cache>/lab/<kind>/<name>/<digest>.lock    held (flock) while it is made

A kept directory is trusted by its manifest: files whose size, time and inode are as recorded are taken as
they are, others are hashed again, and a directory that differs is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_DIGEST_LETTERS = 32


def cache_dir() -> Path:
    """Return the directory of all that Caisson keeps between runs: $CAISSON_CACHE or ~/.cache/caisson."""
    return Path(os.environ.get("CAISSON_CACHE") or Path.home() / ".cache" / "caisson")


def lab_dir(kind: str) -> Path:
    """Return the directory under which the lab keeps one kind of results, for example ``bin``."""
    return cache_dir() / "lab" / kind


def digest_of(parts: Mapping[str, str | bytes]) -> str:
    """Return a short name (128 bits of sha256, hex) for a set of named inputs, whatever their order.

    >>> digest_of({"a": "1", "b": b"2"}) == digest_of({"b": "2", "a": b"1"})
    True
    >>> digest_of({"a": "12"}) == digest_of({"a1": "2"})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(parts):
        value = parts[name]
        raw = value.encode() if isinstance(value, str) else value
        digest.update(f"{len(name)}:{name}:{len(raw)}:".encode())
        digest.update(raw)
    return digest.hexdigest()[:_DIGEST_LETTERS]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file or symbolic link of a kept directory. ``content`` is ``sha256:<hex>`` or ``link:<target>``."""

    content: str
    mode: int
    size_bytes: int
    mtime_ns: int
    inode: int


def produce(target_dir: Path, make: Callable[[Path], None]) -> Path:
    """Return ``target_dir``; have ``make`` fill it first if it is absent or not as its manifest says.

    ``make`` gets an empty directory beside the target. Two processes that want the same one wait for each
    other. What an interrupted run left beside the target is removed by the next that makes it.
    """
    if is_intact(target_dir):
        return target_dir
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    with locked(target_dir.parent / f"{target_dir.name}.lock"):
        if is_intact(target_dir):
            return target_dir
        manifest_file = _manifest_file(target_dir)
        manifest_file.unlink(missing_ok=True)
        remove_tree(target_dir)
        for left_over in target_dir.parent.glob(f".{target_dir.name}.*"):
            remove_tree(left_over)
        work_dir = Path(tempfile.mkdtemp(prefix=f".{target_dir.name}.", dir=target_dir.parent))
        try:
            work_dir.chmod(0o755)
            make(work_dir)
            entries = dict(_scan(work_dir))
            work_dir.rename(target_dir)
        except BaseException:
            remove_tree(work_dir)
            raise
        _write_manifest(manifest_file, entries)
    return target_dir


def is_intact(target_dir: Path) -> bool:
    """Tell whether a kept directory holds what its manifest says, and nothing else."""
    manifest_file = _manifest_file(target_dir)
    try:
        document = json.loads(manifest_file.read_text())
        recorded = {name: Entry(**fields) for name, fields in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not target_dir.is_dir():
        return False
    found: dict[str, Entry] = {}
    for name, path in _walk(target_dir):
        known = recorded.get(name)
        if known is None:
            return False
        now = _entry(path, known=known)
        if (now.content, now.mode, now.size_bytes) != (known.content, known.mode, known.size_bytes):
            return False
        found[name] = now
    if found.keys() != recorded.keys():
        return False
    if found != recorded:
        _write_manifest(manifest_file, found)
    return True


def recorded_sha256(target_dir: Path) -> dict[str, str]:
    """Return the sha256 of each regular file of a kept directory by its relative name, without reading it."""
    document = json.loads(_manifest_file(target_dir).read_text())
    contents = {name: str(fields["content"]) for name, fields in document["files"].items()}
    return {
        name: content.removeprefix("sha256:")
        for name, content in contents.items()
        if content.startswith("sha256:")
    }


@contextmanager
def locked(lock_file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system drops it when the process ends, however that is."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def replace_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary sibling, so that a reader sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a directory tree if it is there, read-only directories in it included."""
    if not path.exists():
        return
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)
    shutil.rmtree(path)


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names once each, in byte order."""
    return tuple(sorted(set(names)))


def _manifest_file(target_dir: Path) -> Path:
    return target_dir.parent / f"{target_dir.name}.json"


def _write_manifest(manifest_file: Path, entries: Mapping[str, Entry]) -> None:
    files = {name: asdict(entries[name]) for name in sorted(entries)}
    replace_text(manifest_file, json.dumps({"format": 1, "files": files}, indent=1) + "\n")


def _scan(directory: Path) -> Iterator[tuple[str, Entry]]:
    for name, path in _walk(directory):
        yield name, _entry(path, known=None)


def _walk(directory: Path) -> Iterator[tuple[str, Path]]:
    for parent, directories, files in os.walk(directory):
        links = [name for name in directories if Path(parent, name).is_symlink()]
        for name in files + links:
            path = Path(parent, name)
            yield str(path.relative_to(directory)), path


def _entry(path: Path, *, known: Entry | None) -> Entry:
    status = path.lstat()
    entry = Entry(
        content=known.content if known else "",
        mode=stat.S_IMODE(status.st_mode),
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
    )
    if known == entry:
        return entry
    if stat.S_ISLNK(status.st_mode):
        return replace(entry, content=f"link:{path.readlink()}")
    return replace(entry, content=f"sha256:{file_sha256(path)}")
