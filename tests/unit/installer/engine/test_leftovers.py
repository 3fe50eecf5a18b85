# SPDX-License-Identifier: Apache-2.0
"""What a killed installer has left running is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import LockedError
from installer.engine import leftovers


def add_process(proc_dir: Path, process_id: int, *, session: int, state: str = "S", started: int = 7) -> None:
    (proc_dir / str(process_id)).mkdir(parents=True)
    (proc_dir / str(process_id) / "stat").write_text(
        f"{process_id} (dnf) {state} 1 {session} {session} 0 -1 {'0 ' * 13}{started} 0\n"
    )


@pytest.fixture
def running_dir(tmp_path: Path) -> Path:
    """Return the directory of a run that had started 70 and 80."""
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("70", "80", "note.txt"):
        (directory / name).write_text("dnf\n7\n")
    return directory


def test_a_living_member_of_the_session_is_found(running_dir: Path, tmp_path: Path) -> None:
    proc_dir = tmp_path / "proc"
    add_process(proc_dir, 71, session=70)
    add_process(proc_dir, 80, session=80, state="Z")
    add_process(proc_dir, 90, session=90)
    assert [process.shown for process in leftovers.find(running_dir, proc_dir=proc_dir)] == [
        "dnf (process 71)"
    ]
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


@pytest.mark.parametrize("state", ["S", "Z"])
def test_a_number_that_the_kernel_has_given_away_since_is_not_waited_for(
    running_dir: Path, tmp_path: Path, state: str
) -> None:
    """A login shell with the number of a dnf that has long ended would be waited for, and told to be ended."""
    proc_dir = tmp_path / "proc"
    add_process(proc_dir, 70, session=70, started=9999, state=state)
    add_process(proc_dir, 75, session=70, started=10_000)
    assert leftovers.find(running_dir, proc_dir=proc_dir) == []
    assert [file.name for file in running_dir.iterdir()] == ["note.txt"]


def test_a_note_that_vanishes_meanwhile_is_that_of_a_command_that_has_ended(
    running_dir: Path, tmp_path: Path
) -> None:
    """The command ended between the list of the notes and the look into this one."""
    (running_dir / "70").unlink()
    (running_dir / "70").symlink_to(tmp_path / "gone")
    add_process(tmp_path / "proc", 71, session=70)
    assert leftovers.find(running_dir, proc_dir=tmp_path / "proc") == []


def test_a_note_of_an_earlier_version_has_no_start(running_dir: Path, tmp_path: Path) -> None:
    (running_dir / "70").write_text("dnf\n")
    add_process(tmp_path / "proc", 70, session=70)
    assert len(leftovers.find(running_dir, proc_dir=tmp_path / "proc")) == 1
