# SPDX-License-Identifier: Apache-2.0
"""Give every test the repository's directory and golden files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

REPOSITORY_DIR = Path(__file__).resolve().parent.parent

NODES_DIR = "tests/node"
CLUSTERS = frozenset(
    {
        "test_control_planes.py",
        "test_keepalived.py",
        "test_media.py",
        "test_node_add.py",
        "test_registry.py",
        "test_remove.py",
        "test_reset.py",
    }
)
#: Of a failure, at the moment when it is known; all of it is at the end.
LINES_AT_ONCE = 40

GoldenCheck = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag that writes golden files instead of comparing with them."""
    parser.addoption(
        "--update-goldens", action="store_true", help="write what the tests produce into their golden files"
    )


def pytest_configure() -> None:
    """Heed SIGINT, whoever started this: a shell's background jobs, and what CI starts as such, ignore it.

    That passes on to every program that a test starts, and some tests send it to one.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say why a test failed when it fails, not an hour later; a run that is ended before its end has told, too."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        lines = report.longreprtext.splitlines()[-LINES_AT_ONCE:]
        print(f"\n{report.nodeid} ({report.when}) failed:", *lines, sep="\n", file=sys.stderr, flush=True)


class TwoGroups(LoadScopeScheduling):  # type: ignore[misc]
    """Run two groups side by side, each in its order and with its fixtures: nodes, and all else.

    To all else come clusters, which boot a kept disk: so both take about as long. xdist's own groups
    (``--dist=loadgroup``) are none with pytest 9.2: it does not ask for the ID that they write into an item.
    """

    def _split_scope(self, nodeid: str) -> str:
        """Return the group of a test, by its file."""
        directory, _, name = nodeid.partition("::")[0].rpartition("/")
        return "nodes" if directory == NODES_DIR and name not in CLUSTERS else "rest"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoGroups:
    """Let xdist (``-n2``) run the two groups."""
    return TwoGroups(config, log)


@pytest.fixture(scope="session")
def repository_dir() -> Path:
    """Return the root of the checkout."""
    return REPOSITORY_DIR


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Return what drives browsers: of it there can be one in a process."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests drive none

    with sync_playwright() as driver:
        yield driver


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenCheck:
    """Return ``check(name, text)``, which compares text with ``golden/<name>`` beside the test's file.

    With ``--update-goldens`` the file is written and the test goes on; read the difference before you commit.
    """
    golden_dir = request.path.parent / "golden"
    update: bool = request.config.getoption("--update-goldens")

    def check(name: str, text: str) -> None:
        file = golden_dir / name
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"{file} does not exist: run pytest with --update-goldens, then read it"
        assert text == file.read_text(encoding="utf-8")

    return check
