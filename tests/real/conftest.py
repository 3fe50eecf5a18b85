# SPDX-License-Identifier: Apache-2.0
"""Tests over data that nobody here wrote: packages, keys, metadata, manifests of real upstreams.

``CAISSON_REAL_DATA`` names their folder, from the repository's root or absolute; nothing of it is committed. Without
it the tests are deselected, never passed over as if they had run, and the summary says how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

VARIABLE = "CAISSON_REAL_DATA"
ALWAYS_RUN = "test_real_data.py"
HERE = Path(__file__).resolve().parent
NOT_RUN = pytest.StashKey[int]()


def folder_named(value: str, root: Path) -> Path | None:
    """Return the folder that the variable names; None when it is empty.

    Raises: pytest.UsageError when there is no such folder: a typing error must not pass for "not set".
    """
    if not value:
        return None
    folder = (root / value).resolve()
    if not folder.is_dir():
        raise pytest.UsageError(f"{VARIABLE} names '{value}', and there is no folder {folder}")
    return folder


def not_run_text(count: int) -> str:
    """Say how many tests were left out, and why."""
    return f"{VARIABLE} is not set: {count} tests over real data were not run"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the folder, when there is none."""
    if folder_named(os.environ.get(VARIABLE, ""), config.rootpath) is not None:
        return
    needy = [item for item in items if item.path.is_relative_to(HERE) and item.path.name != ALWAYS_RUN]
    config.stash[NOT_RUN] = len(needy)
    if needy:
        items[:] = [item for item in items if item not in needy]
        config.hook.pytest_deselected(items=needy)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say at the end what was not run."""
    if count := config.stash.get(NOT_RUN, 0):
        terminalreporter.write_sep("-", not_run_text(count), yellow=True)


@pytest.fixture(scope="session")
def real_dir(repository_dir: Path) -> Path:
    """Return the folder of real data; only tests that need it ask."""
    folder = folder_named(os.environ.get(VARIABLE, ""), repository_dir)
    assert folder is not None, f"{VARIABLE} is not set"
    return folder


@pytest.fixture(scope="session")
def real_files(real_dir: Path) -> Callable[[str], list[Path]]:
    """Return ``files(pattern)``: the files below the folder that a pattern fits, which are never none."""

    def files(pattern: str) -> list[Path]:
        found = sorted(real_dir.glob(pattern))
        assert found, f"nothing in {real_dir} fits {pattern}"
        return found

    return files
