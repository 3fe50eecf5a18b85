# SPDX-License-Identifier: Apache-2.0
"""Hostile text in everything that the console is told: it stays text on every page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import Browser
from tests.unit.console.test_security import PAGES

pytestmark = pytest.mark.loopback

EVIL = "'\"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}{%x%}\u202egnp\x1b[31m\x07&amp;</pre></title>"
KEPT = {
    "id",
    "state",
    "status",
    "name",
    "is_ready",
    "namespace",
    "event",
    "time",
    "begun",
    "asked",
    "ends",
    "fingerprint",
    "metadata",
    "renewTime",
    "finishedAt",
    "startedAt",
    "lastTransitionTime",
    "creationTimestamp",
    "startTime",
    "operation",
    "confirmed",
    "fit",
    "authority",
}


def poisoned(found: Any, key: str = "") -> Any:
    """Return data with hostile text in every text that is not needed to find the page."""
    if isinstance(found, dict):
        return {name: poisoned(value, name) for name, value in found.items()}
    if isinstance(found, list):
        return [poisoned(value, key) for value in found]
    return found + EVIL if isinstance(found, str) and key not in KEPT else found


class Elements(HTMLParser):
    """What a page has: elements with the names of their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text.append(data)


def poison(world: worlds.World) -> None:
    """Put hostile text everywhere."""
    world.status = poisoned(world.status)
    world.certificates, world.media, world.images = (
        poisoned(world.certificates),
        poisoned(world.media),
        poisoned(world.images),
    )
    world.journal, world.audit = poisoned(world.journal), poisoned(world.audit)
    for files in world.jobs.values():
        files.about, files.phases = poisoned(files.about), poisoned(files.phases)
        files.found = poisoned(files.found)
        files.log += (EVIL + "\n").encode()
    for one in world.nodes:
        one["status"], one["metadata"]["labels"] = poisoned(one["status"]), {f"a{EVIL}": EVIL}
        one["word"] = f"NotReady{EVIL}"
    for one in (*world.pods, *world.events):
        one["words"] = [str(word) + EVIL for word in one["words"]]
        one["metadata"]["labels"] = {EVIL: EVIL}
    for one in world.pods:
        one["status"] = poisoned(one["status"])
    world.logs["team/web-0"] += EVIL + "\n"
    world.readyz = f"[-]etcd{EVIL.replace(' ', '')} failed: {EVIL}\n"
    for user in world.users.values():
        user.name += EVIL
        user.groups = (EVIL,)


ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "a",
    "header",
    "svg",
    "path",
    "rect",
    "span",
    "b",
    "div",
    "br",
    "small",
    "time",
    "form",
    "input",
    "button",
    "nav",
    "ul",
    "li",
    "main",
    "footer",
    "p",
    "h1",
    "h2",
    "h3",
    "ol",
    "code",
    "details",
    "summary",
    "pre",
    "i",
    "section",
    "article",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "label",
    "datalist",
    "option",
    "dl",
    "dt",
    "dd",
    "fieldset",
    "legend",
    "textarea",
    "noscript",
}


@pytest.mark.parametrize("path", [*PAGES, f"/jobs/{worlds.REPORT}", "/pods?text=%3Cscript%3E", "/nodes/w2"])
def test_t07_hostile_text_stays_text(start: Start, path: str) -> None:
    world = worlds.failed()
    poison(world)
    browser = start(world).browser()
    assert browser.login(worlds.ADMIN).status == 303
    answer = browser.get(path)
    assert answer.status == 200, answer.text
    page = Elements(answer.text)
    assert {tag for tag, _ in page.found} <= ALLOWED
    assert [tag for tag, _ in page.found].count("script") == 1
    assert not [
        names for _, names in page.found if any(name.startswith("on") or name == "style" for name in names)
    ]
    assert not [
        name
        for _, names in page.found
        for name in names
        if not name.replace("-", "").replace("x1", "").isalnum()
    ]
    assert "\u202e" not in answer.text
    assert "\x1b" not in answer.text
    assert "\x07" not in answer.text


def test_t07_what_hides_in_a_log_is_shown(start: Start) -> None:
    world = worlds.full()
    world.logs["team/web-0"] = (
        f"{worlds.at(5)} \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202etxt.exe\u202c \u2066x\u2069 \x00 {'y' * 1_000_000}\n"
    )
    browser = start(world).browser()
    browser.login(worlds.ADMIN)
    page = browser.get("/pods/team/web-0").text
    assert (
        "red \u241b]0;title\u2407 \u27e8U+202E\u27e9txt.exe\u27e8U+202C\u27e9 "
        "\u27e8U+2066\u27e9x\u27e8U+2069\u27e9 \u2400 yyy" in page
    )
    assert "more characters" in page
    assert len(page) < 60_000


@pytest.mark.parametrize("shape", [[], {}, "x", 7, None, [[]], [None], {"items": 3}, {"rows": 1}])
def test_odd_answers_break_no_page(start: Start, shape: Any) -> None:
    """Whatever stands where lists and objects should be, each page comes, and says what it does not know."""
    world = worlds.full()
    world.status = {
        "host": shape,
        "disks": shape,
        "etcd": shape,
        "nodes": shape,
        "faults": shape,
        "vip": shape,
        "endpoints": shape,
        "media": shape,
        "services": shape,
    }
    world.certificates, world.media, world.images, world.journal, world.audit = (
        shape,
        shape,
        shape,
        shape,
        shape,
    )
    for files in world.jobs.values():
        files.about.update(
            hosts=shape, phases=shape, arguments=shape, error=shape, asker=shape, command=shape
        )
        files.phases, files.found = shape, shape
    browser = start(world).browser()
    browser.login(worlds.ADMIN)
    for path in PAGES:
        assert browser.get(path).status == 200, path


def test_a_form_that_comes_back_is_escaped(admin: Browser) -> None:
    admin.get("/hosts/add")
    answer = admin.post(
        "/hosts/look",
        {"address": EVIL, "user": EVIL, "port": EVIL, "name": EVIL, "role": EVIL, "fingerprint": EVIL},
    )
    assert answer.status == 422
    page = Elements(answer.text)
    assert {tag for tag, _ in page.found} <= ALLOWED
    assert answer.text.count('aria-invalid="true"') == 5
    assert not [r for r in admin.running.world.asked_door if r["verb"] == "start"]


def test_t07_a_stream_carries_hostile_lines_as_json(start: Start) -> None:
    world = worlds.failed()
    world.jobs[worlds.JOB].log = (EVIL + "\r\n" + "data: x\n\n").encode()
    browser = start(world).browser()
    browser.login(worlds.ADMIN)
    answer = browser.get(f"/jobs/{worlds.JOB}/stream")
    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert all(isinstance(json.loads(line[6:]), dict) for line in events)
    assert "\u202e" not in answer.text
