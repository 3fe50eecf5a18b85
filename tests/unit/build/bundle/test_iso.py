# SPDX-License-Identifier: Apache-2.0
"""The command that writes the ISO, and what stops it."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import CommandError, MissingError
from build.bundle import iso
from build.inventory.model import Digest
from build.store.filelist import Entry
from build.store.objects import Store


def entry(path: str, source: Path, size_bytes: int = 1, owner: str = "image a") -> Entry:
    return Entry(
        path=path, source=source, size_bytes=size_bytes, digest=Digest.of_bytes(b"x"), owners=(owner,)
    )


def test_every_source_that_is_gone_or_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("12")
    (tmp_path / "good").write_text("1")
    with pytest.raises(MissingError) as caught:
        iso.check_sources(
            [
                entry("a", tmp_path / "good"),
                entry("b", tmp_path / "short", owner="package b"),
                entry("c", tmp_path / "gone"),
            ]
        )
    assert caught.value.message == "2 files of the bundle cannot be taken"
    assert caught.value.details.splitlines() == [
        "b (package b): 2 bytes instead of 1",
        f"c (image a): No such file or directory: {tmp_path / 'gone'}",
    ]


@pytest.mark.subprocess
def test_a_failed_run_leaves_nothing_and_the_old_iso_in_place(tmp_path: Path) -> None:
    """By xorriso, told to read something that it may not put on an ISO."""
    old = tmp_path / "x.iso"
    old.write_text("old")
    (tmp_path / "list").mkdir()
    part = tmp_path / "part.json"
    part.write_text('{"facts": {}, "files": []}')
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("")
    (tmp_path / "work").write_text("a file where the directory of the path list should be")
    with pytest.raises((CommandError, FileExistsError, NotADirectoryError)):
        iso.run_iso([part], sums, old, "CAISSON", 0, Store(tmp_path / "store"), tmp_path / "work")
    assert old.read_text() == "old"
    assert not list(tmp_path.glob(".x.iso*"))
