# SPDX-License-Identifier: Apache-2.0
"""Walk from a manifest or an index to all that it names: the one reader of their form.

    digest --read--> document --+-> children of an index --read--> ...
                                +-> configuration, layers

Documents came from outside: what has another form names nothing, and nothing is walked twice.
Source: OCI image-spec 1.1, image-index.md and manifest.md; Docker "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

PLATFORM = ("linux", "amd64")


@dataclasses.dataclass(frozen=True)
class Node:
    """A manifest or index of a walk; without a document it could not be read."""

    digest: str
    document: Mapping[str, Any] | None


def parse(data: bytes) -> dict[str, Any]:
    """Return a document; an empty one when it is no JSON object.

    >>> parse(b'{"layers": []}'), parse(b"[1]"), parse(b"{")
    ({'layers': []}, {}, {})
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def entries(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the descriptors of a list that have a digest."""
    found = document.get(key)
    items = found if isinstance(found, list) else []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("digest"), str)]


def is_platform(entry: Mapping[str, Any]) -> bool:
    """Say whether an entry of an index is for the platform that is on the ISO."""
    platform = entry.get("platform")
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == PLATFORM


def content(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a manifest consists of, its kind and its digest: the configuration, then the layers.

    >>> list(content({"config": {"digest": "sha256:0"}, "layers": [{"digest": "sha256:1"}, "x"]}))
    [('configuration', 'sha256:0'), ('layer', 'sha256:1')]
    """
    for entry in entries({"config": [document.get("config")]}, "config"):
        yield "configuration", entry["digest"]
    for entry in entries(document, "layers"):
        yield "layer", entry["digest"]


def walk(
    digest: str, read: Callable[[str], bytes | None], *, takes: Callable[[Mapping[str, Any]], bool]
) -> Iterator[Node]:
    """Yield a manifest or index and all below it, parents first, each once.

    ``read`` gives the bytes of a digest, None when they are not there; ``takes`` says of an entry of an index
    whether the walk goes there.
    """
    waiting, seen = [digest], {digest}
    while waiting:
        current = waiting.pop(0)
        data = read(current)
        document = None if data is None else parse(data)
        yield Node(current, document)
        for entry in entries(document or {}, "manifests"):
            if entry["digest"] not in seen and takes(entry):
                seen.add(entry["digest"])
                waiting.append(entry["digest"])
