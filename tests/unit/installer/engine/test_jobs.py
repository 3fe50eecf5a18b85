# SPDX-License-Identifier: Apache-2.0
"""How a job is, is derived from what is there: its result, its process, its unit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from installer.base.errors import ClusterError, HostError
from installer.base.paths import Paths
from installer.engine import jobrecord, jobs
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job, State

REQUEST = Request("node-add", {"hosts": ["a"]}, ("caisson", "node", "add", "a b"))


def never(unit: str) -> bool:
    raise AssertionError(f"systemd was asked for {unit!r}")


def active(_: str) -> bool:
    return True


def inactive(_: str) -> bool:
    return False


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def job(paths: Paths) -> Job:
    return jobrecord.prepare(paths, REQUEST, is_active=never)


def change(job: Job, **fields: object) -> Job:
    """Write other fields into job.json and read it again."""
    file = job.directory / "job.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return jobs.read(job.directory)


def start_of(process: int, ticks: int, boot: str = "") -> dict[str, object]:
    return {"time": "t", "process": process, "ticks": ticks, "boot": boot or jobs.boot_id()}


def test_one_that_nobody_has_begun_is_interrupted(job: Job) -> None:
    assert job.state(never) is State.INTERRUPTED


def test_with_a_unit_at_work_it_runs_before_its_process_has_said_so(paths: Paths) -> None:
    job = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=never)
    assert job.unit == f"caisson-job@{job.id}.service"
    assert job.state(active) is State.RUNNING
    assert job.state(inactive) is State.INTERRUPTED


def test_it_runs_as_long_as_its_process_lives(job: Job) -> None:
    with jobrecord.carried_out(job):
        begun = jobs.read(job.directory)
        assert begun.process() == os.getpid()
        assert begun.state(never) is State.RUNNING


@pytest.mark.parametrize(
    "start",
    [start_of(os.getpid(), 1), start_of(2**22 + 1, 5), start_of(os.getpid(), 1, "another boot")],
    ids=["number given away", "no such process", "before a reboot"],
)
def test_a_process_that_is_another_or_none_is_not_its_own(job: Job, start: dict[str, object]) -> None:
    found = change(job, starts=[start])
    assert found.process() is None
    assert found.state(never) is State.INTERRUPTED


def test_a_reboot_ends_a_process_though_number_and_start_agree(job: Job) -> None:
    with jobrecord.carried_out(job):
        begun = jobs.read(job.directory)
        last = begun.starts[-1]
        assert change(begun, starts=[start_of(last.process, last.ticks, "another boot")]).process() is None


def test_a_result_decides_alone(job: Job) -> None:
    jobrecord.finish(job, summary="2 phases")
    result = job.result()
    assert result is not None
    assert (job.state(never), result.exit_code, result.summary) == (State.SUCCEEDED, 0, "2 phases")
    jobrecord.finish(job, error=ClusterError("etcd is red", details="a\nb", resolution="wait"))
    result = job.result()
    assert result is not None
    assert (job.state(never), result.exit_code) == (State.FAILED, 11)
    assert isinstance(result.error, ClusterError)
    assert str(result.error) == "etcd is red\n  a\n  b\n  -> wait"


def test_a_result_that_comes_between_the_looks_is_seen(paths: Paths) -> None:
    """The process was asked for, and not found, just after it had written its result and ended."""
    job = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=never)

    def end_meanwhile(_: str) -> bool:
        jobrecord.finish(job)
        return False

    assert job.state(end_meanwhile) is State.SUCCEEDED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": "t", "summary": "", "error": {}}'])
def test_a_damaged_result_is_a_failure_that_says_so(job: Job, text: str) -> None:
    job.result_file.write_text(text)
    assert job.state(never) is State.FAILED
    result = job.result()
    assert result is not None
    assert "result.json cannot be read" in str(result.error)


def test_one_that_cannot_be_read_is_named_and_hides_no_other(paths: Paths, job: Job) -> None:
    for name, text in (("20000101-000000-x-000000", "{"), ("20000101-000001-x-000000", '{"format": 2}')):
        (paths.jobs_dir / name).mkdir()
        (paths.jobs_dir / name / "job.json").write_text(text)
    found, faults = jobs.read_all(paths)
    assert found == [job]
    assert [type(fault) for fault in faults] == [HostError, HostError]
    assert "its format is 2" in faults[1].details


def test_none_on_a_host_that_never_had_one(paths: Paths) -> None:
    assert jobs.read_all(paths) == ([], [])


def test_the_command_can_be_typed_again(job: Job) -> None:
    assert job.shown_command == "caisson node add 'a b'"
