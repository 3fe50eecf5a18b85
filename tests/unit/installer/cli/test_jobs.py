# SPDX-License-Identifier: Apache-2.0
"""``caisson jobs`` and ``caisson job ID``: what they show, and the exit codes of the jobs themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import ClusterError, InstallerError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.cli import jobs as commands
from installer.cli import main as cli
from installer.engine import following, jobrecord, jobs, jobunit
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.operations import job_report
from tests.unit.installer.cli.test_cli import Captured

SCHEMA: Any = json.loads(Path(job_report.__file__).with_name("jobs.schema.json").read_text(encoding="utf-8"))
FORM = jsonschema.Draft7Validator(SCHEMA)
REQUEST = Request("node-add", {"hosts": ["a"]}, ("caisson", "node", "add", "a"))


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be root, leave signals alone, and have a systemd that knows no unit."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(commands, "handle_signals", lambda: None)
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, "ActiveState=inactive\n", ""))
    monkeypatch.setattr(following, "END_LIMIT_S", 0.0)  # the process of the jobs is that of the test


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "root")


def caisson(paths: Paths, *words: str) -> int:
    return cli.main(words, tree_dir=paths.root, paths=paths)


def make(paths: Paths, *, error: InstallerError | None = None, request: Request = REQUEST) -> Job:
    """Return a job that has ended, with one phase in its journal."""
    job = jobrecord.prepare(paths, request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobrecord, "finish", lambda *_, **__: None)
        with jobrecord.carried_out(job):
            journal = Journal(job.journal_file, operation=job.operation)
            journal.start("connect")
            journal.done("connect", changed=True, seconds=1.5)
            job.output_file.write_text("connecting\nconnected\n")
    jobrecord.finish(job, summary="1 phases", error=error)
    return job


def make_interrupted(paths: Paths) -> Job:
    job = make(paths)
    job.result_file.unlink()
    file = job.directory / "job.json"
    data = json.loads(file.read_text())
    data["starts"][-1]["boot"] = "before the power cut"
    file.write_text(json.dumps(data))
    return jobs.read(job.directory)


def shown_json(captured: Captured) -> Any:
    data = json.loads(captured.readouterr().out)
    FORM.validate(data)
    return data


def test_none_yet(paths: Paths, capsys: Captured) -> None:
    assert caisson(paths, "jobs") == 0
    assert capsys.readouterr().out == "no job was asked for on this host yet\n"
    assert caisson(paths, "jobs", "--json") == 0
    assert shown_json(capsys) == {"format": 1, "jobs": [], "unreadable": []}
    assert not paths.root.exists()


def test_all_with_the_newest_first_and_those_that_cannot_be_read(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    interrupted = make_interrupted(paths)
    failed = make(
        paths, request=Request("vip-set", {}, ("caisson", "vip")), error=ClusterError("etcd is red")
    )
    (paths.jobs_dir / "00").mkdir()
    ids = sorted([interrupted.id, failed.id], reverse=True)
    assert caisson(paths, "jobs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "BEGUN", "TOOK", "RESULT"]
    assert [line.split()[0] for line in lines[1:3]] == ids
    by_id = {line.split()[0]: line for line in lines[1:3]}
    assert " failed " in by_id[failed.id]
    assert by_id[failed.id].endswith("CSE011 etcd is red")
    assert by_id[interrupted.id].endswith("interrupted; the same command goes on with it")
    assert any("00/job.json cannot be read" in line for line in lines)
    assert caisson(paths, "jobs", "--json") == 0
    data = shown_json(capsys)
    assert {job["id"]: (job["state"], job["exit_code"]) for job in data["jobs"]} == {
        failed.id: ("failed", 11),
        interrupted.id: ("interrupted", 22),
    }
    assert len(data["unreadable"]) == 1


def test_one_that_succeeded(paths: Paths, capsys: Captured) -> None:
    job = make(paths)
    assert caisson(paths, "job", job.id) == 0
    shown = capsys.readouterr().out
    assert "caisson node add a" in shown
    assert "connect  1.5 s  yes" in shown
    assert str(job.directory) in shown
    assert caisson(paths, "job", job.id, "--follow") == 0
    assert capsys.readouterr().out.splitlines() == [
        "connecting",
        "connected",
        f"job {job.id}: succeeded, 1 phases",
    ]
    assert caisson(paths, "job", job.id, "--log") == 0
    assert capsys.readouterr().out == "connecting\nconnected\n"


@pytest.mark.parametrize("way", [(), ("--follow",), ("--log",)])
def test_one_that_failed_has_its_own_exit_code_and_error(
    paths: Paths, capsys: Captured, way: Sequence[str]
) -> None:
    job = make(paths, error=ClusterError("etcd is red", details="member 2", resolution="wait"))
    assert caisson(paths, "job", job.id, *way) == 11
    assert capsys.readouterr().err == "error: CSE011 etcd is red\n  member 2\n  -> wait\n"
    assert caisson(paths, "job", job.id, *way, "--json") == 11
    data = shown_json(capsys)
    if way == ("--log",):
        assert data["lines"] == ["connecting", "connected"]
    else:
        assert (data["job"]["exit_code"], data["job"]["error"]["code"]) == (11, "CSE011")


@pytest.mark.parametrize("way", [(), ("--follow",), ("--log",)])
def test_one_that_was_interrupted_says_so_and_how_to_go_on(
    paths: Paths, capsys: Captured, way: Sequence[str]
) -> None:
    job = make_interrupted(paths)
    assert caisson(paths, "job", job.id, *way) == 22
    said = capsys.readouterr().err
    assert f"error: CSE022 job {job.id} was interrupted" in said
    assert "run the same command again to go on with it: caisson node add a" in said
    assert caisson(paths, "job", job.id, *way, "--json") == 22
    shown_json(capsys)


def test_one_that_runs(paths: Paths, capsys: Captured) -> None:
    job = jobrecord.prepare(paths, REQUEST)
    with jobrecord.carried_out(job):
        Journal(job.journal_file, operation=job.operation).start("connect")
        assert caisson(paths, "job", job.id) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["state", "running"] in rows
        assert ["now", "connect"] in rows
        assert caisson(paths, "job", job.id, "--json") == 0
        assert shown_json(capsys)["job"]["exit_code"] is None


def test_it_may_be_named_by_its_beginning_or_its_end(paths: Paths, capsys: Captured) -> None:
    job = make(paths)
    assert caisson(paths, "job", "", "--cancel") == 2  # a variable that was never set
    assert caisson(paths, "job", job.id[-6:]) == 0
    assert caisson(paths, "job", job.id[:15]) == 0
    other = paths.jobs_dir / "20000101-000000-vip-set-000000"
    other.mkdir()
    capsys.readouterr()
    assert caisson(paths, "job", "20") == 2
    assert "'20' is the beginning or end of 2 jobs" in capsys.readouterr().err
    for text in ("", "nonesuch", "../jobs", f"../jobs/{job.id}"):
        assert caisson(paths, "job", text) == 2
        assert f"there is no job '{text}'" in capsys.readouterr().err


def test_an_interrupted_one_is_given_up(paths: Paths, capsys: Captured) -> None:
    job = make_interrupted(paths)
    assert caisson(paths, "job", job.id, "--cancel") == 0
    assert "failed, CSE130 given up after it was interrupted" in capsys.readouterr().out
    assert caisson(paths, "job", job.id) == 130
    assert jobrecord.prepare(paths, REQUEST).id != job.id


def test_one_that_has_ended_stays_as_it_is_when_it_is_cancelled(paths: Paths, capsys: Captured) -> None:
    job = make(paths)
    assert caisson(paths, "job", job.id, "--cancel", "--json") == 0
    assert shown_json(capsys)["job"]["state"] == "succeeded"


def test_only_one_way_at_a_time(paths: Paths, capsys: Captured) -> None:
    assert caisson(paths, "job", "x", "--follow", "--cancel") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_only_root(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert caisson(paths, "jobs") == 12
    assert caisson(paths, "job", "x") == 12


# ---- what a unit starts ----------------------------------------------------------------------------------


def test_a_unit_carries_its_job_out_once(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    seen: list[Task] = []

    def work(task: Task) -> str:
        seen.append(task)
        task.ui.note("at work")
        return "one host"

    monkeypatch.setitem(cli.WORKS, "node-add", work)
    job = jobrecord.prepare(paths, REQUEST)
    assert caisson(paths, "job", job.id, "--run") == 0
    assert caisson(paths, "job", job.id, "--run") == 0
    assert len(seen) == 1
    assert seen[0].job.arguments == {"hosts": ["a"]}
    assert job.output_file.read_text() == "at work\n"
    result = job.result()
    assert result is not None
    assert result.summary == "one host"


def test_an_operation_that_this_caisson_does_not_know(paths: Paths, capsys: Captured) -> None:
    job = jobrecord.prepare(paths, replace(REQUEST, operation="media-eject"))
    assert caisson(paths, "job", job.id, "--run") == 2
    assert "does not know how to carry out 'media-eject'" in capsys.readouterr().err
