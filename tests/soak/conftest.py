# SPDX-License-Identifier: Apache-2.0
"""What takes too long for every commit; at the end one table says what was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab.node import Lab, Node
from lab.places import GATEWAY
from lab.switch import Counts
from tests.node import growing
from tests.node.installing import Ended, install, lab_iso

Record = Callable[[str, str], None]

_BEGAN = pytest.StashKey[float]()
_ROWS = pytest.StashKey[list[tuple[str, str]]]()


@dataclass(frozen=True)
class Observed:
    """A node with a cluster, in a lab of its own whose switch counts since before the node's boot."""

    lab: Lab
    node: Node
    proof: Counts
    ended: Ended
    ready_at: float


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Return ``record(what, result)``: a row of the table at the end."""
    rows = request.config.stash.setdefault(_ROWS, [])
    return lambda what, result: rows.append((what, result))


def pytest_configure(config: pytest.Config) -> None:
    """Note when the run began."""
    config.stash[_BEGAN] = time.monotonic()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, as Markdown."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("what was measured")
    minutes = (time.monotonic() - config.stash[_BEGAN]) / 60
    terminalreporter.write_line(f"{time.strftime('%Y-%m-%d')}, {_machine()}; {minutes:.0f} minutes.\n")
    terminalreporter.write_line("| What | Result |\n|---|---|")
    for what, result in rows:
        terminalreporter.write_line(f"| {what} | {result} |")


def _machine() -> str:
    """Return what kind of machine this is, as the page names it."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores, {gib:.0f} GiB, Linux {os.uname().release.split('-')[0]}"


@pytest.fixture(scope="session")
def observed_with_nameserver() -> Iterator[Observed]:
    """Install calmly on a node whose resolv.conf names the switch."""
    with Lab() as lab:
        yield _install(lab, GATEWAY)


@pytest.fixture(scope="session")
def observed_without_nameserver() -> Iterator[Observed]:
    """Install calmly on a node whose resolv.conf is empty."""
    with Lab() as lab:
        yield _install(lab, None)


@pytest.fixture(scope="session")
def site() -> Iterator[growing.Site]:
    """Yield a cluster of five nodes."""
    yield from growing.grown(growing.FIVE)


def _install(lab: Lab, nameserver: str | None) -> Observed:
    witness = lab.start_node("node9")
    proof = lab.switch.probe(witness)
    witness.remove()
    lab.switch.reset()
    node = lab.start_node("node1", iso=lab_iso(), nameserver=nameserver)
    ended = install(node)
    return Observed(lab, node, proof, ended, time.monotonic())
