# SPDX-License-Identifier: Apache-2.0
"""Take private keys out of a text: in PEM, whole or cut off, and what of that is in base64 once more."""

from __future__ import annotations

import binascii
import re
import string
from collections.abc import Sequence

REMOVED = "[REMOVED]"
KEY_LIMIT = 16 * 1024
"""No private key is longer, as text."""
_MARK = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BASE64 = string.ascii_letters + string.digits + "+/="
#: With what stands for the end of a line inside of a JSON string, and what holds that.
_BODY = frozenset(_BASE64 + "\\\"',")
_HEADER = re.compile(r"\s*(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID): ")
_SHORTEST_LINE = 16
_BLOB = re.compile(
    r"[A-Za-z0-9+/]{24,}={0,2}"
    r"(?:\\?\n[ \t]*(?:(?:out|err)\| ?)?[-+|> \t\"']*[A-Za-z0-9+/]+={0,2}(?=[ \t\r\"',\\]*(?:\n|\Z)))*"
)
_IN_BLOB = (b"PRIVATE KEY", b'"auth', b'"password"', b'"identitytoken"')
#: A blob that begins like one with a key, and has lost the rest.
_CUT_BLOB = re.compile(r"LS0tLS1CRUdJTi(?!BDRVJU)[A-Za-z0-9+/=]*")


def without_keys(text: str) -> str:
    """Return a text without private keys; what is before and after them stays."""
    text = _CUT_BLOB.sub(REMOVED, _BLOB.sub(_judge_blob, text)) if "\n" in text or len(text) > 24 else text
    marks = list(_MARK.finditer(text))
    if not marks:
        return text
    kept, position = [], 0
    for index, mark in enumerate(marks):
        if mark.start() < position:
            continue
        if mark.group(1) == "BEGIN":
            start, end = mark.start(), _end_of_key(text, mark, marks[index + 1 : index + 2])
        else:
            start, end = _start_of_key(text, mark, position), mark.end()
        kept += [text[position:start], REMOVED]
        position = end
    return "".join([*kept, text[position:]])


def _judge_blob(found: re.Match[str]) -> str:
    """Return a piece of base64 as it is, or what stands for it when it holds a key or a log-in."""
    packed = found.group().translate(_ONLY_BASE64) if "\n" in found.group() else found.group()
    for skipped in range(4):
        piece = packed[skipped:].rstrip("=")
        data = binascii.a2b_base64(piece[: len(piece) // 4 * 4])
        if any(mark in data for mark in _IN_BLOB):
            return REMOVED
    return found.group()


_ONLY_BASE64 = {number: None for number in range(128) if chr(number) not in _BASE64[:-1]}


def _end_of_key(text: str, begin: re.Match[str], after: Sequence[re.Match[str]]) -> int:
    """Return where a key ends: with its own mark, or before the first line that is none of a key's."""
    limit = min(len(text), begin.end() + KEY_LIMIT)
    closing = after[0] if after and after[0].group(1) == "END" and after[0].start() <= limit else None
    if closing is not None:
        return closing.end()
    line_end = _line_end(text, begin.end(), limit)
    words = len(text[text.rfind("\n", 0, begin.start()) + 1 : begin.start()][-KEY_LIMIT:].split())
    end = begin.end() + _length_of_body(text[begin.end() : line_end])
    is_begun = False
    while end == line_end < limit and text.startswith("\n", end):
        line_end = _line_end(text, end + 1, limit)
        line = text[end + 1 : line_end]
        is_short = len(line.strip()) < _SHORTEST_LINE
        if not (_is_body(line, words) or _HEADER.match(line)) or (is_short and line.strip() and not is_begun):
            break
        end = line_end
        is_begun = not is_short
    return end


def _start_of_key(text: str, end: re.Match[str], earliest: int) -> int:
    """Return where a key begins whose own beginning is lost: before its lines of base64."""
    earliest = max(earliest, end.start() - KEY_LIMIT)
    line_start = max(earliest, text.rfind("\n", earliest, end.start()) + 1)
    head = text[line_start : end.start()]
    words = len(head.split())
    start = line_start + len(head.rstrip(_BASE64 + "\\")) if head.strip() else line_start
    if head.strip() and start != end.start():
        return start  # all of it on one line, as in JSON
    first = end.start() if head.strip() else line_start
    is_last = True
    while line_start > earliest:
        before = max(earliest, text.rfind("\n", earliest, line_start - 1) + 1)
        line = text[before : line_start - 1]
        is_long = is_last or before == 0 or len(line.strip()) >= _SHORTEST_LINE
        if not (line.strip() and is_long and _is_body(line, words)):
            break
        first = line_start = before
        is_last = False
    return first


def _is_body(line: str, words: int) -> bool:
    """Say whether a line is one of base64, alone or after as many words as stand before the mark of the key."""
    found = line.split()
    return not found or (len(found) in (1, words + 1) and _BODY.issuperset(found[-1]))


def _length_of_body(line: str) -> int:
    """Return how much of a line belongs to the key that began on it."""
    left = line.lstrip(_BASE64 + "\\ \t")
    return len(line) - len(left) if left not in ('"', "'", '",', "',") else len(line)


def _line_end(text: str, start: int, limit: int) -> int:
    found = text.find("\n", start, limit)
    return limit if found < 0 else found
