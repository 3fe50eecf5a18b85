# SPDX-License-Identifier: Apache-2.0
"""What pages say: all is well, something is wrong, somebody may not, much, little, nothing."""

from __future__ import annotations

import re
from html import unescape

import pytest

from console import known
from console.views.nodes import HEARTBEAT_S
from tests.conftest import GoldenCheck
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import Browser, Running, cost_s
from tests.unit.console.test_security import PAGES
from tests.unit.console.world import ADMIN, JOB, NIGHT, ONE_NAMESPACE, VIEWER

pytestmark = pytest.mark.loopback

PAGE_BYTES = 60_000


def words(page: str) -> str:
    """Return a page as one reads it: a line for each block, without markup, without what chance has made."""
    page = re.sub(r"(?s)<(head|noscript)>.*?</\1>", "", page)
    page = re.sub(r'name="(csrf|key)" value="[^"]+"', "", page)
    page = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", page)
    page = re.sub(
        r"<(input|textarea)[^>]*?name=\"([^\"]+)\"[^>]*?(?:value=\"([^\"]*)\")?[^>]*>", r"[\2=\3]", page
    )
    page = re.sub(
        r"</?(?:a|b|i|small|span|code|time|svg|rect|path|label|legend|button|input)\b[^>]*>", "", page
    )
    lines = (" ".join(unescape(line).split()) for line in re.sub(r"<[^>]+>", "\n", page).splitlines())
    return "\n".join(line for line in lines if line) + "\n"


GOLDENS = {
    "overview": "/",
    "nodes": "/nodes",
    "node": "/nodes/cp1",
    "node-remove": "/nodes/w2/remove",
    "pods": "/pods",
    "pod": "/pods/team/web-0",
    "events": "/events",
    "control-plane": "/control-plane",
    "certificates": "/certificates",
    "media": "/media",
    "journal": "/journal",
    "access": "/access",
    "hosts": "/hosts",
    "host-add": "/hosts/add",
    "host-keys": f"/hosts/add/{worlds.PROBE}",
    "host-looked": f"/hosts/add/{worlds.LOOK}",
    "jobs": "/jobs",
    "job": f"/jobs/{JOB}",
    "report": "/report",
}


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("kind", ["full", "failed"])
def test_pages_read_as_they_should(start: Start, golden: GoldenCheck, kind: str, name: str) -> None:
    console = start(worlds.full() if kind == "full" else worlds.failed())
    browser = console.browser()
    browser.login(ADMIN)
    answer = browser.get(GOLDENS[name])
    assert answer.status == 200
    assert len(answer.body) <= PAGE_BYTES
    golden(f"{kind}-{name}.txt", words(answer.text))


def test_nothing_has_happened_yet(start: Start) -> None:
    """Every page comes in a world without nodes, jobs, images."""
    browser = start(worlds.empty()).browser()
    browser.login(ADMIN)
    for path in PAGES:
        answer = browser.get(path)
        assert answer.status in (200, 404), path
        assert "the console has failed" not in answer.text, path


# ---- never an OK that is not known ---------------------------------------------------------------------------


def test_c02_a_kubelet_that_is_not_heard_is_unknown_before_the_api_says_so(start: Start) -> None:
    world = worlds.full()
    world.leases["w1"] = NIGHT - HEARTBEAT_S - 1
    browser = start(world).browser()
    browser.login(ADMIN)
    page = words(browser.get("/nodes").text)
    assert "unknown\nits kubelet has not been heard for 26 s" in page
    overview = words(browser.get("/").text)
    assert "All is well" not in overview
    assert overview.index("Node w1 is unknown") < overview.index("4 of 5")


def test_c02_a_door_that_does_not_open_is_not_well(start: Start) -> None:
    console = start(worlds.full())
    console.door.stop()
    browser = console.browser()
    browser.login(ADMIN)
    page = words(browser.get("/").text)
    assert "All is well" not in page
    assert "Not everything is known: no answer about this host, certificates, jobs" in page


def test_a_slow_source_holds_no_page_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door answers nothing until the test is over: a page that waited for it would never come."""
    monkeypatch.setattr(known, "WAIT_S", 0.1)
    world = worlds.full()
    world.held = {"status"}
    browser = start(world).browser()
    browser.login(ADMIN)
    page = words(browser.get("/").text)
    assert "no answer within 0.1 s; still waiting" in words(browser.get("/control-plane").text)
    assert "All is well" not in page


def test_what_ends_soon_is_the_first_line(start: Start) -> None:
    world = worlds.failed()
    browser = start(world).browser()
    browser.login(ADMIN)
    page = words(browser.get("/").text)
    assert page.index(
        "The certificate apiserver (kube-apiserver, to its clients) ends in 5 days."
    ) < page.index("Node w2")


def test_a_cordoned_node_is_no_fault(start: Start) -> None:
    world = worlds.full()
    world.nodes[3]["word"] = "Ready,SchedulingDisabled"
    browser = start(world).browser()
    browser.login(ADMIN)
    assert "Ready, no new pods" in words(browser.get("/nodes").text)


# ---- who may not ---------------------------------------------------------------------------------------------


def test_c11_what_is_not_allowed_is_there_with_the_rule(console: Running) -> None:
    browser = console.browser()
    browser.login(VIEWER)
    for path, label in (("/hosts", "Add a host"), ("/report", "Make a report"), (f"/jobs/{JOB}", "Cancel")):
        page = browser.get(path).text
        assert re.search(rf"<button type=\"button\" disabled>{label}</button>", page), path
        assert "the rule that is missing: apiGroups: [&#34;console.caisson.internal&#34;]" in page


def test_c11_somebody_of_one_namespace_sees_it_and_no_error(console: Running) -> None:
    browser = console.browser()
    browser.login(ONE_NAMESPACE)
    page = words(browser.get("/pods").text)
    assert "You may not see all namespaces. See one:" in page
    assert 'The rule that would be needed: apiGroups: [""], resources: ["pods"], verbs: ["list"]' in page
    page = words(browser.get("/pods?namespace=team").text)
    assert "web-0" in page
    assert browser.get("/pods").location == "/pods?namespace=team"
    assert browser.get("/events").location == "/events?namespace=team"
    assert browser.get("/pods/team/web-0").status == 200


def test_host_facts_need_a_right_in_the_whole_cluster(console: Running) -> None:
    browser = console.browser()
    browser.login(ONE_NAMESPACE)
    for path in (
        "/",
        "/control-plane",
        "/certificates",
        "/media",
        "/journal",
        "/jobs",
        "/hosts",
        f"/jobs/{JOB}",
    ):
        answer = browser.get(path)
        assert answer.status == 200
        assert "caisson-0.2.0.iso" not in answer.text
        assert "apiserver.crt" not in answer.text
    assert [r["verb"] for r in console.world.asked_door] == []
    assert browser.get(f"/jobs/{JOB}/stream").status == 403
    assert browser.get(f"/jobs/{JOB}/log").status == 403
    assert browser.get(f"/jobs/{worlds.REPORT}/archive").status == 403


def test_access_says_who_and_what_and_why_not(console: Running) -> None:
    browser = console.browser()
    browser.login(VIEWER)
    page = words(browser.get("/access").text)
    assert "system:serviceaccount:caisson-users:eve" in page
    assert "yes\nsee this host" in page
    assert "no\nlook at a host and add it" in page


# ---- much ----------------------------------------------------------------------------------------------------


def test_c09_ten_thousand_pods_are_a_small_page(start: Start) -> None:
    world = worlds.full()
    world.pods = [worlds.pod(f"ns-{n % 50}", f"app-{n}", f"node{n % 500}") for n in range(10_000)]
    world.pods[9_000] = worlds.pod("ns-1", "broken", "node1", state="CrashLoopBackOff", ready="0/1")
    browser = start(world).browser()
    browser.login(ADMIN)
    browser.get("/access")
    answer = browser.get("/pods")
    assert len(answer.body) <= 150_000
    page = words(answer.text)
    assert "10000 pods, 1 not well" in page
    assert page.index("CrashLoopBackOff") < page.index("app-0\n")
    assert "Page 2 of 50" in words(browser.get("/pods?page=2").text)
    assert cost_s(browser, "/pods?page=2") < 1.0
    assert "1 of 10000 pods" in words(browser.get("/pods?unwell=1").text)


def test_c08_a_page_asks_the_api_seldom(admin: Browser) -> None:
    """A minute of the overview, which asks by itself each 8 s: at most 30 requests, of the pods each 5 s too."""
    world = admin.running.world
    for path, every in (
        ("/", 8),
        ("/pods", 5),
        ("/nodes", 6),
        ("/pods/team/web-0", 5),
        ("/control-plane", 5),
    ):
        admin.get(path)
        world.ahead_s += 100
        admin.get(path)
        world.asked_api.clear()
        for _ in range(60 // every):
            world.ahead_s += every
            assert admin.live(path).status == 200
        assert len(world.asked_api) <= 30, (path, len(world.asked_api))


def test_twenty_who_look_ask_the_door_once(console: Running) -> None:
    browsers = [console.browser() for _ in range(6)]
    for browser in browsers:
        browser.login(ADMIN)
    for browser in browsers:
        browser.get("/control-plane")
    assert [r["verb"] for r in console.world.asked_door] == ["status"]


def test_lists_are_asked_for_as_tables_and_no_secret_ever(admin: Browser) -> None:
    for path in PAGES:
        admin.get(path)
    asked = admin.running.world.asked_api
    assert any(line.startswith("GET /api/v1/pods?resourceVersion=0&limit=500") for line in asked)
    assert not [line for line in asked if "secret" in line.lower()]
    assert not [line for line in asked if line.startswith("POST") and "review" not in line]


def test_a_token_is_in_no_page_and_no_address(admin: Browser) -> None:
    for path in PAGES:
        answer = admin.get(path)
        assert ADMIN not in answer.text
        assert admin.cookie not in answer.text
    assert not [line for line in admin.running.world.asked_api if ADMIN in line]
    assert not [r for r in admin.running.world.asked_door if r["token"]]
