# SPDX-License-Identifier: Apache-2.0
"""Find the images that a manifest names, wherever they stand.

    field "image", "image.reference" of a volume, registry + repository + tag  -> names for sure
    any other text: arguments, environment, ConfigMaps, fields of custom kinds -> what is shaped like a full name

A manifest came from outside: it is read within bounds, and aliases are followed once.
Source: Kubernetes API, Container and ImageVolumeSource (KEP-4639).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from build.base.manifest import read_manifest, yaml_documents
from build.evidence.wanted import Wanted, full_reference

_DEEPEST_TEXT = 2  # a pod as text in a ConfigMap, itself as text in something else
#: A registry's host (with a dot, a port, or "localhost"), a name, a tag or digest or both.
_LITERAL = re.compile(
    r"(?<![\w./@:-])(?:(?:docker|oci)://)?"
    r"((?:(?:[a-z0-9-]+\.)+[a-z0-9-]+(?::\d+)?|[a-z0-9-]+:\d+|localhost)/[a-z0-9._/-]*[a-z0-9]"
    r"(?::\w(?:[\w.-]*\w)?(?:@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64}))(?![\w/@:-])"
)
_EFFECTS = (":NoSchedule", ":PreferNoSchedule", ":NoExecute")  # taints are written like images


def manifest_images(data: bytes, name: str, not_images: Mapping[str, str] | None = None) -> Iterator[Wanted]:
    """Yield the images that a manifest of any kind names, but for text in ``not_images``.

    Raises: IntegrityError, see :func:`read_manifest`.
    """
    excused = {full_reference(text) for text in not_images or ()}
    for document in read_manifest(data, name):
        by = f"{name}: {_title(document)}"
        named = _images(document, is_definition=_kind(document) == "CustomResourceDefinition")
        for reference in dict.fromkeys(named):
            if full_reference(reference) not in excused:
                yield Wanted(full_reference(reference), by)


def _kind(document: object) -> str:
    return str(document.get("kind")) if isinstance(document, dict) else ""


def _title(document: object) -> str:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict):
        return "a document without a name"
    return f"{_kind(document)} {metadata.get('name')}"


def _images(document: object, *, is_definition: bool = False, text_depth: int = 0) -> Iterator[str]:
    """Yield what a document names, in its order; what aliases share is looked at once."""
    waiting = [document]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from _text_images(value, text_depth)
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                yield from _named(value)
                # A definition's descriptions are prose for people.
                left = [
                    inner
                    for key, inner in value.items()
                    if not (
                        isinstance(inner, str)
                        and (key == "image" or (is_definition and key == "description"))
                    )
                ]
            else:
                left = list(value)
            waiting += reversed(left)


def _named(value: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what the fields of one mapping name for sure."""
    image = value.get("image")
    if isinstance(image, str) and image:
        yield image
    if isinstance(image, dict) and isinstance(image.get("reference"), str):
        yield image["reference"]
    registry, repository, tag = (value.get(key) for key in ("registry", "repository", "tag"))
    if isinstance(registry, str) and isinstance(repository, str) and registry and tag:
        yield f"{registry}/{repository}:{tag}"
    elif isinstance(repository, str) and tag and _LITERAL.fullmatch(f"{repository}:{tag}"):
        yield f"{repository}:{tag}"


def _text_images(text: str, depth: int) -> Iterator[str]:
    """Yield what a text names: as YAML or JSON of its own, and whatever in it is shaped like a full name."""
    if depth < _DEEPEST_TEXT and "image" in text and ("\n" in text or text.lstrip().startswith("{")):
        try:
            documents = yaml_documents(text)
        except ValueError:
            documents = []  # a script, a template, prose
        for document in documents:
            if isinstance(document, dict | list):
                yield from _images(document, text_depth=depth + 1)
    for match in _LITERAL.finditer(text):
        if not match[1].endswith(_EFFECTS):
            yield match[1]
