# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API is away: the cause is near the top, what is old says so, and nobody is locked out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from console import api
from tests.conftest import GoldenCheck
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import REPOSITORY_DIR, Browser, Running, cost_s
from tests.unit.console.test_pages import words
from tests.unit.console.test_security import PAGES
from tests.unit.console.world import ADMIN, CODE, JOB, at

pytestmark = pytest.mark.loopback


@pytest.fixture
def down(admin: Browser) -> Browser:
    """Return somebody who was logged in when the API went away."""
    for path in ("/", "/pods", "/nodes"):
        admin.get(path)
    admin.running.api.stop()
    worlds.api_down(admin.running.world)
    admin.running.world.ahead_s += 12
    return admin


def test_c07_the_cause_is_within_the_first_three_lines(down: Browser) -> None:
    lines = words(down.get("/").text).splitlines()
    start = next(
        place for place, line in enumerate(lines) if line.startswith("etcd does not run on this host.")
    )
    first = lines[start : start + 12]
    assert "it exited 1 (Error) at 02:57:50 UTC, 4 restarts" in first
    assert any("no space left on device" in line for line in first)
    assert any(line == "sudo crictl ps --all --name etcd" or "crictl ps" in line for line in first)


def test_the_banner_says_since_when_and_why(down: Browser) -> None:
    page = words(down.get("/jobs").text)
    assert "The Kubernetes API has not answered since 03:00:00 UTC" in page
    assert "127.0.0.1:PORT: connection refused" in page


def test_c02_nothing_is_called_well_that_is_not_known(down: Browser) -> None:
    for path in ("/", "/nodes", "/pods"):
        answer = down.get(path)
        page = words(answer.text)
        assert "All is well" not in page
        assert 'class="mark good">Running' not in answer.text
        assert 'class="mark good">Ready' not in answer.text
    page = words(down.get("/nodes").text)
    assert "was Ready when the API answered last" in page
    assert "the Kubernetes API, 03:00:00 UTC, 12 s ago: no answer since 03:00:00 UTC" in page


def test_c07_every_page_comes_in_time(down: Browser) -> None:
    for path in (*PAGES, "/login"):
        assert down.get(path).status in (200, 303), path
        assert cost_s(down, path) < 2.0, path


def test_an_api_that_hangs_holds_no_page_up_twice(admin: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers nothing until the test is over: a page that waited for it would never come."""
    world = admin.running.world
    admin.get("/nodes")
    for name in ("LIMIT_S", "HEALTH_LIMIT_S"):
        monkeypatch.setattr(api, name, 0.1)
    world.held = {"api"}
    world.ahead_s += 12
    assert "has not answered since" in words(admin.get("/nodes").text)
    world.asked_api.clear()
    assert "has not answered since" in words(admin.get("/pods").text)
    assert world.asked_api == []


def test_a_code_lets_in_to_look(start: Start) -> None:
    """What the door gives in place of a token: read, and make a report, and nothing else."""
    world = worlds.full()
    worlds.api_down(world)
    world.codes[CODE] = {"grant": "grant-0123456789", "ends": at(-3600), "user": "local", "role": ""}
    console = start(world)
    console.api.stop()
    browser = console.browser()
    page = browser.get("/login").text
    assert "The Kubernetes API does not answer" in page
    answer = browser.login(ADMIN)
    assert answer.status == 503
    assert "A code still works" in answer.text
    assert browser.post("/login", {"code": CODE}, fill=False).status == 303
    page = words(browser.get("/").text)
    assert "local, only to look" in page
    assert "etcd does not run on this host" in page
    assert "disabled" in browser.get("/hosts").text
    assert browser.get("/certificates").text.count("apiserver.crt") == 1
    browser.get("/report")
    assert browser.post("/report").status == 303
    (started,) = [r for r in console.world.asked_door if r["verb"] == "start"]
    assert (started["token"], started["grant"]) == (None, "grant-0123456789")


def test_nothing_can_be_started_meanwhile(down: Browser) -> None:
    page = down.get(f"/jobs/{JOB}").text
    assert '<button type="button" disabled>Cancel</button>' in page
    assert "the Kubernetes API does not answer, and it decides who may" in page


def test_c07_it_comes_back_by_itself(down: Browser) -> None:
    down.get("/")
    down.running.api.start()
    down.running.world.status = worlds.status()
    down.running.world.ahead_s += 4
    for name in down.running.world.leases:
        down.running.world.leases[name] += 16
    page = words(down.live("/").text)
    assert "has not answered" not in page
    assert "All is well: 5 of 5 nodes are Ready." in page


def test_one_missed_answer_is_no_outage(start: Start) -> None:
    console = start(worlds.full())
    browser = console.browser()
    browser.login(ADMIN)
    console.world.ahead_s += 10
    console.world.drops = 1
    assert "has not answered since" not in browser.get("/access").text
    assert console.world.drops == 0
    console.world.ahead_s += 10
    console.world.drops = 2
    assert "has not answered since" in browser.get("/access").text


@pytest.mark.subprocess
def test_no_source_is_waited_for_longer_than_a_page_may_take() -> None:
    """The limits themselves; what they are for is tested with answers that never come."""
    code = (
        "from console import api, joblog, known, sources;"
        "assert max(api.LIMIT_S, known.WAIT_S, joblog.WAIT_S, 2 * sources.HALF_S) <= 2;"
        "assert api.HEALTH_LIMIT_S <= 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY_DIR, timeout=120)


@pytest.mark.parametrize("name", ["/", "/control-plane", "/nodes", "/hosts/add"])
def test_pages_read_as_they_should(down: Browser, golden: GoldenCheck, name: str) -> None:
    golden(f"down-{name.strip('/').replace('/', '-') or 'overview'}.txt", words(down.get(name).text))


@pytest.mark.parametrize("service", ["containerd", "kubelet"])
def test_a_service_that_is_down_is_the_cause(start: Start, service: str) -> None:
    world = worlds.full()
    names = [one["name"] for one in world.status["host"]["services"]]
    world.status["host"]["services"][names.index(service)] = worlds.service(
        service, "failed", result="exit-code", exit_code=1, lines=["config.toml: line 3: what is this?"]
    )
    world.status["services"][service] = "failed"
    console: Running = start(world)
    browser = console.browser()
    browser.login(ADMIN)
    console.api.stop()
    console.world.ahead_s += 12
    page = words(browser.get("/").text)
    assert page.count(f"{service} does not run on this host") == 2
    assert f"sudo systemctl restart {service}" in page
    assert "config.toml: line 3" in page
    assert f"connection refused. {service} is failed on this host" in page
