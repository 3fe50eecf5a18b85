# SPDX-License-Identifier: Apache-2.0
"""The lab's ISO, built a second time from the same lock in another place: the same bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from build.iso import checksum_file
from build.project import Project

SOURCES = ("versions.yaml", "images.yaml", "packages.yaml", "installer", "salt")
LOCKED = ("upstream.yaml", "caisson.lock", "keys")


@pytest.fixture
def checkout(repository_dir: Path, tmp_path: Path) -> Path:
    """Return a copy of what a build reads, with the dates and the modes of a new user."""
    before = os.umask(0o077)
    try:
        root = tmp_path / "another checkout"
        for place, names in ((Path(), SOURCES), (Path("_out/lab"), LOCKED)):
            (root / place).mkdir(parents=True, exist_ok=True)
            for name in names:
                source, target = repository_dir / place / name, root / place / name
                if source.is_dir():
                    shutil.copytree(source, target, copy_function=shutil.copyfile)
                else:
                    shutil.copyfile(source, target)
        return root
    finally:
        os.umask(before)


def test_another_directory_gives_the_same_bytes(checkout: Path, iso_file: Path) -> None:
    """Every step of the pipeline, with the store as the only thing that both builds share."""
    project = Project(checkout, "lab")
    for plan in (
        project.plan_rpms,
        project.plan_images,
        project.plan_salt,
        project.plan_installer,
        project.plan_iso,
    ):
        for step in plan():
            step.run()
    assert checksum_file(project.iso_file).read_text() == checksum_file(iso_file).read_text()
