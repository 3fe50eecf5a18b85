# SPDX-License-Identifier: Apache-2.0
"""The store: what enters is what its name says, and what is bad is found."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from build.base.errors import IntegrityError, MissingError, StoreError
from build.inventory.model import Blob, Digest
from build.store.objects import Store, store_error

DATA = b"content of an object\n" * 1000
DIGEST = Digest.of_bytes(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_bytes_enter_under_their_digest_and_read_only(store: Store) -> None:
    path = store.add_bytes(DATA, DIGEST)
    assert path == store.root / "sha256" / DIGEST.hex[:2] / DIGEST.hex
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.has(DIGEST, len(DATA))
    assert not store.has(DIGEST, len(DATA) - 1)
    assert path.exists()


def test_other_bytes_do_not_enter(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.add_bytes(b"other", DIGEST)
    assert not store.path(DIGEST).exists()


def test_a_file_enters_only_as_what_it_is(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"other")
    with pytest.raises(IntegrityError) as caught:
        store.add_file(file, DIGEST)
    assert str(DIGEST) in caught.value.details
    assert file.exists()
    file.write_bytes(DATA)
    assert store.add_file(file, DIGEST).read_bytes() == DATA


def test_an_object_that_was_changed_is_found_and_removed(store: Store) -> None:
    path = store.add_bytes(DATA, DIGEST)
    path.chmod(0o644)
    path.write_bytes(b"X" + DATA[1:])
    assert not Store(store.root).has(DIGEST, len(DATA))
    assert not path.exists()


def test_a_truncated_object_is_found(store: Store) -> None:
    path = store.add_bytes(DATA, DIGEST)
    path.chmod(0o644)
    path.write_bytes(DATA[:-1])
    assert not store.has(DIGEST, len(DATA))


def test_an_unchanged_object_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_bytes(DATA, DIGEST)

    def refuse(path: Path) -> Digest:
        raise AssertionError(path)

    monkeypatch.setattr(Digest, "of_file", refuse)
    assert Store(store.root).has(DIGEST, len(DATA))


def test_an_object_that_was_only_touched_is_read_once(store: Store) -> None:
    path = store.add_bytes(DATA, DIGEST)
    path.touch()
    assert Store(store.root).has(DIGEST, len(DATA))
    lines = (store.root / "seen").read_text(encoding="ascii").splitlines()
    assert len(lines) == 2


def test_a_damaged_table_costs_only_reading(store: Store) -> None:
    store.add_bytes(DATA, DIGEST)
    (store.root / "seen").write_text("nonsense\nab 1 x 3\n", encoding="ascii")
    assert Store(store.root).has(DIGEST, len(DATA))


def rot(path: Path) -> None:
    """Change a byte so that size, time and inode do not tell."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"X" + DATA[1:])
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("read", [Store.read, Store.checked])
def test_whoever_reads_an_object_hashes_it(store: Store, read: Callable[[Store, Blob, str], object]) -> None:
    path = store.add_bytes(DATA, DIGEST)
    blob = Blob(digest=DIGEST, size_bytes=len(DATA))
    assert read(store, blob, "it") in (DATA, path)
    rot(path)
    assert store.has(DIGEST, len(DATA)), "its status says nothing"
    with pytest.raises(IntegrityError, match="it is damaged in the store") as caught:
        read(store, blob, "it")
    assert str(path) in caught.value.details
    assert not path.exists()


def test_the_table_is_compacted_when_most_of_it_says_nothing_new(store: Store) -> None:
    path = store.add_bytes(DATA, DIGEST)
    other = Digest.of_bytes(b"gone")
    store.add_bytes(b"gone", other).unlink()
    for _ in range(500):
        os.utime(path)
        assert store.has(DIGEST, len(DATA))
    seen = store.root / "seen"
    assert seen.read_text().count("\n") > 500
    with store.exclusive():
        pass
    (line,) = seen.read_text().splitlines()
    assert line.startswith(DIGEST.hex)
    assert store.has(DIGEST, len(DATA))
    assert Store(store.root).has(DIGEST, len(DATA))


def test_what_is_missing_is_named(store: Store) -> None:
    with pytest.raises(MissingError) as caught:
        store.require(Blob(digest=DIGEST, size_bytes=3), "package kubelet")
    assert "package kubelet" in caught.value.message
    assert str(DIGEST) in caught.value.details


def test_a_partial_file_goes_on_where_it_stopped(store: Store) -> None:
    with store.open_partial(DIGEST) as partial:
        partial.write(DATA[:700])
    with store.open_partial(DIGEST) as partial:
        states = [partial.offset, partial.is_good]
        partial.write(DATA[700:])
        states += [partial.offset, partial.is_good]
        assert states == [700, False, len(DATA), True]
        partial.commit()
    assert store.has(DIGEST, len(DATA))
    assert not (store.root / "partial" / DIGEST.hex).exists()


def test_a_bad_partial_file_does_not_enter_and_goes(store: Store) -> None:
    with store.open_partial(DIGEST) as partial:
        partial.write(b"nothing that was asked for")
        with pytest.raises(IntegrityError):
            partial.commit()
    assert not store.path(DIGEST).exists()
    with store.open_partial(DIGEST) as partial:
        assert partial.offset == 0


def test_a_store_has_one_writer(store: Store) -> None:
    with (
        store.exclusive(),
        pytest.raises(StoreError, match="another build"),
        Store(store.root).exclusive(),
    ):
        pass
    with store.exclusive():
        pass


def test_errors_of_the_system_say_what_to_do() -> None:
    full = store_error(OSError(errno.ENOSPC, "No space left on device"), Path("/store"))
    assert full.exit_code == StoreError.exit_code
    assert "no space left" in full.message
    assert "CAISSON_CACHE" in full.resolution
    read_only = store_error(OSError(errno.EROFS, "Read-only file system", "/store/x"), Path("/store"))
    assert "cannot be written" in read_only.message
    assert "/store/x" in read_only.details


def test_disk_full_while_writing_keeps_what_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.open_partial(DIGEST) as partial:
        partial.write(DATA[:100])

        stream = partial._stream

        class Full:
            def write(self, _data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            def close(self) -> None:
                stream.close()

        monkeypatch.setattr(partial, "_stream", Full())
        with pytest.raises(StoreError):
            partial.write(DATA[100:])
    with store.open_partial(DIGEST) as partial:
        assert partial.offset == 100
