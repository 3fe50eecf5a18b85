# SPDX-License-Identifier: Apache-2.0
"""Write the checksum that ``checkisomd5`` reads into an ISO image.

    image file, application-use field of the primary volume descriptor empty -> the same, field filled

It finds bad media without any other file; it proves nothing about where the image came from. The result is
byte for byte that of ``implantisomd5`` 1.2.3. Source: isomd5sum, libimplantisomd5.c and utilities.c.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import BinaryIO

from build.base.errors import BuildError

SECTOR_BYTES = 2048
_FIRST_DESCRIPTOR = 16
_VOLUME_SPACE = slice(84, 88)  # number of sectors, the big-endian half
_APPLICATION_USE_OFFSET = 883
_APPLICATION_USE_BYTES = 512
_SKIPPED_SECTORS = 15
_FRAGMENTS = 20
_FRAGMENT_DIGITS = 3
_CHUNK_BYTES = 32 * 1024  # the tool's own buffer: where a fragment ends depends on it


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Volume:
    field_offset: int
    size_bytes: int


def implant_md5(iso_file: Path) -> str:
    """Fill the application-use field with the checksums of the image and return the MD5 digest (hexadecimal).

    The image must be at least 1 MiB for ``checkisomd5`` to accept it (its buffer must fit in a fragment).

    Raises: BuildError when the file is no ISO 9660 image or the field is in use.
    """
    with iso_file.open("r+b") as image:
        volume = _find_volume(image, iso_file)
        digest, fragments = _sums(image, volume.size_bytes - _SKIPPED_SECTORS * SECTOR_BYTES)
        text = (
            f"ISO MD5SUM = {digest};SKIPSECTORS = {_SKIPPED_SECTORS};RHLISOSTATUS=0;"
            f"FRAGMENT SUMS = {fragments};FRAGMENT COUNT = {_FRAGMENTS};"
            "THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
        )
        image.seek(volume.field_offset)
        image.write(text.encode("ascii").ljust(_APPLICATION_USE_BYTES))
    return digest


def is_md5_good(iso_file: Path) -> bool:
    """Say whether an image still has the MD5 sum that was implanted in it; False where none is.

    The last sectors and the field of the sum itself are not covered. Raises: BuildError when it is no image.
    """
    with iso_file.open("rb") as image:
        volume = _find_volume(image, iso_file, is_filled=True)
        image.seek(volume.field_offset)
        field = image.read(_APPLICATION_USE_BYTES)
        size_bytes = volume.size_bytes - _SKIPPED_SECTORS * SECTOR_BYTES
        digest, _ = _sums(image, size_bytes, blank_offset=volume.field_offset)
    return f"ISO MD5SUM = {digest};".encode("ascii") in field


def _find_volume(image: BinaryIO, iso_file: Path, *, is_filled: bool = False) -> _Volume:
    sector = _FIRST_DESCRIPTOR
    while True:
        image.seek(sector * SECTOR_BYTES)
        descriptor = image.read(SECTOR_BYTES)
        if len(descriptor) < SECTOR_BYTES or descriptor[1:6] != b"CD001" or descriptor[0] == 255:
            raise BuildError(
                f"'{iso_file.name}' is not an ISO 9660 image",
                details=f"no primary volume descriptor up to sector {sector}",
                resolution="remove the file and build it again",
            )
        if descriptor[0] == 1:
            break
        sector += 1
    field = descriptor[_APPLICATION_USE_OFFSET : _APPLICATION_USE_OFFSET + _APPLICATION_USE_BYTES]
    if field.strip() and not is_filled:
        raise BuildError(
            f"'{iso_file.name}' already holds a checksum or other application data",
            resolution="remove the file and build it again",
        )
    return _Volume(
        field_offset=sector * SECTOR_BYTES + _APPLICATION_USE_OFFSET,
        size_bytes=int.from_bytes(descriptor[_VOLUME_SPACE], "big") * SECTOR_BYTES,
    )


def _sums(image: BinaryIO, total_bytes: int, *, blank_offset: int | None = None) -> tuple[str, str]:
    """Return the MD5 of the first bytes and the digits of the running sums at the end of each fragment.

    With ``blank_offset`` the application-use field there is taken as the blanks that it was.
    """
    fragment_bytes = total_bytes // (_FRAGMENTS + 1)
    md5 = hashlib.md5(usedforsecurity=False)
    fragments: list[str] = []
    offset = previous = 0
    image.seek(0)
    while offset < total_bytes:
        chunk = image.read(min(_CHUNK_BYTES, total_bytes - offset))
        if not chunk:
            break
        if blank_offset is not None and offset <= blank_offset < offset + len(chunk):
            start = blank_offset - offset
            chunk = chunk[:start] + b" " * _APPLICATION_USE_BYTES + chunk[start + _APPLICATION_USE_BYTES :]
        md5.update(chunk)
        current = offset // fragment_bytes
        if current != previous:
            # The tool prints each byte with "%x" and keeps the first digit only.
            fragments.append("".join(f"{byte:x}"[0] for byte in md5.copy().digest()[:_FRAGMENT_DIGITS]))
            previous = current
        offset += len(chunk)
    return md5.hexdigest(), "".join(fragments)
