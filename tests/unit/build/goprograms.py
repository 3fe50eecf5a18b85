# SPDX-License-Identifier: Apache-2.0
"""Go programs as far as their build information, made byte by byte."""

from __future__ import annotations

import struct

from build.evidence.gobuildinfo import GoBinary, GoModule

LINES = """path\texample.com/cmd/tool
mod\texample.com/tool\tv1.2.3\th1:own=
dep\texample.com/b\tv2.0.0
=>\texample.com/fork\tv2.0.1\th1:fork=
dep\texample.com/a\tv1.0.0\th1:a=
build\t-compiler=gc
"""
TOOL = GoBinary(
    go_version="go1.26.1",
    package="example.com/cmd/tool",
    main=GoModule(path="example.com/tool", version="v1.2.3", digest="h1:own="),
    modules=(
        GoModule(path="example.com/a", version="v1.0.0", digest="h1:a="),
        GoModule(path="example.com/fork", version="v2.0.1", digest="h1:fork="),
    ),
)


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7]) if number > 0x7F else bytes([number])


def information(lines: str = LINES, version: bytes = b"go1.26.1", flags: int = 2) -> bytes:
    text = b"<" * 16 + lines.encode() + b">" * 16
    return (
        (b"\xff Go buildinf:\x08" + bytes([flags])).ljust(32, b"\0")
        + varint(len(version))
        + version
        + (varint(len(text)) + text)
    )


def elf(data: bytes, *, has_sections: bool = True) -> bytes:
    """Return a 64-bit ELF file with one writable segment and, on wish, the section of the Go linker."""
    names = b"\0.go.buildinfo\0.shstrtab\0"
    data_offset = 64 + 56
    names_offset = data_offset + len(data)
    table = names_offset + len(names)
    header = struct.pack(
        "<4s4B8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0, 64, table if has_sections else 0, 0, 64,
        56, 1, 64, 3 if has_sections else 0, 2 if has_sections else 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 6, data_offset, 0, 0, len(data), len(data), 16)
    sections = bytes(64)
    for name, offset, size in ((1, data_offset, len(data)), (15, names_offset, len(names))):
        sections += struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)
    return header + segment + data + names + (sections if has_sections else b"")
