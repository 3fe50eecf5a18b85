# SPDX-License-Identifier: Apache-2.0
"""One process at a time in a directory of products."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from build.base.errors import WorkspaceError
from build.base.exclusive import take_output


def ended_pid() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_who_holds_it_is_named_and_what_to_do(tmp_path: Path) -> None:
    """Another open file stands for another process: the kernel makes no difference."""
    with (tmp_path / ".lock").open("w+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("4711: doit iso\n")
        other.flush()
        with pytest.raises(WorkspaceError, match="another build is at work") as caught:
            take_output(tmp_path)
    assert caught.value.details == "held by process 4711: doit iso"
    assert "wait until it has ended" in caught.value.resolution
    take_output(tmp_path)
    take_output(tmp_path)
    assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()}: ")


@pytest.mark.subprocess
def test_what_killed_builds_left_is_swept(tmp_path: Path) -> None:
    """By a process that ends at once."""
    pid = ended_pid()
    (tmp_path / "lab" / "work").mkdir(parents=True)
    (tmp_path / f".bench.{pid}.tmp" / "deep").mkdir(parents=True)
    left = [tmp_path / f".c.iso.{pid}.tmp", tmp_path / "lab" / "work" / f".iso.paths.{pid}.tmp"]
    kept = [tmp_path / f".c.iso.{os.getpid()}.tmp", tmp_path / "caisson.iso", tmp_path / ".doit-lab.json"]
    for file in (*left, *kept):
        file.write_text("x")
    take_output(tmp_path)
    assert not any(file.exists() for file in left)
    assert not (tmp_path / f".bench.{pid}.tmp").exists()
    assert all(file.exists() for file in kept)


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    file = tmp_path / "_out"
    file.touch()
    with pytest.raises(WorkspaceError, match="_out is no directory") as caught:
        take_output(file)
    assert caught.value.details
    assert caught.value.resolution
