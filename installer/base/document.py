# SPDX-License-Identifier: Apache-2.0
"""Read YAML and remember the line of every key, so that a fault can say where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import yaml

from installer.base.errors import ConfigError

KeyPath = tuple[Union[str, int], ...]
MAXIMUM_DEPTH = 100
KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((type(None),), "nothing"),
    ((bool,), "{value}"),
    ((int, float), "the number {value}"),
    ((dict,), "a mapping of keys"),
    ((list,), "a list"),
    ((str,), "the text {value!r}"),
)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; ``line`` counts from 1."""

    line: int
    path: str
    message: str


def read_text(file: Path, what: str, *, resolution: str) -> str:
    """Return the text of a file that a person wrote, its line ends made one kind.

    ``what`` names it in an error; ``resolution`` says what to do when it cannot be read.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{what} {file} cannot be read", details=str(exc), resolution=resolution) from exc
    try:
        return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{what} {file} is not UTF-8 text",
            details=f"line {data.count(10, 0, exc.start) + 1} has the byte 0x{data[exc.start]:02x}",
            resolution="save it as UTF-8, or use plain letters there",
        ) from exc


class Document:
    """YAML with the line of every key; what is no plain configuration (two equal keys) is a fault."""

    def __init__(self, data: object, faults: list[Fault], lines: dict[KeyPath, int]) -> None:
        self.data: Any = data
        self.faults = faults
        self.lines = lines
        self.written: dict[KeyPath, str] = {}
        self.is_readable = isinstance(data, dict)

    @classmethod
    def read(cls, text: str) -> Document:
        """Parse the text; a text that is no YAML gives a document with one fault."""
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            if node is None:
                return cls(None, [Fault(1, "(file)", "is empty")], {})
            data = loader.construct_document(node)
        except (yaml.YAMLError, ValueError, RecursionError) as exc:
            mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
            line = mark.line + 1 if mark is not None else 1
            problem = getattr(exc, "problem", None) or str(exc)
            return cls(None, [Fault(line, "(file)", f"is not valid YAML: {problem}")], {})
        document = cls(data, [], {})
        document._walk(node, (), 0)
        if not isinstance(data, dict):
            document.faults.append(Fault(1, "(file)", f"must be a mapping of keys, not {kind_of(data)}"))
        return document

    def _walk(self, node: yaml.Node, path: KeyPath, depth: int) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if depth > MAXIMUM_DEPTH:
            return
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key_node, value_node in node.value:
                key = str(getattr(key_node, "value", ""))
                inner = (*path, key)
                line = key_node.start_mark.line + 1
                if key in seen:
                    self.faults.append(Fault(line, format_path(inner), "is there twice"))
                if key_node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                    self.faults.append(Fault(line, format_path(inner), "keys must be text: quote it"))
                    self.is_readable = False
                seen.add(key)
                self.lines[inner] = line
                self._walk(value_node, inner, depth + 1)
        elif isinstance(node, yaml.ScalarNode):
            self.written[path] = node.value
        elif isinstance(node, yaml.SequenceNode):
            for index, value_node in enumerate(node.value):
                self._walk(value_node, (*path, index), depth + 1)

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest key around it that was written."""
        for length in range(len(path), -1, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return 1

    def fault(self, path: KeyPath, message: str) -> Fault:
        """Return a fault at a key."""
        return Fault(self.line(path), format_path(path), message)

    def misread(self, path: KeyPath) -> str:
        """Say what YAML makes of a text that stands there without quotes; empty when nothing of it was lost.

        >>> Document.read("a: 0x10").misread(("a",)), Document.read("a: 5").misread(("a",))
        (" (YAML reads '0x10' so): put it in quotes", ': put it in quotes')
        """
        written = self.written.get(path)
        if not written:
            return ""
        value: Any = self.data
        for part in path:
            value = value[part]
        if not isinstance(value, (bool, int, float)):
            return ""
        same = written in (str(value), str(value).lower())
        return ": put it in quotes" if same else f" (YAML reads '{written}' so): put it in quotes"

    def get(self, *path: str) -> Any:
        """Return the value at a path, None when something on the way is missing or no mapping."""
        value = self.data
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value


def format_path(path: KeyPath) -> str:
    """Return a path as people write it.

    >>> format_path(("networks", "controlPlane", "cidrs", 0))
    'networks.controlPlane.cidrs[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def kind_of(value: object) -> str:
    """Name the kind of a value, and the value where it is short.

    >>> kind_of(None), kind_of([]), kind_of(5), kind_of(True)
    ('nothing', 'a list', 'the number 5', 'True')
    """
    for types, text in KINDS:
        if isinstance(value, types):
            return text.format(value=value)
    return f"{value} ({type(value).__name__}): quote it"
