# SPDX-License-Identifier: Apache-2.0
"""The content-addressed store: what was fetched, each object once, named by its SHA-256 digest.

    ROOT/sha256/<2 hex>/<64 hex>   objects, read-only files; verified before they enter
    ROOT/partial/<64 hex>          objects that are being fetched; their length is the state of the download
    ROOT/seen                      one line an object: digest, size, mtime, inode at the time it was verified
    ROOT/lock                      held by the process that writes
    ROOT/users                     held by processes that read objects, so that none is removed meanwhile

An object whose size, mtime and inode are the ones of its line in ``seen`` is trusted without reading it;
any other object is read again, and thrown away when it is not what its name says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from build.base.errors import FIND_OUT_WHY, IntegrityError, MissingError, StoreError
from build.base.exclusive import HeldError, hold
from build.base.files import sweep, sync, write_atomically
from build.inventory.model import Blob, Digest

CHUNK_BYTES = 1 << 20
_SPARE_LINES = 100
#: The stores that this process reads, and the descriptors that say so.
_USED: dict[Path, int] = {}
_HEX64 = re.compile("[0-9a-f]{64}")
CACHE_VARIABLE = "CAISSON_CACHE"


def default_cache_dir() -> Path:
    """Return the cache directory: ``$CAISSON_CACHE``, else ``~/.cache/caisson``."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "caisson"


@dataclasses.dataclass(frozen=True)
class _Seen:
    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Seen:
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @property
    def line(self) -> str:
        """Return the words of a line after the digest."""
        return f"{self.size_bytes} {self.mtime_ns} {self.inode}"


class Store:
    """A store at a directory. Reading needs no lock; whoever writes holds :meth:`exclusive`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, _Seen] | None = None

    @classmethod
    def default(cls) -> Store:
        """Return the store of the default cache directory."""
        return cls(default_cache_dir() / "store")

    def path(self, digest: Digest) -> Path:
        """Return where the object of a digest is, whether it is there or not."""
        return self.root / "sha256" / digest.hex[:2] / digest.hex

    def has(self, digest: Digest, size_bytes: int) -> bool:
        """Say whether the store holds the object, whole.

        An object that changed since it entered is read again; a bad one is removed (or, where the store is
        read-only, only not counted).

        Raises: StoreError when the object cannot be read.
        """
        path = self.path(digest)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if status.st_size == size_bytes and self._table().get(digest.hex) == _Seen.of(status):
            return True
        return self.verify(digest, size_bytes)

    def verify(self, digest: Digest, size_bytes: int) -> bool:
        """Read the whole object and say whether it is what its name says; remove it when it is not.

        Raises: StoreError when the object cannot be read.
        """
        path = self.path(digest)
        is_good = False
        try:
            is_good = Digest.of_file(path) == digest
            if is_good:
                self._remember(digest, path)
            else:
                path.unlink()
            return is_good and path.stat().st_size == size_bytes
        except FileNotFoundError:
            return False
        except OSError as exc:
            if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                return is_good and path.stat().st_size == size_bytes
            raise store_error(exc, self.root) from exc

    def require(self, blob: Blob, what: str) -> Path:
        """Return the path of an object that must be there; ``what`` names it in the error.

        Raises: MissingError when the store does not have it.
        """
        if self.has(blob.digest, blob.size_bytes):
            return self.path(blob.digest)
        raise MissingError(
            f"{what} is not in the store",
            details=f"digest {blob.digest}, {blob.size_bytes} bytes; store {self.root}",
            resolution="run './doit.sh fetch' where the upstream can be reached",
        )

    def read(self, blob: Blob, what: str) -> bytes:
        """Return the content of an object that must be there, small enough for memory, hashed as it is read.

        A damaged one is removed, so that a fetch brings it again.

        Raises: MissingError when the store does not have it; IntegrityError when it is damaged.
        """
        file = self.require(blob, what)
        data = file.read_bytes()
        if Digest.of_bytes(data) != blob.digest:
            raise remove_damaged(file, what)
        return data

    def checked(self, blob: Blob, what: str) -> Path:
        """Return the path of an object for a program that reads it, after reading it whole.

        Raises: MissingError when the store does not have it; IntegrityError when it is damaged.
        """
        file = self.require(blob, what)
        if Digest.of_file(file) != blob.digest:
            raise remove_damaged(file, what)
        return file

    def add_file(self, file: Path, digest: Digest) -> Path:
        """Move a file of the same file system into the store, after reading it whole.

        Raises: IntegrityError when the content is not the digest's (the file stays); StoreError.
        """
        actual = Digest.of_file(file)
        if actual != digest:
            raise IntegrityError(
                f"file '{file.name}' is not the content that was expected",
                details=f"expected {digest}, got {actual}",
                resolution=FIND_OUT_WHY,
            )
        return self._enter(file, digest)

    def add_bytes(self, data: bytes, digest: Digest) -> Path:
        """Write bytes into the store.

        Raises: IntegrityError when they are not the digest's; StoreError.
        """
        actual = Digest.of_bytes(data)
        if actual != digest:
            raise IntegrityError(
                "content is not what its digest names",
                details=f"expected {digest}, got {actual} ({len(data)} bytes)",
                resolution=FIND_OUT_WHY,
            )
        partial = self._partial_dir() / f".{digest.hex}.{os.getpid()}.tmp"
        try:
            with partial.open("wb") as stream:
                stream.write(data)
        except OSError as exc:
            partial.unlink(missing_ok=True)
            raise store_error(exc, self.root) from exc
        return self._enter(partial, digest)

    def open_partial(self, digest: Digest) -> Partial:
        """Open the partial file of a digest, with all that an earlier run left of it.

        Raises: StoreError when it cannot be written.
        """
        return Partial(self, digest, self._partial_dir() / digest.hex)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store against other writers.

        Raises: StoreError at once when another process holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = hold(self.root / "lock", str(os.getpid()))
        except HeldError as exc:
            raise StoreError(
                "the store is in use by another build",
                details=f"store {self.root}; held by process {exc.holder}",
                resolution="wait until the other build has ended, or give this one its own CAISSON_CACHE",
            ) from exc
        except OSError as exc:
            raise store_error(exc, self.root) from exc
        with lock:
            try:
                sweep(self.root / "partial")
                self._compact()
                yield
            finally:
                lock.truncate(0)

    def use(self) -> None:
        """Say, until this process ends, that objects are read: nothing may be taken out of the store meanwhile.

        A store that cannot be written needs no such word.

        Raises: StoreError when something is being removed just now.
        """
        if self.root not in _USED:
            with contextlib.suppress(OSError):
                _USED[self.root] = _take_users_lock(self.root, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def unused(self) -> Iterator[None]:
        """Keep builds out while something is removed.

        Raises: StoreError when a build reads objects of this store.
        """
        descriptor = _take_users_lock(self.root, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    def _partial_dir(self) -> Path:
        directory = self.root / "partial"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise store_error(exc, self.root) from exc
        return directory

    def _enter(self, file: Path, digest: Digest) -> Path:
        """Put a verified file under its name: on disk first, then visible."""
        target = self.path(digest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as stream:
                os.fchmod(stream.fileno(), 0o444)
                os.fsync(stream.fileno())
            file.replace(target)
            sync(target.parent)
            self._remember(digest, target)
        except OSError as exc:
            raise store_error(exc, self.root) from exc
        return target

    def _table(self) -> dict[str, _Seen]:
        if self._seen is None:
            self._seen = dict(self._read_seen())
        return self._seen

    def _read_seen(self) -> Iterator[tuple[str, _Seen]]:
        try:
            text = (self.root / "seen").read_text(encoding="ascii")
        except OSError:
            return
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4 and _HEX64.fullmatch(words[0]) and all(word.isdecimal() for word in words[1:]):
                yield words[0], _Seen(int(words[1]), int(words[2]), int(words[3]))

    def _compact(self) -> None:
        """Write ``seen`` with one line an object that is there, once half of its lines say nothing new.

        A line that a reader appends meanwhile may be lost: its object is then read once more.
        """
        file = self.root / "seen"
        try:
            lines = file.read_bytes().count(b"\n")
        except OSError:
            return
        self._seen = None
        table = {name: seen for name, seen in self._table().items() if self.path(Digest(name)).exists()}
        if lines > 2 * len(table) + _SPARE_LINES:
            text = "".join(f"{name} {seen.line}\n" for name, seen in sorted(table.items()))
            write_atomically(file, text.encode("ascii"))
        self._seen = table

    def _remember(self, digest: Digest, path: Path) -> None:
        """Append one line, in one write: lines of several processes do not mix."""
        seen = _Seen.of(path.stat())
        line = f"{digest.hex} {seen.line}\n".encode("ascii")
        descriptor = os.open(self.root / "seen", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self._table()[digest.hex] = seen


class Partial:
    """An object on its way into the store; a context manager.

    ``offset`` bytes are there already. After a kill at most the chunk in memory is lost: the file is written
    without a buffer, in pieces of at most 1 MiB.
    """

    def __init__(self, store: Store, digest: Digest, path: Path) -> None:
        self._store = store
        self._digest = digest
        self.path = path
        self._hash = hashlib.sha256()
        self.offset = 0
        try:
            self._stream = path.open("a+b", buffering=0)
            self._stream.seek(0)
            while chunk := self._stream.read(CHUNK_BYTES):
                self._hash.update(chunk)
                self.offset += len(chunk)
        except OSError as exc:
            raise store_error(exc, store.root) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        """Append bytes. Raises: StoreError (disk full, read-only)."""
        view = memoryview(data)
        try:
            while view:
                written = self._stream.write(view[:CHUNK_BYTES])
                self._hash.update(view[:written])
                self.offset += written
                view = view[written:]
        except OSError as exc:
            raise store_error(exc, self._store.root) from exc

    def restart(self) -> None:
        """Throw away what is there. Raises: StoreError."""
        try:
            self._stream.truncate(0)
        except OSError as exc:
            raise store_error(exc, self._store.root) from exc
        self._hash = hashlib.sha256()
        self.offset = 0

    @property
    def is_good(self) -> bool:
        """Say whether the bytes so far are the whole object."""
        return self._hash.hexdigest() == self._digest.hex

    def commit(self) -> Path:
        """Put the object into the store.

        Raises: IntegrityError when it is not the digest's content: then the partial file is removed.
        """
        self._stream.close()
        if not self.is_good:
            self.path.unlink(missing_ok=True)
            raise IntegrityError(
                "the bytes received are not the ones that the lock names",
                details=f"expected {self._digest}, got sha256:{self._hash.hexdigest()} ({self.offset} bytes)",
                resolution=FIND_OUT_WHY,
            )
        return self._store._enter(self.path, self._digest)


def remove_damaged(file: Path, what: str) -> IntegrityError:
    """Remove a file that is not what its digest names any more, so that it is brought again; return the error."""
    with contextlib.suppress(OSError):  # a store that is read-only keeps it: it is never counted as good
        file.unlink(missing_ok=True)
    return IntegrityError(
        f"{what} is damaged in the store",
        details=f"{file} is not what its digest names any more, and was removed",
        resolution="run './doit.sh fetch', then './doit.sh' again; check the disk and the memory of this machine",
    )


def store_error(exc: OSError, root: Path) -> StoreError:
    """Turn an error of the operating system into one that says what to do about the store."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "no space left for the store",
            details=f"store {root}",
            resolution="free space there, or set CAISSON_CACHE to a larger disk; what was fetched is kept",
        )
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(
            "the store cannot be written",
            details=f"{exc.strerror}: {exc.filename or root}",
            resolution="make it writable for this user, or set CAISSON_CACHE to another directory",
        )
    return StoreError(
        "the store failed",
        details=f"{exc.strerror or exc}: {exc.filename or root}",
        resolution="check the disk under the store",
    )


def _take_users_lock(root: Path, how: int) -> int:
    """Take the lock of those who read objects (shared) or remove them (alone); the end of the process frees it."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        is_reader = how == fcntl.LOCK_SH
        raise StoreError(
            "objects are being removed from the store" if is_reader else "a build uses the store",
            details=f"store {root}",
            resolution="wait until that has ended, and run the same command again",
        ) from exc
    return descriptor
