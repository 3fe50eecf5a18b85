# SPDX-License-Identifier: Apache-2.0
"""Read YAML written by people: every value knows its line, no fault stops the reading.

All faults of a file are collected and reported together.

A parser asks a :class:`Record` for the fields it knows. A field that is absent or of another type is a
fault and gives a placeholder, so that parsing goes on; a key that nobody asked for is a fault too. At the
end :meth:`Faults.stop` raises one error with all of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from build.base.errors import BuildError

T = TypeVar("T")

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

_STR = "tag:yaml.org,2002:str"
_INT = "tag:yaml.org,2002:int"
_BOOL = "tag:yaml.org,2002:bool"
_KINDS = {
    _STR: "text",
    _INT: "a whole number",
    _BOOL: "true or false",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:map": "a mapping",
    "tag:yaml.org,2002:seq": "a list",
}


@dataclasses.dataclass
class Faults:
    """The faults found so far, each ``file:line: what``; ``error`` is the class raised at the end."""

    error: type[BuildError]
    found: list[str] = dataclasses.field(default_factory=list)

    def add(self, source: str, text: str) -> None:
        """Note a fault at ``file:line``."""
        self.found.append(f"{source}: {text}")

    def stop(self, *, resolution: str = "correct the lines above; all faults found are listed") -> None:
        """Raise one error with all faults, in the order of files and lines, if there is any."""
        if not self.found:
            return
        count = len(self.found)
        files = sorted({fault.split(":", 1)[0] for fault in self.found})
        raise self.error(
            f"{count} fault{'s' if count > 1 else ''} in {', '.join(files)}",
            details="\n".join(sorted(self.found, key=_by_line)),
            resolution=resolution,
        )

    def result(self, parsed: T | None) -> T:
        """Return what was parsed, or raise one error with all faults."""
        self.stop()
        if parsed is None:
            raise self.error("nothing was parsed, and no fault was noted")
        return parsed


def _by_line(fault: str) -> tuple[str, int, str]:
    file, _, rest = fault.partition(":")
    line, _, text = rest.partition(":")
    return file, int(line) if line.isdecimal() else 0, text


class Record:
    """A mapping of a YAML file: fields are taken by name and type, :meth:`close` reports the rest."""

    def __init__(self, node: yaml.MappingNode, file: str, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self.line = node.start_mark.line + 1
        self.source = f"{file}:{self.line}"
        self._fields: dict[str, yaml.Node] = {}
        self._key_lines: dict[str, int] = {}
        self._taken: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in self._fields:
                self.fault(f"key '{key}' is given twice (first in line {self._key_lines[key]})", line=line)
            self._fields[key] = value_node
            self._key_lines[key] = line

    def fault(self, text: str, *, key: str | None = None, line: int | None = None) -> None:
        """Note a fault at a line, at a key's line, or at the record's first line."""
        at = line or (self._key_lines.get(key, self.line) if key else self.line)
        self._faults.add(f"{self._file}:{at}", text)

    def has(self, key: str) -> bool:
        """Say whether the key is there."""
        return key in self._fields

    def take_keys(self) -> tuple[str, ...]:
        """Return the keys in the order of the file; they count as taken."""
        self._taken.update(self._fields)
        return tuple(self._fields)

    def leave(self, *keys: str) -> None:
        """Leave keys to another reader of the same file; they count as taken."""
        self._taken.update(keys)

    def text(self, key: str, default: str | None = None) -> str:
        """Take text that is not empty."""
        return self._scalar(key, _STR, str, "" if default is None else default, required=default is None)

    def optional_text(self, key: str) -> str | None:
        """Take text, or None when the key is absent."""
        return self.text(key) if self.has(key) else None

    def number(self, key: str, default: int | None = None) -> int:
        """Take a whole number, not negative."""
        return self._scalar(key, _INT, _whole, 0 if default is None else default, required=default is None)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Take true or false."""
        return self._scalar(key, _BOOL, _truth, bool(default), required=default is None)

    def parsed(self, key: str, parse: Callable[[str], T], placeholder: T) -> T:
        """Take text and parse it; a ValueError of ``parse`` is a fault with its words."""
        text = self.text(key)
        if not text:
            return placeholder
        try:
            return parse(text)
        except ValueError as exc:
            self.fault(str(exc), key=key)
            return placeholder

    def texts(self, key: str, parse: Callable[[str], str] = str, *, required: bool = True) -> tuple[str, ...]:
        """Take a list of text, each parsed; a ValueError of ``parse`` is a fault with its words."""
        found = []
        for node in self._items(key, required=required):
            line = node.start_mark.line + 1
            if isinstance(node, yaml.ScalarNode) and node.tag == _STR:
                try:
                    found.append(parse(node.value))
                except ValueError as exc:
                    self.fault(str(exc), line=line)
            else:
                self.fault(f"'{key}' must be a list of text", line=line)
        return tuple(found)

    def text_or_texts(self, key: str, parse: Callable[[str], str] = str) -> tuple[str, ...]:
        """Take text, or a list of text that is not empty: several that do equally."""
        if not isinstance(self._fields.get(key), yaml.SequenceNode):
            return (self.parsed(key, parse, ""),)
        count = len(self._fields[key].value)
        if not count:
            self.fault(f"'{key}' is empty", key=key)
        return self.texts(key, parse)

    def text_map(self, key: str, *, required: bool = True) -> dict[str, str]:
        """Take a mapping of text to text."""
        record = self.record(key, required=required)
        return {} if record is None else {name: record.text(name) for name in record.take_keys()}

    def record(self, key: str, *, required: bool = True) -> Record | None:
        """Take a mapping."""
        node = self._take(key, required=required)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            self.fault(f"'{key}' must be a mapping, not {_kind(node)}", key=key)
            return None
        return Record(node, self._file, self._faults)

    def records(self, key: str, *, required: bool = True) -> list[Record]:
        """Take a list of mappings."""
        found = []
        for node in self._items(key, required=required):
            if isinstance(node, yaml.MappingNode):
                found.append(Record(node, self._file, self._faults))
            else:
                self.fault(
                    f"'{key}' must be a list of mappings, not of {_kind(node)}", line=node.start_mark.line + 1
                )
        return found

    def close(self) -> None:
        """Report the keys that nobody took."""
        known = sorted(self._taken)
        for key in self._fields:
            if key not in self._taken:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
                self.fault(f"unknown key '{key}'{hint}", key=key)

    def _take(self, key: str, *, required: bool) -> yaml.Node | None:
        self._taken.add(key)
        node = self._fields.get(key)
        if node is None and required:
            self.fault(f"key '{key}' is missing")
        return node

    def _items(self, key: str, *, required: bool) -> list[yaml.Node]:
        node = self._take(key, required=required)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.fault(f"'{key}' must be a list, not {_kind(node)}", key=key)
            return []
        return list(node.value)

    def _scalar(self, key: str, tag: str, parse: Callable[[str], T], default: T, *, required: bool) -> T:
        node = self._take(key, required=required)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.tag != tag:
            hint = ": put it in quotes" if tag == _STR and isinstance(node, yaml.ScalarNode) else ""
            self.fault(f"'{key}' must be {_KINDS[tag]}, not {_kind(node)}{hint}", key=key)
            return default
        if tag == _STR and not node.value.strip():
            self.fault(f"'{key}' is empty", key=key)
            return default
        try:
            return parse(node.value)
        except ValueError:
            self.fault(f"'{key}' must be {_KINDS[tag]}, not '{node.value}'", key=key)
            return default


def read_document(path: Path, faults: Faults, *, missing: str) -> Record | None:
    """Read a YAML file whose top is a mapping; ``missing`` is the resolution when there is no such file.

    Returns None after noting a fault. Raises: the error class of ``faults`` when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise faults.error(
            f"cannot read '{shown_path(path)}'", details=str(reason), resolution=missing
        ) from exc
    return parse_document(text, shown_path(path), faults)


def parse_document(text: str, file: str, faults: Faults) -> Record | None:
    """Parse YAML text whose top is a mapping; ``file`` names it in faults. None after noting a fault."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = " ".join(part for part in (exc.context, exc.problem) if part)
        faults.add(f"{file}:{mark.line + 1 if mark else 1}", f"not YAML: {problem}")
        return None
    except yaml.YAMLError as exc:
        faults.add(f"{file}:1", f"not YAML: {exc}")
        return None
    if not isinstance(node, yaml.MappingNode):
        faults.add(f"{file}:1", "the file must be a mapping")
        return None
    return Record(node, file, faults)


def shown_path(path: Path) -> str:
    """Return the path as people write it: relative to the working directory where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """Replace each ``{name}`` by its value.

    >>> fill_placeholders("etcd:{etcd}", {"etcd": "3.6.8-0"})
    'etcd:3.6.8-0'

    Raises: ValueError, naming the placeholder that has no value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1)
            hint = f"; did you mean '{{{near[0]}}}'?" if near else ""
            raise ValueError(f"'{{{name}}}' is not in versions.yaml{hint}")
        return values[name]

    return _PLACEHOLDER.sub(value, text)


def fitting(pattern: str, fault: str) -> Callable[[str], str]:
    """Return a parser of text that fits a regular expression as a whole; ``fault`` says so, of ``{text}``.

    >>> fitting("[0-9]+", "size {text!r} must be digits")("12")
    '12'
    """

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(fault.format(text=text))
        return text

    return parse


def fingerprint(text: str) -> str:
    """Return the fingerprint of an OpenPGP key in its compact form: capitals, without blanks."""
    compact = text.replace(" ", "").upper()
    if not re.fullmatch(r"[0-9A-F]{40}", compact):
        raise ValueError(f"fingerprint '{text}' must be 40 hexadecimal digits")
    return compact


def _kind(node: yaml.Node) -> str:
    return _KINDS.get(node.tag, node.tag)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _truth(text: str) -> bool:
    return text.lower() in ("true", "yes", "on")
