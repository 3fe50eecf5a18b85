# SPDX-License-Identifier: Apache-2.0
"""What people do with the console of a real cluster, in a real Chromium beside it, while things are killed.

node1 boots from a kept disk. node2 becomes a worker by a password and sudo, watched by two people, the browser of the
first of whom is killed; node3 by a key, while the door, the console and the job are killed; then the API is stopped.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright, expect

from lab import cleanup, hosts, kept
from lab.node import Lab, Node
from lab.run import run
from tests.browsing import Sight
from tests.node.growing import Site, told, until
from tests.node.installing import lab_iso, shell
from tests.node.seeing import (
    FINGERPRINT,
    Seat,
    answer_s,
    code_for,
    seated,
    seen_fingerprint,
    wrong_oks,
)
from tests.soak.conftest import Record

pytestmark = pytest.mark.lab

URL = "https://10.77.1.11:9443"
PASSWORD = "correct horse' 1"
LOOK_MS, JOB_MS = 240_000, 900_000
LINES_S = 60.0
#: Of criterion 3, and what a page may take to ask again.
INTERRUPTED_S = 5 + 5
PAGE_S, WRONG_OK_S = 2.0, 10.0
BACK_MS = 240_000
ALL_WELL = re.compile(r"All is well: (\d) of \1 nodes? (is|are) Ready")
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
AWAY = "/root/kube-apiserver.yaml"
API_PAGES = ("/", "/nodes", "/nodes/node1", "/pods", "/events", "/control-plane", "/access", "/hosts/add")
HOST_PAGES = ("/jobs", "/media", "/certificates", "/journal", "/hosts", "/report")
#: What a browser's console says of a server that it kills or logs out of.
LOST = ("Failed to load resource", "net::ERR_", "EventSource's response")


@dataclass(frozen=True, kw_only=True)
class Flows:
    """A cluster of one node, bare hosts, and a seat at the console."""

    site: Site
    seat: Seat
    keys: dict[str, str]
    identity: str


@pytest.fixture(scope="module")
def flows(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    """Start the cluster and the hosts, in a lab of their own; at its end nothing of that is left."""
    directory = tmp_path_factory.mktemp("desk")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "id"])
    public_key = (directory / "id.pub").read_text()
    with Lab() as lab:
        site = Site(lab, dict.fromkeys(("node1", "node2", "node3"), hosts.WORKER))
        driver = site.nodes["node1"] = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        keys = {}
        for name in ("node2", "node3"):
            site.nodes[name] = lab.start_node(name)
        keys["node2"] = site.nodes["node2"].authorize(
            public_key, user="ops", password=PASSWORD, sudoers="ALL=(ALL) ALL"
        )
        keys["node3"] = site.nodes["node3"].authorize(public_key)
        fingerprint = shell(driver, FINGERPRINT).strip().partition("=")[2]
        with seated(lab, playwright, directory, url=URL, fingerprint=fingerprint) as seat:
            identity = (directory / "id").read_text()
            yield Flows(site=site, seat=seat, keys=keys, identity=identity)
    assert cleanup.leftovers(lab.name) == []


@pytest.fixture(autouse=True)
def _nothing_was_wrong(flows: Flows) -> Iterator[None]:
    """At the end of each test: no fault, no other origin, no packet to anywhere else."""
    yield
    flows.seat.close()
    try:
        flows.seat.assert_nothing_was_wrong()
    finally:
        flows.seat.sights.clear()


# ---- what people do ------------------------------------------------------------------------------------------


def begin_to_add(sight: Sight, host: Node, *, key: str, user: str, secrets: dict[str, str]) -> str:
    """Add a worker, step by step, until its job is at work; return the ID of that."""
    page = sight.page
    sight.go("/hosts")
    page.click("text=Add a host")
    page.fill("input[name=address]", host.control_plane_address)
    page.fill("input[name=user]", user)
    page.click("text=Ask for its keys")
    page.wait_for_url("**/hosts/add/*-probe-*")
    shown = page.locator("label.check", has_text=key)
    shown.locator("input").check(timeout=LOOK_MS)
    for name, secret in secrets.items():
        page.fill(f"[name=secret_{name}]", secret)
    page.click("text=Log in and look")
    expect(page.locator("p.verdict")).to_contain_text("Fit to become a node", timeout=LOOK_MS)
    expect(page.locator("dl.facts")).to_contain_text(host.name)
    assert not any(secret in page.content() for secret in secrets.values())
    page.click("text=Add this host")
    page.wait_for_url("**/jobs/*node-add*")
    return job_of(page)


def job_of(page: Page) -> str:
    """Return the ID of the job that a page is about."""
    return page.url.rpartition("/")[2]


def phases_of(page: Page) -> list[tuple[str, str]]:
    """Return name and state of each phase that a page shows."""
    found: list[list[str]] = page.eval_on_selector_all(
        "table.phases tbody tr",
        "all => all.map(one => [one.querySelector('b').textContent, one.querySelector('.mark').textContent])",
    )
    return [(name, state) for name, state in found]


def lines_of(page: Page) -> list[str]:
    """Return the lines of a job's log as a page shows them."""
    text: str = page.eval_on_selector("#joblog", "log => log.textContent")
    return text.splitlines()


def wait_for_phases(page: Page, count: int) -> None:
    """Wait until so many phases are done."""
    expect(page.locator("table.phases tr.done").nth(count - 1)).to_be_visible(timeout=JOB_MS)


def wait_for_lines(page: Page, count: int) -> None:
    """Wait until a page shows so many lines of a log, which come by its stream."""
    ends_at = time.monotonic() + LINES_S
    while len(lines_of(page)) < count:
        assert time.monotonic() < ends_at, lines_of(page)[-3:]
        page.wait_for_timeout(200)


def job_in_terminal(driver: Node, job: str) -> dict[str, Any]:
    """Return what a terminal says of a job."""
    found: dict[str, Any] = told(driver, "caisson", "job", job, "--json")["job"]
    return found


def assert_all_was_shown(page: Page, driver: Node, job: dict[str, Any]) -> None:
    """Compare the page's log with the job's: its end, without a lost or doubled line."""
    whole = shell(driver, f"cat {job['directory']}/output.log").splitlines()
    shown = lines_of(page)
    assert shown
    assert [line.rstrip() for line in shown] == [line.rstrip() for line in whole[-len(shown) :]]


def assert_ready(site: Site, *names: str) -> None:
    """Make sure that nodes are Ready, for the API."""
    ready = site.ready()
    assert {name: ready[name] for name in names} == dict.fromkeys(names, "True")


def assert_kept_nowhere(node: Node, secret: str) -> None:
    """Look for a secret in what jobs, logs and the memory of this host have kept."""
    places = "/var/lib/caisson /var/log/caisson /var/log/journal /run/caisson /run/caisson-console"
    found = shell(node, f"grep -raslF -e {shlex.quote(secret)} {places} || true", timeout_s=300)
    assert found == ""


# ---- the tests -----------------------------------------------------------------------------------------------


def test_all_is_well_and_each_page_says_so(flows: Flows) -> None:
    sight = flows.seat.open(flows.seat.start())
    sight.enter(code_for(flows.site.driver, "ada", "admin"))
    assert seen_fingerprint(sight) == shell(flows.site.driver, FINGERPRINT).strip().partition("=")[2]
    expect(sight.page.locator("h1.verdict")).to_contain_text(ALL_WELL)
    for path in (*API_PAGES, *HOST_PAGES):
        sight.go(path)
        expect(sight.page.locator("h1").first).to_be_visible()


def test_a_worker_is_added_while_one_browser_is_killed_and_another_person_looks(
    flows: Flows, record: Record
) -> None:
    site, seat, began = flows.site, flows.seat, time.monotonic()
    first = seat.open(seat.start())
    first.enter(code_for(site.driver, "ada", "admin"))
    secrets = {"password": PASSWORD, "sudo": PASSWORD}
    job = begin_to_add(first, site.nodes["node2"], key=flows.keys["node2"], user="ops", secrets=secrets)
    wait_for_phases(first.page, 2)
    phases, said = phases_of(first.page), lines_of(first.page)
    assert seat.kill_browsers() > 1

    second = seat.open(seat.start())
    second.enter(code_for(site.driver, "olga", "operator"))
    page = second.page
    expect(page.locator(f"#j-{job}")).to_contain_text("running")
    second.go("/jobs")
    row = page.locator(f"#j-{job}")
    expect(row).to_contain_text("ada")
    row.locator("a").click()
    expect(page.locator("p.now").first).to_contain_text(f"of {len(phases)}")
    assert [name for name, _ in phases_of(page)] == [name for name, _ in phases]
    expect(page.locator("p.verdict")).to_contain_text("succeeded", timeout=JOB_MS)
    took = time.monotonic() - began
    assert_ready(site, "node2")

    ended = job_in_terminal(site.driver, job)
    assert ended["state"] == "succeeded"
    assert [host["result"] for host in ended["hosts"]] == ["Ready"]
    names = [entry["name"] for entry in ended["phases"] if entry["event"] == "done"]
    states = dict(phases_of(page))
    assert [name for name, state in states.items() if state == "done"] == names
    assert {name for name, state in phases if state == "done"} <= set(names)
    assert_all_was_shown(page, site.driver, ended)
    text = "\n".join(lines_of(page))
    assert "\n".join(said) in text
    assert_kept_nowhere(site.driver, PASSWORD)
    second.go("/nodes")
    expect(page.locator("#n-node2 .mark")).to_have_text("Ready")
    record(
        "a worker added in the browser, killed in the middle",
        f"{took:.0f} s, Ready; the same job for another",
    )


def test_a_worker_is_added_while_door_console_and_job_are_killed(flows: Flows, record: Record) -> None:
    site, seat, driver = flows.site, flows.seat, flows.site.driver
    sight = seat.open(seat.start())
    page = sight.page
    sight.enter(code_for(driver, "ada", "admin"))
    secrets = {"key": flows.identity}
    job = begin_to_add(sight, site.nodes["node3"], key=flows.keys["node3"], user="root", secrets=secrets)
    unit = job_in_terminal(driver, job)["unit"]
    wait_for_phases(page, 1)

    shell(driver, "systemctl kill --signal=KILL --kill-who=all 'caisson-door@*.service'")
    said = len(lines_of(page))
    wait_for_lines(page, said + 1)
    assert page.evaluate("document.querySelector('#over').hidden")

    shell(driver, "systemctl kill --signal=KILL --kill-who=all caisson-console.service")
    expect(page.locator("#over")).to_be_visible()
    page.click("#over a")
    page.wait_for_url("**/login?*")
    sight.type_code(code_for(driver, "ada", "admin"))
    page.wait_for_url(f"**/jobs/{job}")
    expect(page.locator("p.verdict")).to_contain_text("running")

    shell(driver, f"systemctl kill --signal=KILL --kill-who=all {unit}")
    killed_at = time.monotonic()
    expect(page.locator("p.verdict")).to_contain_text("interrupted")
    seen_s = time.monotonic() - killed_at
    assert seen_s <= INTERRUPTED_S
    cut = dict(phases_of(page))
    assert "running" not in cut.values()
    assert "interrupted" in cut.values()
    assert_all_was_shown(page, driver, told_of_cut(driver, job))

    page.click("summary:has-text('Passwords and keys')")
    page.fill("[name=secret_key]", flows.identity)
    page.click("text=Start again")
    page.wait_for_url("**/jobs/*node-add*")
    expect(page.locator("p.verdict")).to_contain_text("running")
    expect(page.locator("p.verdict")).to_contain_text("succeeded", timeout=JOB_MS)
    assert_ready(site, "node1", "node3")
    assert_kept_nowhere(driver, flows.identity.splitlines()[2])
    assert_all_was_shown(page, driver, job_in_terminal(driver, job_of(page)))
    sight.forgive(*LOST)
    record(
        "job killed while it adds a worker", f"'interrupted' on the page after {seen_s:.1f} s; again: Ready"
    )


def told_of_cut(driver: Node, job: str) -> dict[str, Any]:
    """Return what a terminal says of a job that was cut off, whatever the command exits with."""
    jobs = told(driver, "caisson", "jobs", "--json")["jobs"]
    found: dict[str, Any] = next(one for one in jobs if one["id"] == job)
    return found


def test_the_pages_stay_true_and_quick_while_the_api_is_down(flows: Flows, record: Record) -> None:
    driver, seat = flows.site.driver, flows.seat
    sight = seat.open(seat.start())
    sight.enter(code_for(driver, "ada", "admin"))
    expect(sight.page.locator("h1.verdict")).to_contain_text(ALL_WELL)
    tabs = {"/": sight.page}
    for path in ("/nodes", "/pods"):
        tabs[path] = sight.context.new_page()
        sight.watch(tabs[path])
        tabs[path].goto(seat.base + path)
        assert wrong_oks(tabs[path])
    slowest, last_ok = {}, dict.fromkeys(tabs, 0.0)
    try:
        shell(driver, f"mv {MANIFEST} {AWAY}")
        until(lambda: "no" in shell(driver, "ss -Hltn sport = :6443 | grep -q . && echo yes || echo no"), 120)
        down_at = time.monotonic()
        while time.monotonic() < down_at + 3 * WRONG_OK_S:
            for path, tab in tabs.items():
                if wrong_oks(tab):
                    last_ok[path] = time.monotonic() - down_at
            sight.page.wait_for_timeout(200)
        for path in (*API_PAGES, *HOST_PAGES):
            sight.go(path)
            expect(sight.page.locator("#banners")).to_contain_text(
                "The Kubernetes API has not answered since"
            )
            slowest[path] = answer_s(sight.page)
            assert wrong_oks(sight.page) == [], path
        print({"answers": slowest, "last wrong OK": last_ok})
        sight.go("/")
        expect(sight.page.locator("h1.verdict.bad")).to_be_visible()
        local = seat.open(seat.start())
        local.enter(code_for(driver, "ada", "admin"))
        expect(local.page.locator(".who")).to_contain_text("local, only to look")
        expect(local.page.locator("h1.verdict.bad")).to_contain_text(
            "The Kubernetes API has not answered since"
        )
    finally:
        shell(driver, f"mv {AWAY} {MANIFEST}")
    for path, tab in tabs.items():
        expect(tab.locator("#banners"), path).not_to_contain_text("has not answered", timeout=BACK_MS)
    expect(tabs["/nodes"].locator("#n-node1 .mark")).to_have_text("Ready", timeout=BACK_MS)
    expect(tabs["/"].locator("h1.verdict")).to_contain_text(ALL_WELL, timeout=BACK_MS)
    assert max(slowest.values()) <= PAGE_S
    assert max(last_ok.values()) <= WRONG_OK_S
    record(
        "API stopped",
        f"slowest page {max(slowest.values()):.2f} s, last wrong OK after {max(last_ok.values()):.1f} s",
    )
