# SPDX-License-Identifier: Apache-2.0
"""Compare what a door says with the schemas that are on the ISO: the real door's words, and those of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema

from installer.operations import schemas

ADDED = ("role", "cluster", "host")
"""What the door adds to the object of ``caisson status --json``."""
WHOLE = {"media": "media", "images": "images", "jobs": "jobs"}
"""Verb -> the schema of the command whose object it answers with."""


@cache
def validator(schema: str, *way: str) -> jsonschema.Draft7Validator:
    """Return the validator of a schema, or of a definition in it."""
    whole = schemas.load(schema)
    wanted: Any = whole
    for number, name in enumerate(way):
        wanted = (wanted["definitions"] if number == 0 else wanted)[name]
    return jsonschema.Draft7Validator({**wanted, "definitions": whole["definitions"]})


def check_answer(verb: str, answer: Mapping[str, Any]) -> None:
    """Check the whole answer to a verb, with the objects of other commands in it.

    Raises:
        ValidationError: it is none that the door gives.
    """
    validator("door", "answer").validate(answer)
    result = answer.get("result")
    if result is None:
        return
    validator("door", "results", verb).validate(result)
    if verb == "status":
        validator("status").validate({key: value for key, value in result.items() if key not in ADDED})
    if verb in WHOLE:
        validator(WHOLE[verb]).validate(result)
    if verb == "job":
        validator("jobs", "job").validate(result["job"])
        if result["found"] is not None and result["found"]["look"] is not None:
            validator("node-check").validate(result["found"]["look"])


def check_event(event: Mapping[str, Any]) -> None:
    """Check one line of ``follow``.

    Raises:
        ValidationError: it is none that the door gives.
    """
    validator("door", "event").validate(event)
    validator("door", "events", event["event"]).validate(event["data"])
    if event["event"] == "state":
        validator("jobs", "job").validate(event["data"]["job"])
