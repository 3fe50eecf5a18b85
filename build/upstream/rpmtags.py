# SPDX-License-Identifier: Apache-2.0
"""Read the values of an RPM header: of a package, or of a row of an RPM database, which is the same structure.

    count, size | index: (tag, kind, offset, count).. | values

Source: rpm, docs/manual/format_header.md and tags.md.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping

_INTRO = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")
_LARGEST_BYTES = 1 << 28
_INT16, _INT32, _STRING, _BINARY, _STRINGS, _TEXT = 3, 4, 6, 7, 8, 9

NAME, VERSION, RELEASE, EPOCH, VENDOR, LICENCE, ARCH = 1000, 1001, 1002, 1003, 1011, 1014, 1022
SOURCE_RPM, PROVIDES, PROVIDE_FLAGS, PROVIDE_VERSIONS = 1044, 1047, 1112, 1113
REQUIRES, REQUIRE_FLAGS, REQUIRE_VERSIONS = 1049, 1048, 1050
OLD_FILE_NAMES, DIR_INDEXES, BASE_NAMES, DIR_NAMES, FILE_CAPABILITIES = 1027, 1116, 1117, 1118, 5010


@dataclasses.dataclass(frozen=True)
class Tags:
    """The values of one header by their tag. What is not there, or is of another kind, is empty."""

    entries: Mapping[int, tuple[int, int, int]]
    values: bytes

    @classmethod
    def of_index(cls, index: bytes, values: bytes) -> Tags:
        """Return the tags of an index of whole entries and their values."""
        entries = {tag: (kind, offset, count) for tag, kind, offset, count in _ENTRY.iter_unpack(index)}
        return cls(entries, values)

    @classmethod
    def of_blob(cls, blob: bytes) -> Tags:
        """Return the tags of a header without its magic, as databases keep it.

        Raises: ValueError when it is none.
        """
        if len(blob) < _INTRO.size:
            raise ValueError("a header of less than 8 bytes")
        count, size_bytes = _INTRO.unpack_from(blob)
        end = _INTRO.size + count * _ENTRY.size
        if end + size_bytes > min(len(blob), _LARGEST_BYTES):
            raise ValueError(f"a header of {count} tags and {size_bytes} bytes in {len(blob)} bytes")
        return cls.of_index(blob[_INTRO.size : end], blob[end : end + size_bytes])

    def text(self, tag: int) -> str:
        """Return a text, or the first of several; the empty text when there is none."""
        return next((value.decode(errors="replace") for value in self._values(tag, 1)), "")

    def texts(self, tag: int) -> tuple[str, ...]:
        """Return all texts of a tag. Bytes that are no UTF-8 are kept as surrogates."""
        values = self._values(tag, self.entries.get(tag, (0, 0, 0))[2])
        return tuple(value.decode(errors="surrogateescape") for value in values)

    def _values(self, tag: int, count: int) -> Iterator[bytes]:
        kind, offset, _ = self.entries.get(tag, (0, 0, 0))
        if kind not in (_STRING, _STRINGS, _TEXT):
            return
        for _ in range(count):
            end = self.values.find(b"\0", offset)
            if end < 0:
                return
            yield self.values[offset:end]
            offset = end + 1

    def number(self, tag: int) -> int:
        """Return a number, or the first of several; 0 when there is none."""
        return next(iter(self.numbers(tag)), 0)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return all numbers of a tag of 32 bits each, as far as they are there."""
        kind, offset, count = self.entries.get(tag, (0, 0, 0))
        if kind != _INT32:
            return ()
        data = self.values[offset : offset + 4 * count]
        return tuple(number for (number,) in struct.iter_unpack(">I", data[: len(data) // 4 * 4]))

    def binary(self, tag: int) -> bytes | None:
        """Return bytes; None when there are none."""
        kind, offset, length = self.entries.get(tag, (0, 0, 0))
        return self.values[offset : offset + length] if kind == _BINARY else None

    @property
    def evr(self) -> str:
        """Return ``[epoch:]version-release``."""
        epoch = self.number(EPOCH)
        return f"{f'{epoch}:' if epoch else ''}{self.text(VERSION)}-{self.text(RELEASE)}"

    @property
    def files(self) -> tuple[str, ...]:
        """Return the whole paths of all files, in the header's order."""
        names, directories = self.texts(BASE_NAMES), self.texts(DIR_NAMES)
        if not names:
            return self.texts(OLD_FILE_NAMES)
        indexes = self.numbers(DIR_INDEXES)
        return tuple(
            directories[index] + name
            for name, index in zip(names, indexes, strict=False)
            if index < len(directories)
        )
