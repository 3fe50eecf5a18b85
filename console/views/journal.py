# SPDX-License-Identifier: Apache-2.0
"""Show what was done: the phases of the installer, and who did what through the console."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from console import api, text
from console.known import Known
from console.views import base
from console.views.base import Mark

EVENTS = {"start": Mark.BUSY, "done": Mark.GOOD, "failed": Mark.BAD}


def view(known: Known[dict[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page shows, the newest first."""
    return {
        "acts": [_act(one) for one in reversed(api.items(known.value, "console"))],
        "entries": [_entry(one) for one in reversed(api.items(known.value, "journal"))],
        "source": base.door_source(known, now),
    }


def _act(data: Mapping[str, Any]) -> dict[str, Any]:
    answer = base.words(data.get("answer"))
    said = " ".join(filter(None, (base.words(data.get("code")), base.words(data.get("message")))))
    arguments = api.part(data, "arguments")
    return {
        "at": text.moment(data.get("time")),
        "who": base.words(data.get("who")) or "nobody known",
        "client": base.words(data.get("client")),
        "verb": base.words(data.get("verb")),
        "arguments": json.dumps(arguments, ensure_ascii=False) if arguments else "",
        "mark": Mark.GOOD if answer == "ok" else Mark.BAD,
        "answer": answer if answer == "ok" else said or answer,
    }


def _entry(data: Mapping[str, Any]) -> dict[str, Any]:
    event = base.words(data.get("event"))
    return {
        "at": text.moment(data.get("time")),
        "operation": base.words(data.get("operation")),
        "phase": base.words(data.get("phase")),
        "event": event,
        "mark": EVENTS.get(event, Mark.UNKNOWN),
        "seconds": base.number(data.get("seconds")),
        "changed": data.get("changed") is True,
        "run": base.words(data.get("run")),
    }
