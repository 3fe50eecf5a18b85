# SPDX-License-Identifier: Apache-2.0
"""What a killed installer has left running is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import LockedError
from installer.engine import leftovers


def add_process(proc_dir: Path, process_id: int, *, session: int, state: str = "S") -> None:
    (proc_dir / str(process_id)).mkdir(parents=True)
    (proc_dir / str(process_id) / "stat").write_text(
        f"{process_id} (dnf) {state} 1 {session} {session} 0 -1\n"
    )


@pytest.fixture
def running_dir(tmp_path: Path) -> Path:
    """Return the directory of a run that had started 70 and 80."""
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("70", "80", "note.txt"):
        (directory / name).write_text("dnf\n")
    return directory


def test_a_living_member_of_the_session_is_found(running_dir: Path, tmp_path: Path) -> None:
    proc_dir = tmp_path / "proc"
    add_process(proc_dir, 71, session=70)
    add_process(proc_dir, 80, session=80, state="Z")
    add_process(proc_dir, 90, session=90)
    assert leftovers.find(running_dir, proc_dir=proc_dir) == {71: "dnf"}
    assert sorted(file.name for file in running_dir.iterdir()) == ["70", "note.txt"]


def test_it_is_waited_for(running_dir: Path, tmp_path: Path) -> None:
    proc_dir = tmp_path / "proc"
    add_process(proc_dir, 70, session=70)
    said: list[str] = []

    def end_it(text: str) -> None:
        said.append(text)
        (proc_dir / "70/stat").unlink()

    leftovers.wait(running_dir, progress=end_it, proc_dir=proc_dir)
    assert said == ["0 s  waiting for a command of the interrupted run: dnf (process 70)"]


def test_not_for_ever(running_dir: Path, tmp_path: Path) -> None:
    add_process(tmp_path / "proc", 70, session=70)
    with pytest.raises(LockedError, match=r"still runs: dnf \(process 70\)"):
        leftovers.wait(running_dir, progress=lambda _: None, proc_dir=tmp_path / "proc", timeout_s=-1)
