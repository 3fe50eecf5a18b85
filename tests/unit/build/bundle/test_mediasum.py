# SPDX-License-Identifier: Apache-2.0
"""The checksum for checkisomd5, against what the real implantisomd5 1.2.3 wrote into the same image."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from build.base.errors import BuildError
from build.bundle.mediasum import MediaSum

SECTORS = 600


def write_image(file: Path, *, application_use: bytes = b" " * 512) -> Path:
    """Write something with the two descriptors that matter and 1.2 MB of content."""
    descriptor = bytearray(2048)
    descriptor[0], descriptor[1:6] = 1, b"CD001"
    descriptor[84:88] = SECTORS.to_bytes(4, "big")
    descriptor[883:1395] = application_use
    terminator = bytearray(2048)
    terminator[0], terminator[1:6] = 255, b"CD001"
    content = hashlib.shake_256(b"content").digest((SECTORS - 18) * 2048)
    file.write_bytes(b"\0" * 16 * 2048 + descriptor + terminator + content)
    return file


def implant(image: Path, piece_bytes: int = 100_000) -> None:
    """Take the sum of an image in pieces, and write it into it."""
    media_sum = MediaSum(image.name)
    data = image.read_bytes()
    for start in range(0, len(data), piece_bytes):
        media_sum.update(data[start : start + piece_bytes])
    media_sum.implant(image)


@pytest.mark.parametrize("piece_bytes", [1, 32 * 1024, 100_000, 1 << 20, 10 << 20])
def test_is_what_implantisomd5_writes(tmp_path: Path, piece_bytes: int) -> None:
    """Source: implantisomd5 of isomd5sum 1:1.2.3-5, run on this very image."""
    image = write_image(tmp_path / "image.iso")
    before = image.read_bytes()
    implant(image, piece_bytes)
    after = image.read_bytes()
    field = slice(16 * 2048 + 883, 16 * 2048 + 883 + 512)
    assert after[field].decode().rstrip() == (
        "ISO MD5SUM = d026cc26d0e4bb98f84e89956ed2420a;SKIPSECTORS = 15;RHLISOSTATUS=0;"
        "FRAGMENT SUMS = 66e1b8acbc718c8cb1a29624d6447ca2763a563794588126cdaf86d954de;FRAGMENT COUNT = 20;"
        "THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
    )
    assert after[: field.start] + before[field] + after[field.stop :] == before


def test_a_field_in_use_is_left_alone(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.iso", application_use=b"somebody's".ljust(512))
    before = image.read_bytes()
    with pytest.raises(BuildError, match="already holds"):
        implant(image)
    assert image.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"\0" * 40 * 2048], ids=["empty", "zeros"])
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file.iso"
    file.write_bytes(data)
    with pytest.raises(BuildError, match="not an ISO 9660 image"):
        implant(file)
