# SPDX-License-Identifier: Apache-2.0
"""Read which Go modules a binary was built from: what the linker wrote into its section ``.go.buildinfo``.

ELF file --section--> version of Go, text of module lines -> GoBinary

No Go tool is needed. Binaries of Go before 1.18 hold pointers in place of the text: they are passed over.
Source: Go 1.18 and later, debug/buildinfo/buildinfo.go and runtime/debug/mod.go; ELF-64 object file format.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from mmap import mmap

ELF_MAGIC = b"\x7fELF"
_MAGIC = b"\xff Go buildinf:"
_ALIGN = 16
_HEADER_BYTES = 32
_IS_INLINE = 2
_SENTINEL_BYTES = 16
_SECTION = ".go.buildinfo"
_LOAD, _WRITABLE = 1, 2
_SEARCHED_BYTES = 1 << 20
#: A linker writes one such section, and a handful of segments; a file that names thousands is not from one.
_SEARCHED_RANGES = 8
_LONGEST_NUMBER_BITS = 63

Image = bytes | mmap


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoModule:
    """A module as it was built in: after replacement. ``digest`` is its ``h1:`` sum, empty where unknown."""

    path: str
    version: str
    digest: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoBinary:
    """A Go program: its main package and module, and all modules that it is linked from, sorted by path."""

    go_version: str
    package: str
    main: GoModule | None
    modules: tuple[GoModule, ...]


def read_go_binary(image: Image) -> GoBinary | None:
    """Return what a file says of its Go modules; None when it is no 64-bit ELF file of Go 1.18 or later."""
    for start in _candidates(image):
        try:
            if image[start + len(_MAGIC) + 1] & _IS_INLINE:
                version, end = _text(image, start + _HEADER_BYTES)
                modules, _ = _text(image, end)
                return _parse(version.decode(), modules)
        except (IndexError, UnicodeDecodeError):
            continue
    return None


def _candidates(image: Image) -> Iterator[int]:
    """Yield where the information may begin: in its section, or in the data of a file without sections."""
    if image[:4] != ELF_MAGIC or image[4:6] != b"\x02\x01":  # 64 bits, little-endian
        return
    try:
        ranges = [*_sections(image, _SECTION)] or [*_writable_segments(image)]
    except struct.error:
        return
    for offset, size_bytes in ranges[:_SEARCHED_RANGES]:
        position = offset
        while (position := image.find(_MAGIC, position, offset + size_bytes)) >= 0:
            if (position - offset) % _ALIGN == 0:
                yield position
            position += 1


def _sections(image: Image, name: str) -> Iterator[tuple[int, int]]:
    (table,) = struct.unpack_from("<Q", image, 0x28)
    entry_bytes, count, names_index = struct.unpack_from("<HHH", image, 0x3A)
    if not table or names_index >= count:
        return
    headers = [struct.unpack_from("<IIQQQQ", image, table + index * entry_bytes) for index in range(count)]
    names = headers[names_index][4]
    for header in headers:
        start = names + header[0]
        if image[start : start + len(name) + 1] == name.encode() + b"\0":
            yield header[4], header[5]


def _writable_segments(image: Image) -> Iterator[tuple[int, int]]:
    (table,) = struct.unpack_from("<Q", image, 0x20)
    entry_bytes, count = struct.unpack_from("<HH", image, 0x36)
    for index in range(count):
        kind, flags, offset, _, _, size_bytes = struct.unpack_from(
            "<IIQQQQ", image, table + index * entry_bytes
        )
        if kind == _LOAD and flags & _WRITABLE:
            yield offset, min(size_bytes, _SEARCHED_BYTES)


def _text(image: Image, position: int) -> tuple[bytes, int]:
    """Return the text at a position, which has its length before it, and where it ends.

    Raises: IndexError when there is no such text.
    """
    length = shift = 0
    while True:
        byte = image[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > _LONGEST_NUMBER_BITS:
            raise IndexError("a length of more than 64 bits")
    if length > len(image) - position:
        raise IndexError("a text that ends after the file")
    return image[position : position + length], position + length


def _parse(version: str, text: bytes) -> GoBinary | None:
    is_framed = len(text) > 2 * _SENTINEL_BYTES and text[-_SENTINEL_BYTES - 1] == ord("\n")
    lines = text[_SENTINEL_BYTES:-_SENTINEL_BYTES].decode().splitlines() if is_framed else []
    package, main = "", None
    modules: list[GoModule] = []
    for line in lines:
        kind, *words = line.split("\t")
        words += [""] * (3 - len(words))
        if kind == "path":
            package = words[0]
        elif kind == "mod":
            main = GoModule(path=words[0], version=words[1], digest=words[2])
        elif kind in ("dep", "=>"):
            if kind == "=>" and modules:
                modules.pop()
            modules.append(GoModule(path=words[0], version=words[1], digest=words[2]))
    if not version.startswith(("go", "devel")) or not version.isprintable():
        return None
    ordered = tuple(sorted(modules, key=lambda module: (module.path, module.version)))
    return GoBinary(go_version=version, package=package, main=main, modules=ordered)
