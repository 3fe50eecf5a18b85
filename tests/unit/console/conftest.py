# SPDX-License-Identifier: Apache-2.0
"""Give tests a console that runs, in a world that they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.console import world as worlds
from tests.unit.console.running import Browser, Running, running
from tests.unit.console.world import World

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
