# SPDX-License-Identifier: Apache-2.0
"""The console's Python is Salt's: a bundle whose Salt brings another, or none, is not built."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.evidence import consolepython
from tests.unit.build.factory import Member, World, make_world

ONEDIR = consolepython.ONEDIR
FILES = (
    f"{ONEDIR}/bin/python3",
    f"{ONEDIR}/lib/python3.11/os.py",
    f"{ONEDIR}/lib/python3.11/site-packages/tornado-6.5.10.dist-info/METADATA",
    f"{ONEDIR}/lib/python3.11/site-packages/jinja2-3.1.6.dist-info/METADATA",
    f"{ONEDIR}/lib/python3.11/site-packages/MarkupSafe-3.0.4.dist-info/METADATA",
)


def test_what_upstream_and_the_lab_bring_is_enough() -> None:
    assert consolepython.faults_of(FILES) == []
    newer = [file.replace("python3.11", "python3.13").replace("6.5.10", "6.6.1") for file in FILES]
    assert consolepython.faults_of(newer) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("bin/python3", "bin/python", "the program"),
        ("python3.11", "python3.10", "Python 3.11 or newer"),
        ("tornado-6.5.10", "tornado-6.5.9", "tornado 6.5.10 or newer"),
        ("tornado-", "x-", "the Python package tornado"),
        ("jinja2-", "x-", "the Python package jinja2"),
        ("MarkupSafe-", "x-", "the Python package markupsafe"),
    ],
)
def test_what_is_missing_is_named(old: str, new: str, fault: str) -> None:
    (found,) = consolepython.faults_of(file.replace(old, new) for file in FILES)
    assert fault in found
    assert "wanted by the console" in found


def world_with(tmp_path: Path, *files: str) -> World:
    world = make_world(tmp_path)
    members = [Member(path=file, data=b"x") for file in files]
    package = world.pot.package("salt", "3008.5", "0", members=members, required_by=["salt-minion"])
    minion = world.pot.package("salt-minion", "3008.5", "0")
    import dataclasses  # noqa: PLC0415

    return dataclasses.replace(world, lock=dataclasses.replace(world.lock, packages=(package, minion)))


def test_it_is_read_from_the_packages_own_list_of_files(tmp_path: Path) -> None:
    world = world_with(tmp_path, *FILES)
    assert consolepython.missing_python(world.lock, world.store) == []
    world = world_with(tmp_path / "other", *FILES[:-1])
    assert len(consolepython.missing_python(world.lock, world.store)) == 1


def test_a_bundle_without_salt_on_nodes_is_not_asked(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    assert consolepython.missing_python(world.lock, world.store) == []
