# SPDX-License-Identifier: Apache-2.0
"""Files are there whole or not at all, and nothing is left of those that were not finished."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from build.base.files import replacing, sweep, write_atomically, write_if_changed


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a" / "file"
    write_atomically(file, b"old")

    def fail() -> None:
        with replacing(file) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in file.parent.iterdir()] == ["file"]


def test_the_bytes_are_on_disk_before_the_name_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def watched_sync(descriptor: int) -> None:
        order.append("sync")
        sync(descriptor)

    def watched_replace(one: Path, other: Path) -> Path:
        order.append("rename")
        return replace(one, other)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_atomically(tmp_path / "file", b"data")
    assert order == ["sync", "rename", "sync"]


def test_the_same_text_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert write_if_changed(file, "text")
    before = file.stat().st_mtime_ns
    assert not write_if_changed(file, "text")
    assert file.stat().st_mtime_ns == before


@pytest.mark.subprocess
def test_only_what_ended_processes_left_is_swept(tmp_path: Path) -> None:
    """By a Python that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = (f".x.iso.{ended.pid}.tmp", f".x.iso.{os.getpid()}.tmp", ".note.tmp", "x.iso")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in sweep(tmp_path)] == [names[0]]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names[1:])
    assert sweep(tmp_path / "absent") == ()


def test_two_threads_may_write_the_same_file(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def write(number: int) -> None:
        with replacing(tmp_path / "x") as temporary:
            temporary.write_bytes(bytes([number]) * 9)
            together.wait(timeout=30)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(write, (1, 2)))
    assert (tmp_path / "x").read_bytes() in (b"\1" * 9, b"\2" * 9)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
