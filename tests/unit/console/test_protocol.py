# SPDX-License-Identifier: Apache-2.0
"""What the console asks of the door is what the door's own schema takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.unit.console.running import Browser
from tests.unit.console.test_security import PAGES
from tests.unit.console.test_work import HOST
from tests.unit.console.world import CODE, FINGERPRINT, JOB, REPORT

SCHEMA_FILE = Path(__file__).parents[3] / "installer" / "operations" / "door.schema.json"

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.skipif(not SCHEMA_FILE.exists(), reason="the installer of this checkout has no door yet"),
]


def check(found: dict[str, Any], data: Any, *way: str) -> None:
    """Check data by a definition of the schema."""
    wanted: Any = found["definitions"]
    for name in way:
        wanted = wanted[name]
    jsonschema.validate(data, {**wanted, "definitions": found["definitions"]})


def test_every_question_is_one_that_the_door_knows(admin: Browser) -> None:
    world = admin.running.world
    admin.running.browser().post("/login", {"code": CODE}, fill=False)
    for path in (*PAGES, f"/jobs/{JOB}/log", f"/jobs/{REPORT}/archive"):
        admin.get(path)
    typed = {
        **HOST,
        "fingerprint": FINGERPRINT,
        "secret_password": "a",
        "secret_sudo": "b",
        "secret_passphrase": "c",
    }
    for path, values in (("/hosts/look", HOST), ("/hosts/look", typed), ("/hosts/join", typed)):
        admin.get("/hosts/add")
        assert admin.post(path, values).status == 303
    admin.get("/report")
    assert admin.post("/report").status == 303
    admin.get(f"/jobs/{JOB}")
    assert admin.post(f"/jobs/{JOB}/cancel").status == 303
    admin.get(f"/jobs/{JOB}")
    assert admin.post(f"/jobs/{JOB}/again", {"secret_key": "-----BEGIN"}).status == 303
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    verbs = set()
    for request in world.asked_door:
        check(schema, request, "request")
        check(schema, request["arguments"], "verbs", request["verb"])
        if request["verb"] == "start":
            given = request["arguments"]
            check(schema, given["parameters"], "parameters", given["operation"])
        verbs.add(request["verb"])
    assert verbs == set(schema["definitions"]["verbs"])
