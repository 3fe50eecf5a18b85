# SPDX-License-Identifier: Apache-2.0
"""The published JSON schemas of SPDX 2.3 and CycloneDX 1.6, as the package lib4sbom ships them."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from typing import Any

import jsonschema


def faults(document: dict[str, Any]) -> Iterator[str]:
    """Yield what a document's own schema finds wrong with it."""
    is_spdx = "spdxVersion" in document
    schema = _schema("spdx/2.3-schema.json" if is_spdx else "cyclonedx/bom-1.6.schema.json")
    store = {}
    for name in () if is_spdx else ("spdx.schema.json", "jsf-0.82.schema.json"):
        other = _schema(f"cyclonedx/{name}")
        store[other["$id"]] = other
    resolver = jsonschema.RefResolver.from_schema(schema, store=store)
    checker = jsonschema.Draft7Validator(schema, resolver=resolver, format_checker=jsonschema.FormatChecker())
    for error in checker.iter_errors(document):
        yield f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def licence_ids() -> frozenset[str]:
    """Return all identifiers of SPDX's list of licences and of exceptions."""
    return frozenset(_schema("cyclonedx/spdx.schema.json")["enum"])


def _schema(name: str) -> dict[str, Any]:
    file = importlib.resources.files("lib4sbom") / "schemas" / name
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def dangling(document: dict[str, Any]) -> set[str]:
    """Return identifiers that are named somewhere in a document and defined nowhere."""
    if "spdxVersion" in document:
        known = {document["SPDXID"], *(package["SPDXID"] for package in document["packages"])}
        named = {
            relation[end]
            for relation in document["relationships"]
            for end in ("spdxElementId", "relatedSpdxElement")
        }
    else:
        known = {document["metadata"]["component"]["bom-ref"]}
        known |= {component["bom-ref"] for component in document["components"]}
        named = {name for entry in document["dependencies"] for name in (entry["ref"], *entry["dependsOn"])}
    return named - known
