# SPDX-License-Identifier: Apache-2.0
"""Go programs, made here byte by byte."""

from __future__ import annotations

import struct
import time

import pytest

from build.evidence.gobuildinfo import read_go_binary
from tests.unit.build.goprograms import TOOL, elf, information


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


def test_a_length_without_end_is_no_length() -> None:
    """A megabyte of bytes that all say "more follows" would become a number of seven million bits."""
    assert read_go_binary(elf(information()[:32] + b"\xff" * (1 << 20))) is None
    assert read_go_binary(elf(information()[:32] + b"\xff" * 8 + b"\x7f" + b"x" * 64)) is None


def test_a_file_that_names_its_section_ten_thousand_times_is_searched_a_few_times() -> None:
    count = 10_000
    data = b"\xff Go buildinf:\x08\x00" * (1 << 12)
    names = b"\0.go.buildinfo\0"
    header = struct.pack(
        "<4s4B8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0, 0, 64 + len(data) + len(names), 0, 64,
        56, 0, 64, count, 0,
    )  # fmt: skip
    section = struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(data), 0, 0, 1, 0)
    first = struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64 + len(data), len(names), 0, 0, 1, 0)
    started = time.monotonic()
    assert read_go_binary(header + data + names + first + section * (count - 1)) is None
    assert time.monotonic() - started < 5
