# SPDX-License-Identifier: Apache-2.0
"""The lock: one at a time, and who holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.base.errors import HostError, LockedError
from installer.engine import lock as lockfile


def test_the_second_is_told_who_holds_it_and_since_when(tmp_path: Path) -> None:
    file = tmp_path / "run/caisson.lock"
    with lockfile.hold(file), pytest.raises(LockedError) as caught, lockfile.hold(file):
        pass
    assert f"process {os.getpid()}, since 20" in caught.value.message
    with lockfile.hold(file):
        pass
    assert file.read_text() == ""


def test_a_holder_that_has_not_written_yet(tmp_path: Path) -> None:
    file = tmp_path / "caisson.lock"
    with lockfile.hold(file):
        file.write_text("")
        with pytest.raises(LockedError, match="has not written its number"), lockfile.hold(file):
            pass


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "caisson.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(HostError), lockfile.hold(tmp_path / "caisson.lock"):
        pass
    assert not (tmp_path / "victim").exists()
