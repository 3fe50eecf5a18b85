# SPDX-License-Identifier: Apache-2.0
"""The command that writes an image through a pipe, and what stops it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from build.base.errors import BuildError, CommandError
from build.bundle import imagewriting
from build.bundle.mediasum import is_md5_good
from build.inventory.model import Digest
from build.store.filelist import Entry, describe_file


def entry(path: str, source: Path) -> Entry:
    return Entry(path=path, source=source, size_bytes=1, digest=Digest.of_bytes(b"x"), owners=("image a",))


def test_the_command(golden: Callable[[str, str], None]) -> None:
    args = imagewriting.xorriso_args(
        7,
        Path("/out/iso.paths"),
        ["bootstrap.sh"],
        volume="CAISSON_1",
        source_date_epoch=1_760_000_000,
    )
    golden("xorriso-args.txt", "\n".join(args) + "\n")


def test_the_path_list_is_sorted_and_escaped() -> None:
    entries = [entry("repo/b=c.rpm", Path("/store/2=x")), entry("a b", Path("/store/1"))]
    assert imagewriting.render_path_list(entries) == "/a b=/store/1\n/repo/b\\=c.rpm=/store/2=x\n"


def test_a_source_with_a_line_break_is_refused() -> None:
    with pytest.raises(BuildError, match="cannot be put on an ISO"):
        imagewriting.render_path_list([entry("a", Path("/sto\nre/1"))])


@pytest.mark.subprocess
def test_the_sum_is_in_the_image_that_was_written(tmp_path: Path) -> None:
    """By xorriso."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_500_000))
    image = tmp_path / "x.iso"
    imagewriting.write_image(image, [describe_file("a", source)], "CAISSON", 1, tmp_path)
    assert is_md5_good(image)


@pytest.mark.subprocess
def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    """By xorriso; the device answers as a full disk does."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1_500_000))
    with pytest.raises(BuildError, match="no space left for the image"):
        imagewriting.write_image(Path("/dev/full"), [describe_file("a", source)], "CAISSON", 1, tmp_path)


@pytest.mark.subprocess
def test_a_source_that_xorriso_cannot_read_is_its_own_error(tmp_path: Path) -> None:
    """By xorriso."""
    with pytest.raises(CommandError, match="xorriso"):
        imagewriting.write_image(tmp_path / "x.iso", [entry("a", tmp_path / "gone")], "CAISSON", 1, tmp_path)
