# SPDX-License-Identifier: Apache-2.0
"""An archive that is cut short or damaged says so wherever it is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from build.store import layers

CONTENT = random.Random(1).randbytes(200_000)  # noqa: S311 - only hard to compress


def archive() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    return target.getvalue()


def read_all(file: Path) -> list[bytes]:
    found = []
    for tar, member in layers.members(file):
        stream = tar.extractfile(member)
        assert stream is not None
        found.append(stream.read())
    return found


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_content_is_whole_or_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "layer"
    whole = pack(archive())
    file.write_bytes(whole)
    assert read_all(file) == [CONTENT]
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(layers.ArchiveError):
        read_all(file)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_damage_within_content_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "layer"
    damaged = bytearray(pack(archive()))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 64] = bytes(64)
    file.write_bytes(damaged)
    with pytest.raises(layers.ArchiveError):
        read_all(file)
