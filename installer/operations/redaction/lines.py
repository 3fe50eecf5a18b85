# SPDX-License-Identifier: Apache-2.0
"""Take the values of secret names out of lines: YAML, JSON, TOML, shell, options, in logs and in patches of files.

A text of any form is looked at once, from its beginning to its end: no line is gone back over, whatever it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

from installer.operations.redaction import names, spans
from installer.operations.redaction.keys import REMOVED

#: What stands between a name and its value; a name in a string of JSON inside of JSON ends with ``\\"``.
_ASSIGNS = re.compile(r"\\*[\"']?\]?[ \t]{0,20}(?::=|=>|[:=])[ \t]*")
_NEXT_WORD = re.compile(r"\\*[\"']?(?:[ \t]*,[ \t]*|[ \t]+|(?=\r?\Z))")
_WORD = re.compile(r"[\w.-]+")
#: The value is below: nothing on this line, or the mark of a block of YAML.
_BLOCK = re.compile(r"(?:[!&]\S+[ \t]+)*(?:[|>][+-]?\d?[+-]?)?[ \t]*(?:#.*)?\r?\Z")
#: What a log or a patch puts before a line.
_PREFIX = re.compile(
    r"(?:\d{4}-\d\d-\d\dT\S{1,40} (?:[\w.-]{1,100} [\w./@-]{1,100}(?:\[\d+\])?: )?)?(?:[ \t]{0,8}(?:out|err)?\| ?)?"
)
_BEFORE_NAME = " \t+->\"'?"
_ENV_NAME = re.compile(
    r"(?i)\bname\\{0,8}[\"']?[ \t]{0,20}[:=][ \t]{0,20}\\{0,8}[\"']?([\w.-]{1,100})(?![\w.-])"
)
_VALUE = frozenset({"value"})
_VALUE_LINES = 3
"""How far the value of a variable of an environment may be from its name."""
BUDGET = 20_000
"""How many lines that hint at a secret are looked at thoroughly; more of them are taken out whole."""
_SECRET_KIND = re.compile(
    r"\bkind\\{0,8}[\"']?[ \t]{0,9}[:=][ \t]{0,9}\\{0,8}[\"']?(?:Sealed)?Secret(?:List)?\b"
)
OF_SECRETS = frozenset({"data", "stringdata"})
"""The keys of a Secret below which its values are."""


@dataclass
class Below:
    """A value that goes on below its line: deeper than ``column``, or to the end of ``span``, or the next line."""

    column: int
    span: spans.Span | None = None
    is_next: bool = False


def without_values(text: str) -> str:
    """Return a text in which the value of every secret name is taken out."""
    return _Page(text).redacted()


class _Page:
    """The lines of a text; one that is taken out is None."""

    def __init__(self, text: str) -> None:
        self._lines: list[str | None] = list(text.split("\n"))
        self._budget = BUDGET
        self._extra = OF_SECRETS if _SECRET_KIND.search(text) else frozenset({"stringdata"})
        self._hint = re.compile(
            names.HINT.pattern + "|" + "|".join(sorted(self._extra)), re.IGNORECASE
        ).search

    def redacted(self) -> str:
        """Return the text without the values."""
        position, valued_until = 0, -1
        for index, line in enumerate(self._lines):
            if index < position or not line or not (index <= valued_until or self._hint(line)):
                continue
            self._budget -= 1
            if self._budget < 0:
                self._lines[index] = REMOVED
                continue
            if any(names.is_secret(found) for found in _ENV_NAME.findall(line)):
                for before in range(max(0, valued_until + 1, index - _VALUE_LINES), index):
                    self._redact(before, is_valued=True)
                valued_until = index + _VALUE_LINES
            position = self._redact(index, is_valued=index <= valued_until)
        return "\n".join(line for line in self._lines if line is not None)

    def _redact(self, index: int, *, is_valued: bool) -> int:
        """Take the values out of one line, and of those below that they go on in; return the next to look at."""
        line = self._lines[index]
        if not line:
            return index + 1
        extra = self._extra | names.HEADERS | (_VALUE if is_valued else frozenset())
        self._lines[index], below = redact_line(
            line, lambda name: names.is_secret(name) or name.lower() in extra
        )
        if below is None:
            return index + 1
        if below.is_next:
            return self._take_next(index + 1)
        if below.span is not None:
            end = self._take_span(index + 1, below.span)
            if end:
                return end
        return self._take_block(index, below.column)

    def _take_next(self, start: int) -> int:
        """Take out the next line that holds anything, unless it is another option."""
        for index in range(start, min(len(self._lines), start + _VALUE_LINES)):
            line = self._lines[index]
            if line and line.strip():
                mark = line[: len(line) - len(line.lstrip(_BEFORE_NAME))]
                if "--" in mark:
                    return index
                if REMOVED not in line:
                    self._lines[index] = mark.rstrip("\"'") + REMOVED
                return index + 1
        return start

    def _take_span(self, start: int, span: spans.Span) -> int:
        """Take out the lines to the end of a quote or of brackets; 0 when no line near ends it."""
        for index in range(start, min(len(self._lines), start + spans.LINES)):
            self._budget -= 1
            line = self._lines[index] or ""
            end = span.end_in(line)
            if end is not None:
                self._lines[start:index] = [None] * (index - start)
                self._lines[index] = line[end:]
                return index
        return 0

    def _take_block(self, index: int, column: int) -> int:
        """Take out the lines that are deeper than the name, and a single word right below it."""
        position, has_value = index + 1, False
        for position in range(index + 1, len(self._lines) + 1):
            line = self._lines[position] if position < len(self._lines) else "."
            if not line or not line.strip():
                continue
            words = line.split(None, 2)
            is_word = not has_value and len(words) == 1 and len(line) > 1 and line[-1] not in ":]})"
            is_deeper = _column(line) > column or (is_word and not _ASSIGNS.search(line))
            if position == len(self._lines) or not is_deeper:
                break
            self._lines[position], has_value = None, True
        if has_value and REMOVED not in (self._lines[index] or "")[-len(REMOVED) :]:
            self._lines[index] = f"{self._lines[index]} {REMOVED}"
        return position


def redact_line(line: str, is_secret: Callable[[str], bool]) -> tuple[str, Below | None]:
    """Return a line without the values of secret names, and what of the last one is below."""
    kept, position, before = [], 0, ""
    below: Below | None = None
    for word in _WORD.finditer(line):
        name, previous, before = word.group(), before, word.group()
        if word.start() < position:
            continue
        is_named = is_secret(name) or (name.lower() == "key" and is_secret(f"{previous}-{name}"))
        found = _value(line, word) if is_named else None
        if found is None:
            continue
        start, end, below = found
        if end > start:
            kept += [line[position:start], REMOVED]
            position = end
        if below is not None:
            break
    return "".join([*kept, line[position:]]) if kept else line, below


def _value(line: str, word: re.Match[str]) -> tuple[int, int, Below | None] | None:
    """Return where the value of a secret name is on its line, and what of it is below; None: there is none."""
    name, column = word.group(), _column(line)
    is_option = name.startswith("--")
    assigns = _ASSIGNS.match(line, word.end())
    if assigns is None and is_option:
        assigns = _NEXT_WORD.match(line, word.end())
        if assigns is not None and not line[assigns.end() :].strip():
            return len(line), len(line), Below(column, is_next=True)
    if assigns is None or (is_option and line.startswith(("--", '"--'), assigns.end())):
        return _element(line, word)
    start = assigns.end()
    if name.lower() in names.HEADERS:
        return (start, len(line), None) if start < len(line) else None
    if _BLOCK.match(line, start):
        return len(line), len(line), Below(column)
    end, span = _end(line, word, start, is_quoted="'" in assigns.group() or '"' in assigns.group())
    if span is None and names.is_harmless(name, line[start:end]):
        return None
    return start, end, None if span is None else Below(column, span)


def _element(line: str, word: re.Match[str]) -> tuple[int, int, None] | None:
    """Return where the text of an element of XML is, or None where the word is the name of none."""
    end = line.find("<", word.end()) if line.startswith(">", word.end()) else -1
    return (word.end() + 1, end, None) if end > 0 and line[: word.start()].endswith("<") else None


def _end(line: str, word: re.Match[str], start: int, *, is_quoted: bool) -> tuple[int, spans.Span | None]:
    """Return where a value ends that begins at ``start``, and what it opens and does not close on its line."""
    span = spans.opened(line, start)
    if span is not None:
        end = span.end_in(line, start)
        return (len(line), span) if end is None else (end, None)
    around = line[word.start() - 1 : word.start()]
    if around and around in "\"'" and not is_quoted:  # the whole of it is quoted: "NAME=value"
        backslashes = len(line[: word.start() - 1]) - len(line[: word.start() - 1].rstrip("\\"))
        end = spans.closing(line, start, around, backslashes)
        return (len(line) if end is None else end - 1 - backslashes), None
    if word.group().startswith("--"):
        return spans.end_of_word(line, start), None
    is_first = not line[_prefix(line) : word.start()].strip(_BEFORE_NAME)
    if line[start] in "|>" or (is_first and ":" in line[word.end() : start]):
        return len(line), None
    return spans.end_of_phrase(line, start), None


def _prefix(line: str) -> int:
    found = _PREFIX.match(line)
    return found.end() if found is not None else 0


def _column(line: str) -> int:
    """Return how deep a line of YAML is: the marks of a patch and of a list are none of its names."""
    content = line[_prefix(line) :]
    return len(content) - len(content.lstrip(" \t+-"))
