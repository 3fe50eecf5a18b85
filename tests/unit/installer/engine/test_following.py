# SPDX-License-Identifier: Apache-2.0
"""A job is followed from elsewhere to its end, and ended from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installer.base.errors import CommandError, InterruptedJobError, StoppedError
from installer.base.paths import Paths
from installer.engine import following, jobrecord, jobs
from installer.engine.jobs import Job, State
from tests.unit.installer.engine.test_jobs import REQUEST, inactive, never

REPOSITORY_DIR = Path(__file__).parents[4]
#: A job of its own process: it says something, and ends by itself when the file "end" is there, or by SIGTERM.
PROGRAM = """
import signal, sys, time
from pathlib import Path
from installer.engine import jobrecord, jobs
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
job = jobs.read(Path(sys.argv[1]))
with jobrecord.carried_out(job), job.output_file.open("a") as output:
    print("one\\ntw", end="", file=output, flush=True)
    while not (job.directory / "end").exists():
        time.sleep(0.05)
    print("o\\nlast", end="", file=output, flush=True)
"""

Starts = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return jobrecord.prepare(Paths(tmp_path), REQUEST, is_active=never)


@pytest.fixture
def start() -> Iterator[Starts]:
    """Return what starts the job's process and waits until it has said so."""
    started: list[subprocess.Popen[bytes]] = []

    def start_it(job: Job, program: str = PROGRAM) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, str(job.directory)]
        process = subprocess.Popen(command, cwd=REPOSITORY_DIR, stderr=subprocess.DEVNULL)
        started.append(process)
        while not jobs.read(job.directory).starts:
            time.sleep(0.05)
        return process

    yield start_it
    for process in started:
        process.kill()
        process.wait()


def reaped(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process beside the test: its parent is this one, and one that nobody waits for stays."""
    threading.Thread(target=process.wait, daemon=True).start()


@pytest.mark.subprocess
def test_every_line_is_told_until_the_result(job: Job, start: Starts) -> None:
    """Starts Python, as the process of the job."""
    reaped(start(job))
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        (job.directory / "end").touch()

    result = following.follow(job, say, is_active=never)
    assert said == ["one", "two", "last"]
    assert result.exit_code == 0
    assert jobs.read(job.directory).process() is None


@pytest.mark.subprocess
def test_one_that_is_killed_meanwhile_was_interrupted(job: Job, start: Starts) -> None:
    """Starts Python, as the process of the job."""
    process = start(job)
    reaped(process)
    with pytest.raises(InterruptedJobError) as caught:
        following.follow(job, lambda _: process.kill(), is_active=never)
    assert "node-add, begun 20" in caught.value.details
    assert "run the same command again to go on with it: caisson node add 'a b'" in caught.value.resolution
    assert f"caisson job {job.id} --cancel" in caught.value.resolution


@pytest.mark.subprocess
def test_ctrl_c_lets_go_of_it_and_it_goes_on(job: Job, start: Starts) -> None:
    """Starts Python, as the process of the job."""
    start(job)

    def press(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(StoppedError, match="which goes on") as caught:
        following.follow(job, press, is_active=never)
    assert f"caisson job {job.id} --follow" in caught.value.resolution
    assert f"caisson job {job.id} --cancel" in caught.value.resolution
    assert jobs.read(job.directory).state(never) is State.RUNNING


def test_one_that_has_ended_is_told_whole_or_not_again(job: Job) -> None:
    job.output_file.write_bytes(b"one\n\xfftwo")
    jobrecord.finish(job)
    said: list[str] = []
    following.follow(job, said.append, is_active=never)
    assert said == ["one", "�two"]
    said.clear()
    following.follow(job, said.append, from_start=False, is_active=never)
    assert said == []


@pytest.mark.subprocess
def test_one_is_told_to_end_and_waited_for(job: Job, start: Starts) -> None:
    """Starts Python, as the process of the job."""
    reaped(start(job))
    said: list[str] = []
    assert following.cancel(job, said.append, is_active=never, stop=never_stop) is State.FAILED
    result = job.result()
    assert result is not None
    assert result.exit_code == StoppedError.exit_code
    assert said[0].startswith("0 s  waiting for the job to end")


@pytest.mark.subprocess
def test_one_that_does_not_end_is_not_killed(job: Job, start: Starts) -> None:
    """Starts Python, as the process of the job."""
    deaf = PROGRAM.replace("raise KeyboardInterrupt", "pass")
    start(job, deaf)
    with pytest.raises(CommandError, match="still runs after"):
        following.cancel(job, lambda _: None, is_active=never, stop=never_stop, limit_s=0.5)
    assert jobs.read(job.directory).state(never) is State.RUNNING


def test_one_of_which_only_the_unit_is_there_is_ended_by_systemd(tmp_path: Path) -> None:
    job = jobrecord.prepare(Paths(tmp_path), REQUEST, has_unit=True, is_active=never)
    stopped: list[str] = []
    found = following.cancel(job, lambda _: None, is_active=lambda _: not stopped, stop=stopped.append)
    assert (found, stopped) == (State.INTERRUPTED, [job.unit])


def test_one_that_has_ended_is_told_nothing(job: Job) -> None:
    jobrecord.finish(job)
    assert following.cancel(job, never_stop, is_active=inactive, stop=never_stop) is State.SUCCEEDED


def never_stop(text: str) -> None:
    raise AssertionError(text)
