# SPDX-License-Identifier: Apache-2.0
"""Go programs, made here byte by byte, in layers of images."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from build.evidence.binaries import Scan, Scanner, merge_layers
from build.evidence.gobuildinfo import GoBinary, GoModule, read_go_binary
from build.inventory.model import Digest
from tests.unit.build.factory import tar_layer, zipped

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


@pytest.mark.parametrize("has_sections", [True, False])
def test_a_program_names_its_modules(has_sections: bool) -> None:
    assert read_go_binary(elf(information(), has_sections=has_sections)) == TOOL


def test_the_string_of_the_linker_alone_is_no_information() -> None:
    """A program that reads such information itself holds the same string, aligned or not."""
    decoy = b"\xff Go buildinf:".ljust(48, b"\0")
    assert read_go_binary(elf(decoy + information())) == TOOL


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF",
        elf(b"nothing of Go" * 8),
        elf(information(flags=0)),
        elf(information(version=b"gcc")),
        elf(information()[:40]),
    ],
)
def test_what_is_no_go_program(data: bytes) -> None:
    assert read_go_binary(data) is None


def test_a_layer_is_searched_once(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(
        zipped(tar_layer({"usr/bin/tool": elf(information()), "etc/x": b"x", "bin": "usr/bin"}))
    )
    digest = Digest.of_file(layer)
    found = Scanner(tmp_path / "cache").layer(layer, digest)
    assert found == Scan(programs={"/usr/bin/tool": TOOL})
    layer.unlink()
    assert Scanner(tmp_path / "cache").layer(layer, digest) == found


def test_a_layer_that_is_no_tar_says_so(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(b"\x28\xb5\x2f\xfd" + b"zstd is not read" * 100)
    assert not Scanner(tmp_path / "cache").layer(layer, Digest.of_file(layer)).is_readable


def test_layers_hide_what_is_below(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.write_bytes(tar_layer({"a/.wh.gone": b"", "b/.wh..wh..opq": b""}))
    upper = Scanner(tmp_path / "cache").layer(layer, Digest.of_file(layer))
    lower = Scan(programs={"/a/gone": TOOL, "/a/kept": TOOL, "/b/c/deep": TOOL, "/bb": TOOL})
    assert sorted(merge_layers([lower, upper])) == ["/a/kept", "/bb"]
