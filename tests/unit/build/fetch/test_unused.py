# SPDX-License-Identifier: Apache-2.0
"""What no lock needs any more: listed first, removed when that is wanted, never under a build."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from build.base.errors import LockError, StoreError
from build.fetch.unused import find_locks, find_unused, remove, render
from build.inventory.model import Digest
from build.lock.lockfile import dump_lock
from build.store.objects import Store
from tests.unit.build.factory import World, make_world

NOW_S = 1_900_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Make a world with something that its lock does not name."""
    made = make_world(tmp_path / "cache")
    needed = {blob.digest.hex for blob in made.lock.blobs()}
    for file in made.store.root.glob("sha256/*/*"):  # an image that the world made twice
        if file.name not in needed:
            file.unlink()
    made.store.add_bytes(b"of an older lock", Digest.of_bytes(b"of an older lock"))
    partial = made.store.root / "partial"
    (partial / ("0" * 64)).write_bytes(b"ha")
    (partial / made.lock.packages[0].digest.hex).write_bytes(b"wanted")
    for name, age_s in (("old", 40 * 86400), ("new", 86400)):
        file = tmp_path / "cache" / "metadata" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (NOW_S - age_s, NOW_S - age_s))
    return made


@pytest.fixture
def lock_file(world: World, tmp_path: Path) -> Path:
    file = tmp_path / "caisson.lock"
    file.write_text(dump_lock(world.lock))
    return file


def names(tmp_path: Path, lock_file: Path) -> list[str]:
    return [item.file.name for item in find_unused([lock_file], tmp_path / "cache", now_s=NOW_S)]


def test_only_what_no_lock_names_is_found(world: World, lock_file: Path, tmp_path: Path) -> None:
    assert names(tmp_path, lock_file) == [Digest.of_bytes(b"of an older lock").hex, "0" * 64, "old"]


def test_it_is_listed_first_and_removed_when_wanted(world: World, lock_file: Path, tmp_path: Path) -> None:
    unused = tuple(find_unused([lock_file], tmp_path / "cache", now_s=NOW_S))
    assert render(unused, [lock_file], is_done=False).splitlines() == [
        "1 x object, 16 B",
        "1 x unfinished download, 2 B",
        "1 x old metadata, 1 B",
        "could be removed: 19 B; './doit.sh gc --yes' removes it",
        f"needed by: {lock_file}",
    ]
    assert all(item.file.exists() for item in unused)
    remove(unused, world.store)
    assert names(tmp_path, lock_file) == []
    assert all(world.store.path(blob.digest).exists() for blob in world.lock.blobs())
    assert render((), [lock_file], is_done=False).startswith("nothing is unused")


def test_nothing_is_removed_under_a_build(world: World, lock_file: Path, tmp_path: Path) -> None:
    """An open file with the lock stands for another process: the kernel makes no difference."""
    unused = tuple(find_unused([lock_file], tmp_path / "cache", now_s=NOW_S))
    with (world.store.root / "users").open("w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(StoreError, match="a build uses the store"):
            remove(unused, world.store)
    assert len(names(tmp_path, lock_file)) == 3
    with world.store.unused(), pytest.raises(StoreError, match="being removed"):
        world.store.use()
    world.store.use()
    with pytest.raises(StoreError, match="a build uses the store"):
        remove(unused, Store(world.store.root))


def test_without_a_lock_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="there is no lock"):
        list(find_unused([], tmp_path, now_s=NOW_S))


def test_a_lock_that_cannot_be_read_stops_it(world: World, lock_file: Path, tmp_path: Path) -> None:
    lock_file.write_text("no lock")
    with pytest.raises(LockError):
        names(tmp_path, lock_file)


def test_the_locks_of_a_checkout_are_found(repository_dir: Path, tmp_path: Path) -> None:
    made = tmp_path / "_out" / "lab" / "upstream" / "caisson.lock"
    made.parent.mkdir(parents=True)
    for file in (made, tmp_path / "plant.lock"):
        file.write_text("format: 1\n")
    for name in ("_out/.lock", "_out/lab/upstream/start.lock"):  # of programs, which hold them
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("4711 lab\n")
    assert find_locks(tmp_path) == (made, tmp_path / "plant.lock")
