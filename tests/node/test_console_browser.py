# SPDX-License-Identifier: Apache-2.0
"""The console of the shared node in a real Chromium beside it: its address, its certificate, a code, its pages.

What changes the cluster, or takes it down, is in ``tests/soak/test_console_flows.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Playwright, expect

from tests.browsing import Sight, axe_faults
from tests.node import seeing
from tests.node.conftest import Cluster
from tests.node.seeing import Seat, code_for, seated, seen_fingerprint

pytestmark = pytest.mark.lab

PRINTED = re.compile(
    r"^ *UI ready at (?P<url>https://\S+)\n *its certificate, SHA-256: (?P<sha256>\S+)$", re.MULTILINE
)
PAGES = (
    "/",
    "/nodes",
    "/nodes/node1",
    "/jobs",
    "/media",
    "/pods",
    "/events",
    "/control-plane",
    "/certificates",
)
MORE_PAGES = ("/journal", "/access", "/hosts", "/hosts/add", "/report")


@pytest.fixture(scope="module")
def seat(
    cluster: Cluster, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seat]:
    """Sit down at the console with what the bootstrap has printed."""
    printed = PRINTED.search(cluster.output)
    assert printed is not None, cluster.output[-1000:]
    told = {"url": printed["url"], "fingerprint": printed["sha256"]}
    with seated(cluster.lab, playwright, tmp_path_factory.mktemp("desk"), **told) as found:
        yield found


@pytest.fixture(scope="module")
def browser(seat: Seat) -> Browser:
    """Return a browser in which the printed certificate was let through."""
    return seat.start()


@pytest.fixture
def sight(seat: Seat, browser: Browser) -> Iterator[Sight]:
    """Open a profile; at the end nothing was wrong."""
    found = seat.open(browser)
    yield found
    found.context.close()
    seat.assert_nothing_was_wrong()
    seat.sights.clear()


def test_a_browser_that_was_told_nothing_does_not_trust_it(seat: Seat) -> None:
    stranger = seat.start(trusts=False)
    page = stranger.new_page()
    with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(seat.base)
    page.close()


def test_a_printed_code_lets_in_once(seat: Seat, sight: Sight, cluster: Cluster) -> None:
    code = code_for(cluster.node, "carol", "admin")
    sight.page.goto(seat.base)
    printed = PRINTED.search(cluster.output)
    assert printed is not None
    assert seen_fingerprint(sight) == printed["sha256"]
    expect(sight.page.locator(".finger")).to_have_text(printed["sha256"])
    sight.type_code(code)
    sight.page.wait_for_url(f"{seat.base}/")
    expect(sight.page.locator(".who b").first).to_have_text("carol")
    sight.page.click("text=Log out")
    expect(sight.page.locator("main")).to_contain_text("You have logged out.")
    sight.type_code(code)
    expect(sight.page.locator("#fault")).to_contain_text("A code works once")
    sight.forgive("403")


def test_each_page_shows_this_cluster_and_asks_nobody_else(sight: Sight, cluster: Cluster) -> None:
    sight.enter(code_for(cluster.node, "carol", "admin"))
    page = sight.page
    expect(page.locator(".tile", has_text="Nodes")).to_contain_text("1 of 1")
    jobs = cluster.shell("caisson jobs --json")
    job = re.findall(r'"id": "(\S+-bootstrap-\S+)"', jobs)[-1]
    for path in (*PAGES, *MORE_PAGES, f"/jobs/{job}"):
        sight.go(path)
        expect(page.locator("h1").first).to_be_visible()
    expect(page.locator("p.verdict")).to_contain_text("succeeded")
    assert set(page.locator("table.phases .mark").all_inner_texts()) <= {"done", "skipped"}
    sight.go("/nodes")
    expect(page.locator("#n-node1 .mark")).to_have_text("Ready")
    sight.go("/media")
    expect(page.locator("#media-live")).to_contain_text("Mounted at")


def test_axe_finds_nothing_on_a_real_cluster(seat: Seat, browser: Browser, cluster: Cluster) -> None:
    # axe is put into the page as a script: the policy is passed by for it here, and here alone.
    found = seat.open(browser, bypass_csp=True)
    found.enter(code_for(cluster.node, "carol", "admin"))
    faults = {}
    for path in PAGES:
        found.go(path)
        faults[path] = axe_faults(found.page)
    found.context.close()
    seat.sights.clear()
    assert {path: lines for path, lines in faults.items() if lines} == {}


def test_a_viewer_sees_and_may_not(sight: Sight, cluster: Cluster) -> None:
    sight.enter(code_for(cluster.node, "vera", "viewer"))
    sight.go("/nodes")
    expect(sight.page.locator("#n-node1 .mark")).to_have_text("Ready")
    sight.go("/report")
    button = sight.page.locator("main button", has_text="Make a report")
    expect(button).to_be_disabled()
    expect(sight.page.locator("main .why").first).to_contain_text("reports")


def test_the_address_of_the_browser_is_in_the_log(cluster: Cluster) -> None:
    assert f'"client": "{seeing.ADDRESS}"' in cluster.shell("cat /var/log/caisson/console.jsonl")
