# SPDX-License-Identifier: Apache-2.0
"""Compare a document with a JSON Schema (draft 7) and say in plain words what it does not allow."""

from __future__ import annotations

import difflib
import json
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import jsonschema

from installer.base.document import Document, Fault, KeyPath, kind_of


def load(name: str) -> dict[str, Any]:
    """Return the schema ``NAME.schema.json`` beside this module, also when that is in an archive.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    content = pkgutil.get_data(__package__, f"{name}.schema.json")
    if content is None:
        raise FileNotFoundError(f"{name}.schema.json")
    loaded: dict[str, Any] = json.loads(content)
    return loaded


def find_faults(document: Document, schema: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what of a document the schema does not allow, each at the key that has it."""
    known = sorted(set(_known_keys(schema)))
    for error in jsonschema.Draft7Validator(schema).iter_errors(document.data):
        path: KeyPath = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
            allowed = error.schema["properties"]
            for key in error.instance:
                if key not in allowed:
                    yield document.fault((*path, str(key)), _unknown_key(str(key), sorted(allowed), known))
        elif error.validator == "required":
            for key in error.validator_value:
                if key not in error.instance:
                    yield document.fault((*path, key), "is missing")
        elif "propertyNames" in error.absolute_schema_path:
            yield document.fault((*path, str(error.instance)), _bad_name(error))
        else:
            hint = document.misread(path) if error.validator_value == "string" else ""
            yield document.fault(path, _message(error) + hint)


def _unknown_key(key: str, allowed: Sequence[str], known: Sequence[str]) -> str:
    folded = {name.replace("_", "").replace("-", "").lower(): name for name in allowed}
    near = [folded[name] for name in difflib.get_close_matches(_fold(key), list(folded), n=1, cutoff=0.6)]
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    if key in known:
        return f"unknown key here; '{key}' belongs elsewhere; known here: {', '.join(allowed)}"
    return f"unknown key; known here: {', '.join(allowed)}"


def _fold(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()


def _known_keys(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for value in schema.values():
            yield from _known_keys(value)


def _bad_name(error: jsonschema.ValidationError) -> str:
    if error.validator == "not":
        return "is set by Caisson: leave it out"
    return f"is no name that can stand here: {_schema_of(error).get('description', error.message)}"


def _schema_of(error: jsonschema.ValidationError) -> Mapping[str, Any]:
    return error.schema if isinstance(error.schema, dict) else {}


def _message(error: jsonschema.ValidationError) -> str:
    """Return a schema fault in plain words."""
    say = MESSAGES.get(str(error.validator))
    schema = _schema_of(error)
    return say(error.instance, error.validator_value, schema) if say is not None else str(error.message)


MESSAGES: Mapping[str, Callable[[Any, Any, Mapping[str, Any]], str]] = {
    "type": lambda value, limit, _: f"must be {_kind_name(str(limit))}, not {kind_of(value)}",
    "const": lambda value, limit, _: f"must be '{limit}', not {value!r}",
    "enum": lambda value, limit, _: f"must be one of {', '.join(map(str, limit))}, not {value!r}",
    "minimum": lambda value, limit, _: f"must be at least {limit}, not {value}",
    "maximum": lambda value, limit, _: f"must be at most {limit}, not {value}",
    "pattern": lambda value, limit, schema: f"{value!r} is not allowed: {schema.get('description', limit)}",
    "minItems": lambda _value, limit, _: f"must have at least {limit} entr{'y' if limit == 1 else 'ies'}",
    "uniqueItems": lambda _value, _limit, _: "holds the same entry twice",
    "minLength": lambda value, limit, _: f"{value!r} is too short: at least {limit} characters",
    "maxLength": lambda value, limit, _: f"is too long: {len(value)} characters, at most {limit}",
}


def _kind_name(schema_type: str) -> str:
    names = {
        "object": "a mapping of keys",
        "array": "a list",
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
    return names.get(schema_type, schema_type)
