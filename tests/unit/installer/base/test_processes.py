# SPDX-License-Identifier: Apache-2.0
"""What /proc says of processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.base import processes


def test_this_process_is_found_in_its_own_session() -> None:
    own = processes.find(os.getpid())
    assert own is not None
    assert own.session == os.getsid(0)
    assert own in processes.in_sessions({own.session})


@pytest.mark.parametrize("text", ["", "1", "1 (x", "1 (x) S 1 1 1"])
def test_what_is_no_line_of_stat(tmp_path: Path, text: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/stat").write_text(text)
    with pytest.raises(ValueError, match="no line of"):
        processes.parse_stat(text)
    assert processes.find(1, proc_dir=tmp_path) is None


def test_who_waits_for_a_lock_does_not_hold_it(tmp_path: Path) -> None:
    lock = tmp_path / ".rpm.lock"
    lock.touch()
    (tmp_path / "7/fd").mkdir(parents=True)
    (tmp_path / "7/fd/3").symlink_to(lock)
    process = processes.Process(7, "rpm", "S", 1, 7, 1)
    inode = lock.stat().st_ino
    for text, expected in (
        (f"1: POSIX  ADVISORY  WRITE 7 fe:00:{inode} 0 EOF", [process]),
        (f"1: POSIX  ADVISORY  READ 7 fe:00:{inode} 0 EOF", []),
        (f"1: -> POSIX  ADVISORY  WRITE 7 fe:00:{inode} 0 EOF", []),
        (f"1: POSIX  ADVISORY  WRITE 8 fe:00:{inode} 0 EOF", []),
        ("1: FLOCK", []),
    ):
        (tmp_path / "locks").write_text(text + "\n")
        assert processes.write_packages([process], proc_dir=tmp_path) == expected, text
    (tmp_path / "locks").unlink()
    assert processes.write_packages([process], proc_dir=tmp_path) == []
