# SPDX-License-Identifier: Apache-2.0
"""Jobs are written down whole, gone on with when they were interrupted, and thinned when they have ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from installer.base.errors import ClusterError, HostError, LockedError, StoppedError
from installer.base.paths import Paths
from installer.engine import jobrecord, jobs
from installer.engine.jobrecord import KEPT_JOBS, Request
from installer.engine.jobs import Job, State
from tests.unit.installer.engine.test_jobs import REQUEST, active, inactive, never


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def modes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in [directory, *directory.iterdir()]}


def test_it_is_root_s_alone_and_says_what_was_asked(paths: Paths) -> None:
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    assert jobrecord.ID.fullmatch(job.id)
    assert job.id[16:24] == "node-add"
    assert paths.jobs_dir.stat().st_mode & 0o777 == 0o700
    with jobrecord.carried_out(job) as outcome:
        outcome.summary = "done well"
    assert modes(job.directory) == {job.id: 0o700, "job.json": 0o600, "result.json": 0o600}
    data = json.loads((job.directory / "job.json").read_text())
    assert (data["format"], data["id"], data["arguments"]) == (1, job.id, {"hosts": ["a"]})
    assert "directory" not in data
    assert json.loads(job.result_file.read_text())["summary"] == "done well"


def test_a_directory_of_jobs_that_others_could_read_is_closed(paths: Paths) -> None:
    paths.jobs_dir.mkdir(parents=True, mode=0o755)
    jobrecord.prepare(paths, REQUEST, is_active=never)
    assert paths.jobs_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ClusterError("etcd is red", resolution="wait"), 11, "etcd is red"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ZeroDivisionError("division by zero"), 1, "a fault of the installer itself"),
    ],
)
def test_whatever_ends_it_is_its_result(paths: Paths, raised: BaseException, code: int, message: str) -> None:
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    with pytest.raises(type(raised)), jobrecord.carried_out(job):
        raise raised
    error = json.loads(job.result_file.read_text())["error"]
    assert (error["exit_code"], error["message"]) == (code, message)
    assert job.state(never) is State.FAILED


def test_the_same_command_goes_on_with_the_interrupted_job(paths: Paths) -> None:
    first = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=never)
    first.journal_file.write_text("what it did\n")
    typed = replace(REQUEST, arguments={"hosts": ("a",)}, command=("caisson", "node", "add", "a"))
    again = jobrecord.prepare(paths, typed, is_active=inactive)
    assert again.id == first.id
    assert again.journal_file.read_text() == "what it did\n"
    assert (again.shown_command, again.unit) == ("caisson node add a", "")
    with jobrecord.carried_out(again):
        pass
    with jobrecord.carried_out(jobs.read(again.directory)):
        pass
    assert len(jobs.read(first.directory).starts) == 2


def test_each_attempt_has_a_unit_of_its_own(paths: Paths) -> None:
    """What a killed one has left running keeps its unit alive, and systemd would start no other of that name."""
    first = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=never)
    assert first.unit == f"caisson-job@{first.id}.service"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobrecord, "finish", lambda *_, **__: None)
        with jobrecord.carried_out(first):
            pass
        patch.setattr(jobs, "boot_id", lambda: "after a power cut")
        again = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=inactive)
    assert again.id == first.id
    assert again.unit == f"caisson-job@{first.id}.2.service"


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, arguments={"hosts": ["b"]}),
        replace(REQUEST, operation="node-remove"),
    ],
)
def test_another_request_is_another_job_and_the_interrupted_one_stays(paths: Paths, other: Request) -> None:
    first = jobrecord.prepare(paths, REQUEST, is_active=never)
    second = jobrecord.prepare(paths, other, is_active=never)
    assert second.id != first.id
    assert first.state(never) is State.INTERRUPTED


@pytest.mark.parametrize("error", [None, StoppedError("stopped")])
def test_one_that_has_ended_is_not_gone_on_with(paths: Paths, error: StoppedError | None) -> None:
    first = jobrecord.prepare(paths, REQUEST, is_active=never)
    jobrecord.finish(first, error=error)
    assert jobrecord.prepare(paths, REQUEST, is_active=never).id != first.id


@pytest.mark.parametrize("request_", [REQUEST, replace(REQUEST, operation="node-remove")])
def test_one_that_is_just_being_started_is_in_the_way(paths: Paths, request_: Request) -> None:
    first = jobrecord.prepare(paths, REQUEST, has_unit=True, is_active=never)
    with pytest.raises(LockedError) as caught:
        jobrecord.prepare(paths, request_, is_active=active)
    assert f"{first.id} (node-add), since 20" in caught.value.message
    assert f"caisson job {first.id} --follow" in caught.value.resolution
    assert len(list(paths.jobs_dir.iterdir())) == 1


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each job be asked for a second after the one before."""
    stamps = iter(range(100_000, 200_000))
    monkeypatch.setattr(
        "time.strftime", lambda form, *_: f"20261127-{next(stamps)}" if "-%H" in form else "t"
    )


def ask(paths: Paths, number: int) -> Job:
    return jobrecord.prepare(paths, Request("report", {"n": number}, ("x",)), is_active=never)


def names(paths: Paths) -> list[str]:
    return sorted(file.name for file in paths.jobs_dir.iterdir())


@pytest.mark.usefixtures("_clock")
def test_the_oldest_that_have_ended_go_and_none_that_was_interrupted_for_them(paths: Paths) -> None:
    interrupted = jobrecord.prepare(paths, REQUEST, is_active=never)
    ended = []
    for number in range(KEPT_JOBS + 2):
        ended.append(ask(paths, number))
        jobrecord.finish(ended[-1])
    last = ask(paths, -1)
    assert names(paths) == [job.id for job in [interrupted, *ended[2:], last]]


@pytest.mark.usefixtures("_clock")
def test_the_oldest_that_were_interrupted_go_but_for_the_one_that_is_gone_on_with(paths: Paths) -> None:
    interrupted = [ask(paths, number) for number in range(KEPT_JOBS + 2)]
    assert names(paths) == [job.id for job in interrupted[1:]]
    again = ask(paths, 1)
    assert names(paths) == [job.id for job in interrupted[1:]]
    assert again.id == interrupted[1].id


def test_what_a_kill_has_left_of_a_job_is_none_and_goes(paths: Paths) -> None:
    for name in (".20261127-000000-node-add-000000.new", ".20261127-000000-node-add-000001.old"):
        (paths.jobs_dir / name).mkdir(parents=True)
        (paths.jobs_dir / name / "job.json").write_text("{")
    assert jobs.read_all(paths) == ([], [])
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    assert [file.name for file in paths.jobs_dir.iterdir()] == [job.id]


def test_a_disk_that_takes_no_job_is_said(paths: Paths) -> None:
    paths.state_dir.mkdir(parents=True)
    paths.jobs_dir.write_text("a file")
    with pytest.raises(HostError, match="the job cannot be written down") as caught:
        jobrecord.prepare(paths, REQUEST, is_active=never)
    assert "df -h" in caught.value.resolution


def test_what_it_failed_for_is_told_though_its_result_cannot_be_written(paths: Paths) -> None:
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    job.result_file.mkdir()
    with pytest.raises(ClusterError), jobrecord.carried_out(job):
        raise ClusterError("etcd is red")
    with pytest.raises(HostError, match="cannot be written down"), jobrecord.carried_out(job):
        pass


@pytest.mark.parametrize("name", ["Node", "node add", "../x", ""])
def test_a_name_of_an_operation_is_words_and_dashes(paths: Paths, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        jobrecord.prepare(paths, Request(name, {}, ("x",)), is_active=never)
