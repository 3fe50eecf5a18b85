# SPDX-License-Identifier: Apache-2.0
"""The lab's ISO, as it was built, and its files, taken out of it once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from build.project import Project

ROOT_DIR = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def iso_file() -> Path:
    """Return the lab's bundle; the task ``test`` builds it first."""
    file = Project(ROOT_DIR, "lab").iso_file
    assert file.is_file(), f"there is no {file}: run ./doit.sh iso upstream=lab"
    return file


@pytest.fixture(scope="session")
def tree_dir(iso_file: Path) -> Iterator[Path]:
    """Return a directory with the files of the ISO, as xorriso reads them back; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="caisson-iso-") as directory:
        tree = Path(directory) / "tree"
        subprocess.run(
            [
                "xorriso",
                "-report_about",
                "FAILURE",
                "-osirrox",
                "on",
                "-indev",
                iso_file,
                "-extract",
                "/",
                tree,
            ],
            check=True,
            timeout=600,
        )
        yield tree
        for found in [tree, *tree.rglob("*")]:
            if found.is_dir():
                found.chmod(0o700)
