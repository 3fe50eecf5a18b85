# SPDX-License-Identifier: Apache-2.0
"""With the folder of real data its tests run; without it they are left out, and it is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/real"]


def collected(repository_dir: Path, folder: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "CAISSON_REAL_DATA"}
    if folder is not None:
        environment["CAISSON_REAL_DATA"] = folder
    return subprocess.run(
        COLLECT, cwd=repository_dir, env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_folder_the_summary_says_how_many_tests_were_not_run(repository_dir: Path) -> None:
    done = collected(repository_dir, None)
    said = re.search(r"CAISSON_REAL_DATA is not set: (\d+) tests over real data were not run", done.stdout)
    left_out = re.search(r"\((\d+) deselected\)", done.stdout)
    assert said is not None, done.stdout + done.stderr
    assert left_out is not None
    assert int(said[1]) == int(left_out[1]) > 0
    assert "skipped" not in done.stdout


def test_with_a_folder_none_is_left_out(repository_dir: Path, tmp_path: Path) -> None:
    done = collected(repository_dir, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deselected" not in done.stdout
    assert "not run" not in done.stdout


@pytest.mark.parametrize("name", ["no-such-folder", "/no/such/folder"])
def test_a_folder_that_is_not_there_is_a_fault(repository_dir: Path, name: str) -> None:
    done = collected(repository_dir, name)
    assert done.returncode != 0
    assert f"CAISSON_REAL_DATA names '{name}', and there is no folder" in done.stdout + done.stderr
