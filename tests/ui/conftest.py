# SPDX-License-Identifier: Apache-2.0
"""Give tests a real Chromium beside a console that runs on loopback; see ``tests/browsing.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright

from tests import browsing
from tests.unit.console import world as worlds
from tests.unit.console.conftest import be_patient
from tests.unit.console.running import Identity, Running, make_identity, running
from tests.unit.console.world import World


@dataclass(kw_only=True)
class Eyes(browsing.Sight):
    """A browser on a console of these tests, and what was seen of it."""

    console: Running

    def log_in(self) -> None:
        """Log in by the code of the world."""
        self.enter(worlds.CODE)


Look = Callable[..., Eyes]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the console wait longer for its sources: other tests may run beside."""
    be_patient(monkeypatch)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return the certificates of all consoles of this run: the browser is told one key when it starts."""
    return make_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def browser(playwright: Playwright, identity: Identity) -> Iterator[Browser]:
    """Return the one browser of this run; each test has a profile of its own in it."""
    key = browsing.spki_of(identity[1][0].read_bytes())
    started = browsing.launch(playwright, browsing.find_chromium(), keys=[key])
    yield started
    started.close()


@pytest.fixture
def look(tmp_path: Path, browser: Browser, identity: Identity) -> Iterator[Look]:
    """Return what opens a browser on a console in a world; at the end it is asked whether anything went wrong."""
    opened: list[Eyes] = []
    with ExitStack() as stack:

        def open_it(world: World, *, stands_still: bool = False, **options: Any) -> Eyes:
            world.moves = not stands_still
            console = stack.enter_context(running(world, tmp_path / "console", identity))
            context = browser.new_context(**options)
            stack.callback(context.close)
            base = f"https://127.0.0.1:{console.port}"
            eyes = Eyes(base=base, console=console, context=context, page=context.new_page())
            eyes.watch(eyes.page)
            opened.append(eyes)
            return eyes

        yield open_it
    for eyes in opened:
        assert eyes.faults == []
        assert eyes.elsewhere() == []
