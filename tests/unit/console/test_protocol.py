# SPDX-License-Identifier: Apache-2.0
"""What the console asks is what the door's own schema takes; the fake door here says what the real one may say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from installer.operations import schemas
from tests.door_shapes import check_answer, check_event, validator
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import Browser
from tests.unit.console.test_security import PAGES
from tests.unit.console.test_work import HOST
from tests.unit.console.world import CODE, FINGERPRINT, JOB, REPORT

pytestmark = pytest.mark.loopback


def use_everything(admin: Browser) -> None:
    """Look at each page and send each form."""
    admin.running.browser().post("/login", {"code": CODE}, fill=False)
    admin.running.browser().post("/login", {"code": "A" * 26}, fill=False)
    for path in (*PAGES, f"/jobs/{JOB}/log", f"/jobs/{REPORT}/archive", "/jobs/20260101-000000-probe-000000"):
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
    admin.get("/nodes/w2/remove")
    leaving = {"confirm": "w2", "dead": "1", "address": "10.77.1.12", "user": "olga", "port": "2222"}
    assert admin.post("/nodes/w2/remove", leaving).status == 303
    admin.get("/report")
    assert admin.post("/report").status == 303
    admin.get(f"/jobs/{JOB}")
    assert admin.post(f"/jobs/{JOB}/cancel").status == 303
    admin.get(f"/jobs/{JOB}")
    assert admin.post(f"/jobs/{JOB}/again", {"secret_key": "-----BEGIN"}).status == 303
    admin.get(f"/jobs/{REPORT}/stream")
    admin.get(f"/jobs/{JOB}")


def down() -> worlds.World:
    """Return a world whose host says that the API is away."""
    world = worlds.full()
    worlds.api_down(world)
    return world


@pytest.mark.parametrize("make", [worlds.full, worlds.failed, down], ids=lambda make: str(make.__name__))
def test_every_answer_of_the_fake_door_is_one_that_the_real_door_may_give(
    start: Start, make: Callable[[], worlds.World]
) -> None:
    """Else pages are tested against words that nobody says."""
    console = start(make())
    console.world.jobs[REPORT].journal = worlds.journal_of("report", ("gather",))
    browser = console.browser()
    assert browser.login(worlds.ADMIN).status == 303
    use_everything(browser)
    for verb, answer in console.world.door_said:
        check_answer(verb, answer)
    for event in console.world.door_told:
        check_event(event)
    answered = {verb for verb, _ in console.world.door_said} | {"follow"}
    assert answered == set(schemas.load("door")["definitions"]["verbs"])
    events = {event["event"] for event in console.world.door_told}
    assert events - {"beat"} == {"phase", "log", "state"}, "a short stream may end before it beats"


def test_every_question_is_one_that_the_door_knows(admin: Browser) -> None:
    use_everything(admin)
    verbs = set()
    for request in admin.running.world.asked_door:
        validator("door", "request").validate(request)
        validator("door", "verbs", request["verb"]).validate(request["arguments"])
        if request["verb"] == "start":
            given = request["arguments"]
            validator("door", "parameters", given["operation"]).validate(given["parameters"])
        verbs.add(request["verb"])
    assert verbs == set(schemas.load("door")["definitions"]["verbs"])
