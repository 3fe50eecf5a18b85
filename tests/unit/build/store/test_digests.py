# SPDX-License-Identifier: Apache-2.0
"""Digests taken once and remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from build.inventory.model import Digest
from build.store.digests import DigestCache
from build.store.objects import Store


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / "digests.json", Store(tmp_path / "store"))


def test_a_file_is_read_again_only_when_its_status_changed(cache: DigestCache, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    status = file.stat()
    assert cache.digest(file) == Digest.of_bytes(b"one").hex
    file.write_text("two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.digest(file) == Digest.of_bytes(b"one").hex, "size, time and inode are those of before"
    os.utime(file, ns=(0, status.st_mtime_ns + 1))
    assert cache.digest(file) == Digest.of_bytes(b"two").hex


def test_what_the_writer_knows_is_not_read(cache: DigestCache, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    cache.learn(file, "told")
    assert cache.digest(file) == "told"
    cache.save()
    assert DigestCache(tmp_path / "digests.json", Store(tmp_path / "store")).digest(file) == "told"
    os.utime(file, ns=(0, 0))
    assert cache.digest(file) == Digest.of_bytes(b"x").hex, "it changed since"


def test_what_was_learnt_is_kept_without_what_is_gone(cache: DigestCache, tmp_path: Path) -> None:
    for name in ("stays", "goes"):
        (tmp_path / name).write_text(name)
        cache.digest(tmp_path / name)
    (tmp_path / "goes").unlink()
    cache.save()
    text = (tmp_path / "digests.json").read_text()
    assert "stays" in text
    assert "goes" not in text
    (tmp_path / "digests.json").write_text(text.replace(Digest.of_bytes(b"stays").hex, "remembered"))
    assert DigestCache(tmp_path / "digests.json", Store(tmp_path)).digest(tmp_path / "stays") == "remembered"


def test_a_broken_cache_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "digests.json").write_text("{")
    (tmp_path / "file").write_text("x")
    cache = DigestCache(tmp_path / "digests.json", Store(tmp_path / "store"))
    assert cache.digest(tmp_path / "file") == Digest.of_bytes(b"x").hex


def test_a_directory_is_its_names_and_contents(cache: DigestCache, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "b").write_text("1")
    seen = [cache.digest(tree)]
    (tree / "c").write_text("1")
    seen.append(cache.digest(tree))
    (tree / "c").rename(tree / "d")
    seen.append(cache.digest(tree))
    (tree / "d").write_text("22")
    seen.append(cache.digest(tree))
    (tree / "d").unlink()
    assert len(set(seen)) == 4
    assert cache.digest(tree) == seen[0]


def test_what_is_not_there_has_none(cache: DigestCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert cache.digest(tmp_path / "none") is None
    assert cache.digest(tmp_path / "file" / "below") is None


def test_an_object_of_the_store_is_known_by_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digest = Digest.of_bytes(b"object")
    path = store.add_bytes(b"object", digest)
    cache = DigestCache(tmp_path / "digests.json", store)
    assert cache.digest(path) == digest.hex
    path.chmod(0o644)
    path.write_bytes(b"broken")
    assert cache.digest(path) is None
    assert not path.exists(), "the store throws a broken object away"
