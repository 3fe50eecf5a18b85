# SPDX-License-Identifier: Apache-2.0
"""What the console may cost: memory, bytes, time, questions; each is a number of the specification."""

from __future__ import annotations

import threading

import pytest

from console import render
from tests.unit.console import world as worlds
from tests.unit.console.conftest import Start
from tests.unit.console.running import Browser, Running, cost_s, program
from tests.unit.console.test_security import PAGES
from tests.unit.console.world import ADMIN, JOB

pytestmark = pytest.mark.loopback

MEBIBYTE = 1024 * 1024
PAGE_BYTES, SCRIPT_BYTES, STYLE_BYTES, ISO_BYTES = 60_000, 8_000, 16_384, 300_000
OVERVIEW_S, MANY_S = 0.3, 1.0
VIEWERS = 20


@pytest.mark.subprocess
def test_the_program_is_small_at_rest_and_with_twenty_who_look(console: Running) -> None:
    """Twenty sessions, each with pages, and with a stream that is open all the while."""
    with program(console) as it:
        assert it.memory_bytes() <= 64 * MEBIBYTE
        browsers = [it.console.browser() for _ in range(VIEWERS)]
        for browser in browsers:
            assert browser.login(ADMIN).status == 303
        streams = [threading.Thread(target=one.get, args=(f"/jobs/{JOB}/stream",)) for one in browsers]
        for stream in streams:
            stream.start()
        for browser in browsers:
            for path in ("/", "/nodes", "/pods", f"/jobs/{JOB}"):
                assert browser.live(path).status == 200
        assert it.memory_bytes("VmHWM") <= 128 * MEBIBYTE
        console.world.jobs[JOB].about["state"] = "succeeded"
        for stream in streams:
            stream.join(120)
            assert not stream.is_alive()


@pytest.mark.parametrize("make", [worlds.full, worlds.failed])
def test_every_page_is_small(start: Start, make: worlds.Make) -> None:
    browser = start(make()).browser()
    browser.login(ADMIN)
    sizes = {path: len(browser.get(path).body) for path in PAGES}
    assert {path: size for path, size in sizes.items() if size > PAGE_BYTES} == {}


def test_script_style_and_the_whole_are_small() -> None:
    assert (render.STATIC_DIR / "console.js").stat().st_size <= SCRIPT_BYTES
    assert (render.STATIC_DIR / "console.css").stat().st_size <= STYLE_BYTES
    files = [file for file in render.HERE.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert sum(file.stat().st_size for file in files) <= ISO_BYTES


def test_the_overview_costs_little(admin: Browser) -> None:
    admin.get("/")
    assert cost_s(admin, "/") <= OVERVIEW_S


def test_many_nodes_pods_and_events_cost_little(start: Start) -> None:
    """500 nodes, 10,000 pods and 20,000 events; the API server of the test is in the time, too."""
    world = worlds.full()
    world.nodes = [worlds.node(f"node{n}", f"10.78.{n // 250}.{n % 250}") for n in range(500)]
    world.leases = {f"node{n}": worlds.NIGHT - 5 for n in range(500)}
    world.pods = [worlds.pod(f"ns-{n % 50}", f"app-{n}", f"node{n % 500}") for n in range(10_000)]
    world.events = [
        worlds.event("Warning", "BackOff", f"pod/app-{n % 10_000}", "back-off", count=n)
        for n in range(20_000)
    ]
    browser = start(world).browser()
    browser.login(ADMIN)
    for path in ("/", "/nodes", "/pods", "/pods?page=7", "/events"):
        assert browser.get(path).status == 200
        assert cost_s(browser, path) <= MANY_S, path
