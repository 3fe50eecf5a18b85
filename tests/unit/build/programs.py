# SPDX-License-Identifier: Apache-2.0
"""Programs of a few bytes for Linux on x86_64, linked from nothing: they run where there is nothing else."""

from __future__ import annotations

import struct

_OPEN, _SOCKET, _GETPID, _WRITE, _EXIT = 2, 41, 39, 1, 60
_START = 0x400000
_HEADERS = 64 + 56


def says(text: str, *, word_count: int = 0) -> bytes:
    """Return a program that writes a text; with ``word_count``, one that fails when called with other words."""
    check = b""
    if word_count:
        # cmp qword [rsp], word_count; je over the exit
        check = b"\x48\x83\x3c\x24" + bytes([word_count]) + b"\x74" + bytes([len(_exit(3))]) + _exit(3)
    return _elf([check], text)


def ends(code: int) -> bytes:
    """Return a program that ends at once."""
    return _elf([_exit(code)], "")


def says_when_it_can_open(path: str, text: str) -> bytes:
    """Return a program that opens a file to read it: it writes the text when it could, else ends with 4."""
    # lea rdi, [path]; xor esi, esi; mov eax, open; syscall; test eax, eax; jns over the exit
    after = b"\x31\xf6" + _number(_OPEN) + b"\x85\xc0\x79" + bytes([len(_exit(4))]) + _exit(4)
    return _elf([b"\x48\x8d\x3d", after], text, path)


def says_when_there_is_an_environment(text: str) -> bytes:
    """Return a program that writes the text when it was given any environment, else ends with 4."""
    # rax = argc; cmp qword [rsp + rax * 8 + 16], 0; jne over the exit
    check = b"\x48\x8b\x04\x24\x48\x83\x7c\xc4\x10\x00\x75" + bytes([len(_exit(4))]) + _exit(4)
    return _elf([check], text)


def _number(call: int) -> bytes:
    return b"\xb8" + struct.pack("<I", call) + b"\x0f\x05"


def _exit(code: int) -> bytes:
    return b"\xbf" + struct.pack("<I", code) + _number(_EXIT)


def _elf(code: list[bytes], text: str, path: str = "") -> bytes:
    """Return an executable: the code (cut where the address of ``path`` goes), then write, then an end."""
    data = text.encode() + path.encode() + b"\0"
    write_head, write_tail = (
        b"\xbf\x01\0\0\0\x48\x8d\x35",
        b"\xba" + struct.pack("<I", len(text)) + _number(_WRITE),
    )
    size = (
        sum(len(piece) for piece in code)
        + 4 * (len(code) - 1)
        + len(write_head)
        + 4
        + len(write_tail)
        + len(_exit(0))
    )
    out = code[0]
    for piece in code[1:]:
        out += struct.pack("<i", size - len(out) - 4 + len(text)) + piece
    out += write_head
    out += struct.pack("<i", size - len(out) - 4)
    out += write_tail + _exit(0) + data
    whole = _HEADERS + len(out)
    header = struct.pack(
        "<4s4B8xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        0,
        2,
        62,
        1,
        _START + _HEADERS,
        64,
        0,
        0,
        64,
        56,
        1,
        0,
        0,
        0,
    )
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _START, _START, whole, whole, 0x1000) + out
