# SPDX-License-Identifier: Apache-2.0
"""Give tests a console that runs, in a world that they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from console import api, joblog, known, sources
from tests.unit.console import world as worlds
from tests.unit.console.running import Browser, Identity, Running, make_identity, running
from tests.unit.console.world import World


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
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer: other tests may run beside. A test of waiting sets its own limit, and holds the answer back."""
    be_patient(monkeypatch)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Return the certificates of all consoles of this run."""
    return make_identity(tmp_path_factory.mktemp("identity"))


Start = Callable[[World], Running]


@pytest.fixture
def start(tmp_path: Path, identity: Identity) -> Iterator[Start]:
    """Return what starts a console in a world; a second one is another console of the same world."""
    with ExitStack() as stack:
        numbers = count(1)
        yield lambda world: stack.enter_context(
            running(world, tmp_path / f"console{next(numbers)}", identity)
        )


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
