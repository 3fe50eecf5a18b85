# SPDX-License-Identifier: Apache-2.0
"""The lock: one at a time, and who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
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


def test_the_second_is_told_for_which_job_it_is_held_and_how_to_see_it(tmp_path: Path) -> None:
    file = tmp_path / "caisson.lock"
    with lockfile.hold(file) as lock:
        lock.give(job="20261127-115003-node-add-3fa9c1", operation="node-add")
        with pytest.raises(LockedError) as caught, lockfile.hold(file):
            pass
    assert "20261127-115003-node-add-3fa9c1 (node-add), since 20" in caught.value.message
    assert f"process {os.getpid()}, since 20" in caught.value.details
    assert "caisson job 20261127-115003-node-add-3fa9c1 --follow" in caught.value.resolution
    assert "caisson job 20261127-115003-node-add-3fa9c1 --cancel" in caught.value.resolution


def test_who_has_patience_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "caisson.lock"
    with contextlib.ExitStack() as holder:
        holder.enter_context(lockfile.hold(file))
        threading.Timer(0.3, holder.pop_all().close).start()
        with lockfile.hold(file, patience_s=10) as lock:
            lock.give(job="j", operation="o")
            assert json.loads(file.read_text())["job"] == "j"
    with lockfile.hold(file), pytest.raises(LockedError), lockfile.hold(file, patience_s=0.2):
        pass
