# SPDX-License-Identifier: Apache-2.0
"""What a program has started is ended with it, whole; a real transaction of rpm is let finish first."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.base import processes, session
from installer.base.errors import CommandError
from installer.base.run import run
from installer.base.session import Session, only_looking
from installer.engine import leftovers
from installer.operations.asking import Question

pytestmark = pytest.mark.subprocess

SPEC = """\
Name: slow
Version: 1
Release: 1
Summary: slow
License: none
BuildArch: noarch
%description
slow
%pre -p <lua>
posix.sleep({seconds})
%files
"""


def start(script: str, running_dir: Path) -> Session:
    running_dir.mkdir(exist_ok=True)
    with Path(os.devnull).open("r+b") as nothing:
        number = nothing.fileno()
        return Session(
            ["bash", "-c", script], stdin=number, stdout=number, stderr=number, running_dir=running_dir
        )


def wait_for(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def build_rpm(directory: Path, *, seconds: int) -> Path:
    """Build a package whose installation takes so long."""
    spec = directory / "slow.spec"
    spec.write_text(SPEC.format(seconds=seconds))
    command = ["rpmbuild", "-bb", "--define", f"_topdir {directory}/top", str(spec)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return next(directory.glob("top/RPMS/noarch/*.rpm"))


def rpm(directory: Path, *words: str) -> str:
    return f"rpm --dbpath {directory}/db {' '.join(words)}"


def is_installed(directory: Path) -> bool:
    words = rpm(directory, "-q", "slow").split()
    return subprocess.run(words, check=False, capture_output=True, timeout=30).returncode == 0


def test_a_child_that_outlives_its_leader_is_waited_for(tmp_path: Path) -> None:
    """salt-call dies of SIGTERM at once; what it had started needs a moment, and is not forgotten meanwhile."""
    child = f"trap 'sleep 1; touch {tmp_path}/tidied; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    started = start(f'bash -c "{child}" & wait', tmp_path / "run")
    wait_for((tmp_path / "ready").exists)
    assert started.end() == []
    assert (tmp_path / "tidied").exists()
    assert processes.in_sessions({started.number}) == []
    started.forget()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_child_in_a_process_group_of_its_own_is_ended_too(tmp_path: Path) -> None:
    started = start(f"set -m; sleep 60 & echo $! >{tmp_path}/pid; wait", tmp_path / "run")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    assert started.end() == []
    found = processes.find(int((tmp_path / "pid").read_text()))
    assert found is None or found.state == "Z"


def test_a_child_that_leads_a_session_of_its_own_is_ended_too(tmp_path: Path) -> None:
    """As the installer's own driver of dnf does inside of salt-call; what it leads lives on without its parent."""
    child = f"trap 'sleep 1; touch {tmp_path}/tidied; exit' TERM; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    started = start(f'setsid --fork true; setsid --wait bash -c "{child}"', tmp_path / "run")
    wait_for((tmp_path / "ready").exists)
    assert started.end() == []
    assert (tmp_path / "tidied").exists()


def test_what_does_not_heed_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TERMINATION_GRACE_S", 0.5)
    started = start(f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.1; done", tmp_path / "run")
    wait_for((tmp_path / "ready").exists)
    assert started.end() == []
    assert started.returncode == -signal.SIGKILL


def test_a_transaction_of_rpm_is_let_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor what reads its output gets a signal before it is done, though the leader would not wait."""
    monkeypatch.setattr(session, "TERMINATION_GRACE_S", 0.1)
    package = build_rpm(tmp_path, seconds=2)
    started = start(rpm(tmp_path, "-U", "--nodeps", str(package)) + " 2>&1 | cat; sleep 60", tmp_path / "run")
    wait_for(lambda: processes.write_packages(processes.in_sessions({started.number})))
    assert started.end() == []
    assert is_installed(tmp_path)
    assert started.returncode is not None


def test_a_transaction_without_end_is_left_and_stays_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TRANSACTION_GRACE_S", 0.3)
    kept: list[Session] = []

    class Kept(Session):
        """A session that the test waits for: nobody else reaps it here."""

        def __init__(self, words: Sequence[str], **streams: Any) -> None:
            super().__init__(words, **streams)
            kept.append(self)

    monkeypatch.setattr("installer.base.run.Session", Kept)
    package = build_rpm(tmp_path, seconds=5)
    running_dir = tmp_path / "run"
    running_dir.mkdir()
    with pytest.raises(CommandError, match=r"did not finish within 1\.5 s") as caught:
        run(
            rpm(tmp_path, "-U", "--nodeps", str(package)).split(),
            timeout_s=1.5,
            running_dir=running_dir,
            log_file=tmp_path / "none" / "log",
        )
    assert "left to finish what rpm has begun: rpm (process" in caught.value.details
    assert [process.name for process in leftovers.find(running_dir)] == ["rpm"]
    leftovers.wait(running_dir, progress=lambda _: None)
    assert kept[0].wait(10)
    assert is_installed(tmp_path)


def test_who_only_reads_packages_writes_none(tmp_path: Path) -> None:
    package = build_rpm(tmp_path, seconds=0)
    subprocess.run(
        rpm(tmp_path, "-U", "--nodeps", str(package)).split(), check=True, capture_output=True, timeout=30
    )
    with (tmp_path / "db/.rpm.lock").open("r+b"):
        assert (
            processes.write_packages([process for process in [processes.find(os.getpid())] if process]) == []
        )


def test_a_stopped_run_waits_for_all_of_its_command(tmp_path: Path) -> None:
    """As Ctrl-C does, in the middle of a command whose child goes on for a moment."""
    child = f"trap 'sleep 1; touch {tmp_path}/tidied; exit' TERM; kill -INT {os.getpid()}; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        run(["bash", "-c", f'bash -c "{child}" & wait'], timeout_s=30, running_dir=tmp_path)
    assert (tmp_path / "tidied").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["tidied"]


def test_who_only_looks_notes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """In threads too, as ``caisson status`` asks; one that begins when the look is over is ended as well."""
    (tmp_path / "run").mkdir()
    began: list[Question[object]] = []
    late = threading.Event()

    def hang() -> object:
        return run(
            ["bash", "-c", f"touch {tmp_path}/ready; sleep 60"], timeout_s=50, running_dir=tmp_path / "run"
        )

    def begin_late() -> object:
        late.wait(20)
        return run(["sleep", "61"], timeout_s=50, running_dir=tmp_path / "run", check=False)

    with only_looking():
        began += [Question("hangs", hang), Question("begins late", begin_late, limit_s=20)]
        wait_for((tmp_path / "ready").exists)
        assert list((tmp_path / "run").iterdir()) == []
        ended_from = time.monotonic()
    assert time.monotonic() - ended_from < 3
    late.set()
    began[1].answer(None, [])
    words = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()]
    assert not [entry for entry in words if str(tmp_path).encode() in entry or entry == b"sleep\0" + b"61\0"]
    assert list((tmp_path / "run").iterdir()) == []
