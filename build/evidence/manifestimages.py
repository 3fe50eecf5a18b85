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
#: A registry's host, at the beginning of a name.
_HOST = re.compile(r"(?:(?:[a-z0-9-]+\.)+[a-z0-9-]+(?::\d+)?|[a-z0-9-]+:\d+|localhost)(?=/|$)")
#: Text that is YAML or JSON of its own: of several lines, or on one.
_STRUCTURED = re.compile(r"\n|^\s*[\[{]|^image:\s+\S+$")
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
    if isinstance(image, dict) and isinstance(image.get("reference"), str):
        yield image["reference"]
    registry, repository = (_text(value.get(key)) for key in ("registry", "repository"))
    if not (isinstance(image, str) and image):
        name = "/".join(part for part in (registry, repository) if part)
        is_whole = bool(registry and repository)
    elif (registry or _HOST.match(repository)) and not ("/" in image and _HOST.match(image)):
        # NVIDIA's operators write {repository: nvcr.io/nvidia, image: driver, version: 1}.
        name, is_whole = "/".join(part for part in (registry, repository, image) if part), True
    else:
        yield image
        return
    tag, digest = _text(value.get("tag") or value.get("version")), _text(value.get("digest"))
    ending = (f":{tag}" if tag else "") + (f"@{digest}" if digest.startswith("sha256:") else "")
    if image and isinstance(image, str) and (":" in image or "@" in image):
        yield name
    elif name and ending and (is_whole or _LITERAL.fullmatch(f"{name}{ending}")):
        yield f"{name}{ending}"
    elif image and isinstance(image, str):
        yield name


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text_images(text: str, depth: int) -> Iterator[str]:
    """Yield what a text names: as YAML or JSON of its own, and whatever in it is shaped like a full name."""
    if depth < _DEEPEST_TEXT and "image" in text and _STRUCTURED.search(text):
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
