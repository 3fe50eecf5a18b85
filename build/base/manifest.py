# SPDX-License-Identifier: Apache-2.0
"""Read Kubernetes manifests that others made, within bounds, and refuse what is none.

    bytes -> documents: mappings with apiVersion and kind, in their order

A proxy's page for people, an error as text and an empty file are valid YAML, or next to it: they are told apart here.
All values are text but null, true and false: what YAML 1.1 makes of ``=``, ``2024-02-30`` or ``1.40`` helps nobody.
Source: YAML 1.1, merge keys; Kubernetes API conventions, "Types (Kinds)".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from build.base.errors import IntegrityError

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 200
_MOST_NODES = 2_000_000
_MOST_MERGED = 100_000
_LONGEST_LINE = 100
_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _MERGE = f"{_TAG}null", f"{_TAG}bool", f"{_TAG}merge"
_NULLS = (_NULL, re.compile(r"(?:~|null|Null|NULL|)\Z"))
_BOOLS = (_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"))


class _Loader(_LOADER):  # type: ignore[valid-type, misc]  # the class is found at run time
    """A loader that knows text, lists and mappings; what merge keys copy is counted: it can double with each line."""

    merged = 0
    yaml_implicit_resolvers = {  # noqa: RUF012 - the shape that PyYAML reads
        **{first: [_NULLS] for first in ("", "~", "n", "N")},
        **{first: [_BOOLS] for first in "tTfF"},
        "<": [(_MERGE, re.compile(r"<<\Z"))],
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        self.merged += len(node.value)
        if self.merged > _MOST_MERGED:
            raise yaml.constructor.ConstructorError(None, None, "merge keys without end", node.start_mark)


def _construct(loader: Any, node: yaml.Node) -> Iterator[object]:
    """Make the value of a node by its form, whatever its tag; first empty where others may refer to it already."""
    if isinstance(node, yaml.MappingNode):
        mapping: dict[object, object] = {}
        yield mapping
        mapping.update(loader.construct_mapping(node))
    elif isinstance(node, yaml.SequenceNode):
        items: list[object] = []
        yield items
        items.extend(loader.construct_sequence(node))
    elif node.tag == _NULL:
        yield None
    elif node.tag == _BOOL:
        yield str(node.value).lower() == "true"
    else:
        yield node.value


_Loader.yaml_constructors = {None: _construct}
_Loader.yaml_multi_constructors = {}


def yaml_documents(data: bytes | str) -> list[object]:
    """Return the documents of a stream. Raises: ValueError for what is no YAML, or is beyond the bounds."""
    depth = 0
    try:
        for nodes, event in enumerate(yaml.parse(data, Loader=_LOADER)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEEPEST or nodes > _MOST_NODES:
                raise ValueError(f"more than {_DEEPEST} levels or {_MOST_NODES} values")
        return list(yaml.load_all(data, Loader=_Loader))
    except (yaml.YAMLError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def read_manifest(data: bytes, name: str, where: str = "") -> list[dict[str, Any]]:
    """Return the documents of a manifest, less the empty ones; ``where`` is its address.

    Raises: IntegrityError when it is not YAML, more than a manifest can be, or no manifest of Kubernetes.
    """
    try:
        documents = [document for document in yaml_documents(data) if document is not None]
    except ValueError as exc:
        raise _fault(f"manifest '{name}' is not YAML that can be read", str(exc), data, where) from exc
    read: list[dict[str, Any]] = []
    for number, document in enumerate(documents, start=1):
        if not isinstance(document, dict):
            reason = f"document {number} is not a mapping"
        elif missing := [key for key in ("apiVersion", "kind") if not document.get(key)]:
            reason = f"document {number} has no {' and no '.join(missing)}"
        else:
            read.append(document)
            continue
        raise _no_manifest(name, reason, data, where)
    if not read:
        raise _no_manifest(name, "it has no document", data, where)
    return read


def _no_manifest(name: str, reason: str, data: bytes, where: str) -> IntegrityError:
    message = f"manifest '{name}': upstream gives something that is no Kubernetes manifest"
    return _fault(message, reason, data, where)


def _fault(message: str, reason: str, data: bytes, where: str) -> IntegrityError:
    text = data[: _LONGEST_LINE * 4].decode(errors="backslashreplace").strip()
    first = "".join(char for char in text.partition("\n")[0] if char.isprintable())[:_LONGEST_LINE]
    lines = [where, reason, f"it begins: {first}" if first else "it is empty"]
    return IntegrityError(
        message,
        details="\n".join(line for line in lines if line),
        resolution="is there a portal or proxy between? check its address in images.yaml and in the profile",
    )
