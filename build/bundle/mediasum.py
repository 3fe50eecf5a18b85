# SPDX-License-Identifier: Apache-2.0
"""Take the checksum that ``checkisomd5`` looks for of an image that is being written, and write it into it.

    bytes of an image, in their order -> MediaSum -> application-use field of the primary volume descriptor

It finds bad media without any other file; it proves nothing about where the image came from. The result is
byte for byte that of ``implantisomd5`` 1.2.3. Source: isomd5sum, libimplantisomd5.c and utilities.c.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

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
_HEAD_BYTES = 2 * _CHUNK_BYTES  # holds the volume descriptors
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Volume:
    field_offset: int
    field: bytes
    size_bytes: int


class MediaSum:
    """The sum of an image that comes in pieces. The field itself counts as the blanks that it was.

    An image must have at least 1 MiB for ``checkisomd5`` to accept it (its buffer must fit in a fragment).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._volume: _Volume | None = None
        self._left = bytearray()
        self._offset = 0
        self._fragment = 0
        self._fragments: list[str] = []
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Raises: BuildError when the first ones are not those of an ISO 9660 image."""
        self._left += data
        if self._volume is None and len(self._left) < _HEAD_BYTES:
            return
        with memoryview(self._left) as view:
            whole_bytes = len(view) - len(view) % _CHUNK_BYTES
            for start in range(0, whole_bytes, _CHUNK_BYTES):
                self._take(view[start : start + _CHUNK_BYTES])
        del self._left[:whole_bytes]

    def field(self) -> bytes:
        """Return what belongs into the field, when the image is at its end. Raises: BuildError."""
        if self._left:
            self._take(memoryview(bytes(self._left)))
            self._left.clear()
        self._find(b"")
        text = (
            f"ISO MD5SUM = {self._md5.hexdigest()};SKIPSECTORS = {_SKIPPED_SECTORS};RHLISOSTATUS=0;"
            f"FRAGMENT SUMS = {''.join(self._fragments)};FRAGMENT COUNT = {_FRAGMENTS};"
            "THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
        )
        return text.encode("ascii").ljust(_APPLICATION_USE_BYTES)

    def implant(self, iso_file: Path) -> None:
        """Write the field into the image whose bytes were taken.

        Raises: BuildError when the file is no ISO 9660 image or the field is in use.
        """
        field, volume = self.field(), self._find(b"")
        if volume.field.strip():
            raise BuildError(
                f"'{self._name}' already holds a checksum or other application data",
                resolution="remove the file and build it again",
            )
        with iso_file.open("r+b") as image:
            image.seek(volume.field_offset)
            image.write(field)

    def is_in(self, field: bytes) -> bool:
        """Say whether a field holds the sum of the bytes that were taken."""
        return self.field().partition(b";")[0] + b";" in field

    @property
    def found_field(self) -> bytes:
        """Return the field as it was in the bytes that were taken."""
        return self._find(b"").field

    def _take(self, chunk: memoryview) -> None:
        """Take one of the tool's buffers full, as far as the tool reads."""
        volume = self._find(chunk)
        start = volume.field_offset - self._offset
        if 0 <= start < len(chunk):
            blank = b" " * _APPLICATION_USE_BYTES
            chunk = memoryview(b"".join((chunk[:start], blank, chunk[start + len(blank) :])))
        total_bytes = volume.size_bytes - _SKIPPED_SECTORS * SECTOR_BYTES
        covered = chunk[: max(total_bytes - self._offset, 0)]
        if covered:
            self._md5.update(covered)
            fragment = self._offset // (total_bytes // (_FRAGMENTS + 1))
            if fragment != self._fragment:
                # The tool prints each byte with "%x" and keeps the first digit only.
                digest = self._md5.copy().digest()
                self._fragments.append("".join(f"{byte:x}"[0] for byte in digest[:_FRAGMENT_DIGITS]))
                self._fragment = fragment
        self._offset += len(chunk)

    def _find(self, chunk: memoryview | bytes) -> _Volume:
        if self._volume is None:
            self._volume = _find_volume(bytes(self._left or chunk), self._name)
        return self._volume


def is_md5_good(iso_file: Path) -> bool:
    """Say whether an image still has the MD5 sum that was implanted in it; False where none is.

    The last sectors and the field of the sum itself are not covered. Raises: BuildError when it is no image.
    """
    found = MediaSum(iso_file.name)
    with iso_file.open("rb", buffering=0) as image:
        while data := image.read(_READ_BYTES):
            found.update(data)
    return found.is_in(found.found_field)


def _find_volume(head: bytes, name: str) -> _Volume:
    offset = _FIRST_DESCRIPTOR * SECTOR_BYTES
    while True:
        descriptor = head[offset : offset + SECTOR_BYTES]
        if len(descriptor) < SECTOR_BYTES or descriptor[1:6] != b"CD001" or descriptor[0] == 255:
            raise BuildError(
                f"'{name}' is not an ISO 9660 image",
                details=f"no primary volume descriptor up to sector {offset // SECTOR_BYTES}",
                resolution="remove the file and build it again",
            )
        if descriptor[0] == 1:
            break
        offset += SECTOR_BYTES
    return _Volume(
        field_offset=offset + _APPLICATION_USE_OFFSET,
        field=descriptor[_APPLICATION_USE_OFFSET : _APPLICATION_USE_OFFSET + _APPLICATION_USE_BYTES],
        size_bytes=int.from_bytes(descriptor[_VOLUME_SPACE], "big") * SECTOR_BYTES,
    )
