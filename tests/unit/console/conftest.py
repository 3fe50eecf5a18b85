# SPDX-License-Identifier: Apache-2.0
"""Give tests a console that runs, in a world that they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from console import api, joblog, known, sources
from tests.unit.console import world as worlds
from tests.unit.console.running import Browser, Running, running
from tests.unit.console.world import World

IMPATIENT = {
    "test_a_slow_source_holds_no_page_up",
    "test_an_api_that_hangs_holds_no_page_up_twice",
    "test_one_missed_answer_is_no_outage",
    "test_a_slow_answer_is_there_for_the_next_page",
}
"""What tests how long the console waits; everywhere else it waits longer, for other tests may run beside."""


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the console wait ten times as long for its sources."""
    for module, names in (
        (api, ("LIMIT_S", "HEALTH_LIMIT_S")),
        (known, ("WAIT_S",)),
        (sources, ("HALF_S",)),
        (joblog, ("WAIT_S",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 10 * getattr(module, name))


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer, but in tests of waiting."""
    if request.node.originalname not in IMPATIENT:
        be_patient(monkeypatch)


Start = Callable[[World], Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return what starts a console in a world."""
    with ExitStack() as stack:
        yield lambda world: stack.enter_context(running(world, tmp_path / "console"))


@pytest.fixture
def console(start: Start) -> Running:
    """Return a console in the full world, whose clock stands still."""
    return start(worlds.full())


@pytest.fixture
def admin(console: Running) -> Browser:
    """Return the browser of somebody who may do everything."""
    browser = console.browser()
    assert browser.login(worlds.ADMIN).status == 303
    return browser
