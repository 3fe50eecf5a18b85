# SPDX-License-Identifier: Apache-2.0
"""Find where a value ends: a quoted one (escapes, doubled quotes, JSON inside of JSON), one in brackets, a bare one."""

from __future__ import annotations

import re
from dataclasses import dataclass

LINES = 40
"""How many lines below its own a quote or a bracket may close."""
_QUOTE = re.compile(r"(\\*)([\"'])")
_BRACKETS = re.compile(r"[\[\]{}\"']")
_NEXT_KEY = re.compile(r"[ \t](?=[{(]?\\{0,8}[\"']?[\w.-]{1,100}\\{0,8}[\"']?[:=])")
_AFTER_QUOTE = " \t\r,;:}])>&\\"


@dataclass
class Span:
    """What was opened and must close: a quote with the backslashes before it, or brackets ``depth`` deep."""

    quote: str = ""
    backslashes: int = 0
    depth: int = 0

    def end_in(self, line: str, start: int = 0) -> int | None:
        """Return where it ends in a line, or None: it goes on below. ``start`` is where it was opened, if here."""
        if self.quote:
            return self._end_of_quote(line, start)
        while True:
            found = _BRACKETS.search(line, start)
            if found is None:
                return None
            start = found.end()
            if found.group() in "\"'":
                # A bracket in a string is none; one that does not close here is an apostrophe.
                start = closing(line, start, found.group(), 0) or start
                continue
            self.depth += 1 if found.group() in "[{" else -1
            if self.depth <= 0:
                return start

    def _end_of_quote(self, line: str, start: int) -> int | None:
        position = start + (self.backslashes + 1 if start else 0)
        end = closing(line, position, self.quote, self.backslashes)
        # What follows a quote at once belongs to it: 'hun''ter2', 'hun'"'"'ter2', "hun"ter2.
        while end is not None and end < len(line) and line[end] not in _AFTER_QUOTE:
            if line[end] in "\"'":
                end = closing(line, end + 1, line[end], 0)
            else:
                end += 1
        return end


def opened(line: str, start: int) -> Span | None:
    """Return what begins at ``start``: a quote, brackets, or None for a bare value."""
    quote = _QUOTE.match(line, start)
    if quote is not None:
        return Span(quote.group(2), len(quote.group(1)))
    return Span() if line[start : start + 1] in ("[", "{") else None


def closing(line: str, start: int, quote: str, backslashes: int) -> int | None:
    r"""Return where a quote ends that was opened with so many backslashes; more of them are of a quote within.

    >>> closing(r'hun\"ter2" x', 0, '"', 0), closing(r'hun\\\"ter2\", \"', 0, '"', 1), closing("hun", 0, '"', 0)
    (10, 12, None)
    """
    position = start
    while True:
        found = line.find(quote, position)
        if found < 0:
            return None
        run = found - position - len(line[position:found].rstrip("\\"))
        if run % (2 * (backslashes + 1)) == backslashes:
            return found + 1
        position = found + 1


def end_of_word(line: str, start: int) -> int:
    """Return where a bare word ends."""
    return start + len(line[start:].split(None, 1)[0]) if line[start:].strip() else len(line)


def end_of_phrase(line: str, start: int) -> int:
    """Return where bare words end: before the next name with a value, or with the line."""
    found = _NEXT_KEY.search(line, start)
    return len(line) if found is None else found.start()
