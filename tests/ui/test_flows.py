# SPDX-License-Identifier: Apache-2.0
"""What people do: by keyboard alone, without script, with eight tabs, while everything changes or goes away."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from console import known
from tests.ui.conftest import Eyes, Look
from tests.unit.console import test_security as security
from tests.unit.console import world as worlds
from tests.unit.console.world import ADMIN, FINGERPRINT, JOB, REPORT

PAGES = (*security.PAGES, f"/jobs/{REPORT}")


def test_c04_every_page_comes_without_a_fault_and_small(look: Look) -> None:
    """No breach of the policy, no error, no other origin; the fixture fails when there is one."""
    eyes = look(worlds.full())
    eyes.log_in()
    for path in PAGES:
        eyes.go(path)
        expect(eyes.page.locator("h1").first).to_be_visible()
    assert {url.partition("/static/")[2].partition("/")[2] for url in eyes.requests if "/static/" in url} >= {
        "console.css",
        "console.js",
    }


def test_a_code_in_the_address_is_not_sent(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.page.goto(f"{eyes.base}/login#{worlds.CODE}")
    expect(eyes.page.locator("#code")).to_have_value(worlds.CODE)
    assert "#" not in eyes.page.url
    eyes.page.press("#code", "Enter")
    eyes.page.wait_for_url(f"{eyes.base}/")


def press_until(page: Page, text: str, limit: int = 60) -> None:
    """Press the tab key until what is in focus has a text; what is in focus is always to be seen."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "(document.activeElement.labels?.[0] || document.activeElement).textContent.trim()"
        )
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width != "0px", said
        if said.startswith(text):
            return
    raise AssertionError(f"{text!r} is not reached by the tab key")


def test_c10_a_host_is_added_by_keyboard_alone(look: Look) -> None:
    eyes = look(worlds.full())
    page = eyes.page
    page.goto(f"{eyes.base}/login")
    page.keyboard.type(worlds.CODE)  # the field has the focus from the start
    page.keyboard.press("Enter")
    page.wait_for_url(f"{eyes.base}/")
    press_until(page, "Hosts")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts")
    press_until(page, "Add a host")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/add")
    press_until(page, "Address of its SSH server")
    page.keyboard.type("10.77.1.14")
    press_until(page, "Ask for its keys")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/add/*-probe-*")
    press_until(page, FINGERPRINT)
    page.keyboard.press("Space")
    press_until(page, "Password")
    page.keyboard.type("hunter2")
    press_until(page, "Log in and look")
    page.keyboard.press("Enter")
    expect(page.locator("p.verdict")).to_contain_text("Fit to become a node")
    press_until(page, "Add this host")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*node-add*")
    started = [r["arguments"] for r in eyes.console.world.asked_door if r["verb"] == "start"]
    assert [one["operation"] for one in started] == ["probe", "probe", "add-host"]
    assert started[2]["secrets"] == {"password": "hunter2"}


def test_c10_a_node_is_removed_by_keyboard_alone(look: Look) -> None:
    eyes = look(worlds.full())
    page = eyes.page
    eyes.log_in()
    eyes.go("/nodes/w2")
    press_until(page, "Remove w2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes/w2/remove")
    press_until(page, "Password")
    page.keyboard.type("hunter2")
    press_until(page, "Type the name of the node")
    page.keyboard.type("w1")
    page.keyboard.press("Enter")
    expect(page.locator("main [role=alert]")).to_contain_text("1 thing cannot be so")
    assert not [r for r in eyes.console.world.asked_door if r["verb"] == "start"]
    press_until(page, "Type the name of the node")
    page.keyboard.press("Control+a")
    page.keyboard.type("w2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*node-remove*")
    (started,) = [r["arguments"] for r in eyes.console.world.asked_door if r["verb"] == "start"]
    assert started["parameters"] == {"name": "w2", "dead": False, "force": False}
    assert started["secrets"] == {}, "what is secret is typed again"
    eyes.faults[:] = [line for line in eyes.faults if "422" not in line]


def test_a_log_goes_on_by_itself_without_a_lost_or_doubled_line(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.log_in()
    eyes.go(f"/jobs/{JOB}")
    files = eyes.console.world.jobs[JOB]
    for number in range(61, 101):
        files.log += worlds.log_of(number)[len(worlds.log_of(number - 1)) :]
        time.sleep(0.01)
    expect(eyes.page.locator("#joblog")).to_contain_text("line 100 of")
    files.phases = worlds.phases(9, "done")
    files.about.update(state="succeeded", summary="10.77.1.13 is Ready")
    expect(eyes.page.locator("p.verdict")).to_contain_text("succeeded")
    expect(eyes.page.locator("main")).to_contain_text("10.77.1.13 is Ready")
    lines = eyes.page.inner_text("#joblog").splitlines()
    numbers = [line.split("line ")[1].split(" ")[0] for line in lines if "line " in line]
    assert numbers == [str(n) for n in range(1, 101)]


def test_a_job_of_which_nothing_was_known_fills_its_page_by_itself(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "WAIT_S", 0.1)
    eyes = look(worlds.full())
    eyes.log_in()
    eyes.console.world.held.add("job")
    eyes.go(f"/jobs/{JOB}")
    expect(eyes.page.locator("main")).to_contain_text("Nothing is known of this job yet")
    eyes.console.world.released.set()
    expect(eyes.page.locator("p.verdict")).to_contain_text("running")
    expect(eyes.page.locator("#joblog")).to_contain_text("line 60 of")
    numbers = [line.split("line ")[1].split(" ")[0] for line in eyes.page.inner_text("#joblog").splitlines()]
    assert numbers == [str(n) for n in range(1, 61)]


def test_c08_a_pod_that_changes_is_seen_without_a_reload(look: Look) -> None:
    """Within six seconds of the page's own clock."""
    eyes = look(worlds.full())
    eyes.page.clock.install()
    eyes.log_in()
    eyes.go("/pods")
    eyes.page.evaluate("window.stays = 1")
    eyes.console.world.ahead_s += 5
    eyes.console.world.pods[0]["words"][2] = "CrashLoopBackOff"
    eyes.page.clock.run_for(6_000)
    expect(eyes.page.locator("tbody tr").first).to_contain_text("CrashLoopBackOff")
    assert eyes.page.evaluate("window.stays") == 1


def test_c10_news_take_neither_focus_nor_what_is_typed(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.page.clock.install()
    eyes.log_in()
    eyes.go("/pods")
    eyes.page.fill("input[name=text]", "web")
    eyes.page.focus("#p-team-web-1 a")
    eyes.console.world.pods[0]["words"][2] = "CrashLoopBackOff"
    eyes.console.world.ahead_s += 5
    eyes.page.clock.run_for(6_000)
    expect(eyes.page.locator("tbody tr").first).to_contain_text("CrashLoopBackOff")
    assert eyes.page.input_value("input[name=text]") == "web"
    assert eyes.page.evaluate("document.activeElement.textContent") == "web-1"
    eyes.console.world.pods = [pod for pod in eyes.console.world.pods if pod["metadata"]["name"] != "web-1"]
    eyes.console.world.ahead_s += 5
    eyes.page.clock.run_for(6_000)
    expect(eyes.page.locator("#p-team-web-1")).to_have_count(0)
    assert eyes.page.evaluate("document.activeElement.id") == "main"


def test_what_is_open_stays_open(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.log_in()
    eyes.go("/nodes/cp1")
    eyes.page.locator("summary").last.click()
    eyes.page.evaluate("dispatchEvent(new Event('x')); document.dispatchEvent(new Event('visibilitychange'))")
    time.sleep(1.0)
    assert eyes.page.locator("details").last.get_attribute("open") is not None


def hide(page: Page) -> None:
    """Let a page believe that another tab is in front."""
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def until(is_so: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for something; fail when it does not come."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_c08_a_hidden_page_asks_nothing(look: Look) -> None:
    """Not in an hour of its own clock."""
    eyes = look(worlds.full())
    eyes.page.clock.install()
    eyes.log_in()
    eyes.go(f"/jobs/{JOB}")
    until(lambda: eyes.console.core.streams == 1)
    hide(eyes.page)
    until(lambda: eyes.console.core.streams == 0)
    eyes.requests.clear()
    eyes.console.world.asked_api.clear()
    eyes.page.clock.run_for(3_600_000)
    eyes.page.evaluate("new Promise((done) => requestAnimationFrame(done))")
    assert eyes.requests == []
    assert eyes.console.world.asked_api == []
    assert eyes.console.core.streams == 0


def test_c09_much_that_changes_does_not_pile_up(look: Look) -> None:
    """10,000 pods, of which some are others each time that the page asks: what is kept stays below 20 MB."""
    world = worlds.full()
    world.pods = [worlds.pod(f"ns-{n % 50}", f"app-{n}", f"node{n % 500}") for n in range(10_000)]
    eyes = look(world)
    eyes.log_in()
    eyes.go("/pods")
    measure = eyes.context.new_cdp_session(eyes.page)
    measure.send("Performance.enable")
    for number in range(10):
        world.pods[number]["words"][2] = "CrashLoopBackOff"
        world.ahead_s += 6
        with eyes.page.expect_response("**/pods"):
            eyes.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    measure.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in measure.send("Performance.getMetrics")["metrics"]}
    assert found["JSHeapUsedSize"] <= 20_000_000


def test_c07_the_api_goes_and_comes_back_without_a_reload(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.page.clock.install()
    eyes.log_in()
    eyes.console.api.stop()
    worlds.api_down(eyes.console.world)
    eyes.console.world.ahead_s += 10
    eyes.page.clock.run_for(10_000)
    expect(eyes.page.locator("#banners")).to_contain_text("The Kubernetes API has not answered since")
    expect(eyes.page.locator("h1")).to_contain_text("etcd does not run on this host")
    assert int(eyes.page.get_attribute("body", "data-every") or 99) <= 8
    eyes.console.api.start()
    eyes.console.world.status = worlds.status()
    for name in eyes.console.world.leases:
        eyes.console.world.leases[name] = eyes.console.world.now()
    eyes.console.world.ahead_s += 10
    eyes.page.clock.run_for(10_000)
    expect(eyes.page.locator("#banners")).not_to_contain_text("has not answered")


def test_c15_a_session_that_ends_leaves_what_was_typed(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.log_in()
    eyes.go("/hosts/add")
    eyes.page.fill("input[name=address]", "10.77.1.99")
    eyes.console.world.ahead_s += 31 * 60
    eyes.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(eyes.page.locator("#over")).to_be_visible()
    eyes.faults[:] = [line for line in eyes.faults if "401" not in line]
    assert eyes.page.input_value("input[name=address]") == "10.77.1.99"
    eyes.page.click("#over a")
    eyes.page.wait_for_url("**/login?*")
    expect(eyes.page.locator("main")).to_contain_text("nothing was done for 30 minutes")
    eyes.console.world.codes[worlds.CODE] = worlds.let_in(ADMIN, ends_in_s=9 * 3600)
    eyes.page.fill("#code", worlds.CODE)
    eyes.page.press("#code", "Enter")
    eyes.page.wait_for_url("**/hosts/add")
    assert eyes.page.input_value("input[name=address]") == "10.77.1.99"
    kept = eyes.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")
    assert "password" not in kept.replace("secret_", "password")


def test_c05_more_time_without_leaving_the_page(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.log_in()
    eyes.go("/hosts/add")
    eyes.page.fill("input[name=address]", "10.77.1.98")
    eyes.console.world.ahead_s += 26 * 60
    eyes.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    eyes.page.click("text=Stay logged in")
    expect(eyes.page.locator("#banners form")).to_have_count(0)
    assert eyes.page.input_value("input[name=address]") == "10.77.1.98"
    eyes.console.world.ahead_s += 20 * 60
    eyes.go("/nodes")
    expect(eyes.page.locator("h1")).to_have_text("Nodes")


def test_the_console_goes_away_and_says_so(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.page.clock.install()
    eyes.log_in()
    eyes.go("/pods")
    eyes.context.set_offline(True)
    for _ in range(2):
        with eyes.page.expect_event("requestfailed"):
            eyes.page.clock.run_for(15_000)
    expect(eyes.page.locator("#lost")).to_be_visible()
    eyes.context.set_offline(False)
    eyes.page.clock.run_for(60_000)
    expect(eyes.page.locator("#lost")).to_be_hidden()
    eyes.faults[:] = [line for line in eyes.faults if "ERR_INTERNET_DISCONNECTED" not in line]


def test_c13_eight_tabs_with_live_pages_all_load(look: Look) -> None:
    """A browser has six connections for one host; a stream that is not seen is closed."""
    eyes = look(worlds.full())
    eyes.log_in()
    for _ in range(8):
        page = eyes.context.new_page()
        eyes.watch(page)
        page.goto(f"{eyes.base}/jobs/{JOB}")
        expect(page.locator("#joblog")).to_contain_text("line 60 of")
        hide(page)


def test_c14_t12_no_secret_stays_in_the_browser(look: Look) -> None:
    """Neither in what it keeps, nor in an address, nor in what can be read of its cookies."""
    eyes = look(worlds.full())
    page = eyes.page
    eyes.log_in()
    eyes.go("/hosts/add")
    page.fill("input[name=address]", "10.77.1.14")
    page.click("text=Ask for its keys")
    page.wait_for_url("**/hosts/add/*-probe-*")
    page.check("input[name=fingerprint]")
    page.fill("input[name=secret_password]", "hunter2")
    page.fill("textarea[name=secret_key]", "-----BEGIN KEY-----")
    page.click("text=Log in and look")
    expect(page.locator("p.verdict")).to_contain_text("Fit to become a node")
    kept = page.evaluate(
        "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie, document.referrer, name])"
    )
    seen = [kept, page.content(), *eyes.requests]
    for secret in ("hunter2", "BEGIN KEY", ADMIN, worlds.CODE):
        assert not [text for text in seen if secret in text]
    assert "10.77.1.14" in kept


def test_a_command_is_copied(look: Look) -> None:
    eyes = look(worlds.failed(), permissions=["clipboard-read", "clipboard-write"])
    eyes.log_in()
    eyes.page.locator(".copy").first.click()
    expect(eyes.page.locator(".copy").first).to_have_text("Copied")


def test_every_page_works_without_script(look: Look) -> None:
    eyes = look(worlds.failed(), java_script_enabled=False)
    eyes.log_in()
    expect(eyes.page.locator(".copy").first).to_be_hidden()
    for path in PAGES:
        eyes.go(path)
        expect(eyes.page.locator("h1").first).to_be_visible()


def test_a_host_is_added_without_script(look: Look) -> None:
    eyes = look(worlds.full(), java_script_enabled=False)
    eyes.log_in()
    page = eyes.page
    eyes.go("/hosts/add")
    page.fill("input[name=address]", "10.77.1.14")
    page.click("text=Ask for its keys")
    page.wait_for_url("**/hosts/add/*-probe-*")
    page.check("input[name=fingerprint]")
    page.fill("input[name=secret_password]", "hunter2")
    page.click("text=Log in and look")
    expect(page.locator("p.verdict")).to_contain_text("Fit to become a node")
    page.click("text=Add this host")
    page.wait_for_url("**/jobs/*node-add*")
    page.click("text=Cancel")
    expect(page.locator("p.verdict")).to_contain_text("failed")
    page.click("text=Log out")
    expect(page.locator("main")).to_contain_text("You have logged out.")


def test_t06_another_site_can_neither_post_nor_frame(look: Look) -> None:
    eyes = look(worlds.full())
    eyes.log_in()
    evil = eyes.context.new_page()
    evil.set_content(
        f'<form method="post" action="{eyes.base}/report"><input name="key" value="{"k" * 20}">'
        "<button>x</button></form>"
        f'<iframe src="{eyes.base}/"></iframe>'
    )
    evil.click("button")
    expect(evil.locator("h1")).to_contain_text("Forbidden")
    assert not [r for r in eyes.console.world.asked_door if r["verb"] == "start"]


def test_t07_hostile_names_stay_text(look: Look) -> None:
    world = worlds.failed()
    name = "<img src=x onerror=document.title=1>"
    world.pods[0]["words"][2] = name
    world.events[0]["words"][6] = f"</td><script>document.title=2</script>{name}"
    world.jobs[JOB].log += f"{name}\n".encode()
    eyes: Eyes = look(world)
    eyes.log_in()
    for path in ("/pods", "/events", f"/jobs/{JOB}"):
        eyes.go(path)
        assert name in eyes.page.inner_text("main")
        assert eyes.page.locator("main img, main script").count() == 0
        assert eyes.page.title() not in ("1", "2")
