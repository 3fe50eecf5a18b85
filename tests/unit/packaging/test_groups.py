# SPDX-License-Identifier: Apache-2.0
"""Two processes share the tests: nodes are one's, in their order; all else, and clusters, the other's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOTE = """
import os
import pathlib


def test_one():
    note("one")


def test_two():
    note("two")


def note(test):
    line = f"{os.environ['PYTEST_XDIST_WORKER']} {pathlib.Path(__file__).name} {test}"
    with open(os.environ["NOTES"], "a") as notes:
        print(line, file=notes)
"""
NODES = ("test_bootstrap.py", "test_killed.py")
REST = ("test_remove.py", "test_plan.py", "test_iso.py")


@pytest.mark.subprocess
def test_no_fixture_of_nodes_is_made_twice(repository_dir: Path, tmp_path: Path) -> None:
    """Real pytest with real xdist: what xdist calls a group is none with every pytest."""
    (tmp_path / "tests").mkdir()
    shutil.copy(repository_dir / "tests/conftest.py", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    for name in (*NODES, *REST):
        directory = tmp_path / "tests" / ("node" if name in (*NODES, "test_remove.py") else "unit")
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(NOTE)
    notes = tmp_path / "notes"
    command = [sys.executable, "-m", "pytest", "-n2", "-q", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "NOTES": str(notes)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    told = [line.split() for line in notes.read_text().splitlines()]
    at_work = {file: {worker for worker, name, _ in told if name == file} for file in (*NODES, *REST)}
    (of_nodes,) = {frozenset(at_work[file]) for file in NODES}
    (of_rest,) = {frozenset(at_work[file]) for file in REST}
    assert (len(of_nodes), len(of_rest)) == (1, 1)
    assert of_nodes != of_rest
    assert [(name, test) for _, name, test in told if name in NODES] == [
        (name, test) for name in NODES for test in ("one", "two")
    ]
