# SPDX-License-Identifier: Apache-2.0
"""``caisson jobs`` and ``caisson job ID``: what they show, and the exit codes of the jobs themselves."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import ClusterError, InstallerError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.cli import jobs as commands
from installer.cli import main as cli
from installer.engine import following, jobrecord, jobrun, jobs, jobunit
from installer.engine import lock as lockfile
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.engine.phase import Phase
from installer.operations import job_report
from tests.unit.installer.cli.test_cli import Captured, bootstrap_words, call, use_phases

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
    job = jobrecord.prepare(paths, REQUEST)
    assert caisson(paths, "job", job.id, "--run") == 2
    assert "does not know how to carry out 'node-add'" in capsys.readouterr().err


# ---- the bootstrap is a job too --------------------------------------------------------------------------


def jobs_of(tree: Path) -> list[Job]:
    return jobs.read_all(Paths(tree.parent / "root"))[0]


def test_a_bootstrap_is_written_down(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    held: list[str] = []

    def look(context: Context) -> bool:
        held.append(json.loads(context.paths.lock_file.read_text())["job"])
        return True

    use_phases(monkeypatch, Phase("CSP901", "one", "do one", look, "none"))
    assert call(tree, *bootstrap_words(tree)) == 0
    (job,) = jobs_of(tree)
    assert held == [job.id]
    assert job.operation == "bootstrap"
    assert job.unit == ""
    assert job.shown_command == (
        f"bootstrap.sh bootstrap --config {tree.parent / 'b.yaml'} --accept-lab-bundle"
    )
    assert job.output_file.read_text() == capsys.readouterr().out
    paths = Paths(tree.parent / "root")
    assert job.journal_file.read_text() == paths.journal_file.read_text()
    result = job.result()
    assert result is not None
    assert result.summary == "1 phases in 0.0 s, 1 change"


def test_what_was_typed_names_the_starter_on_the_media(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no search path, and the command is to be typed again."""
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", lambda _: False, "none"))
    (tree / "bootstrap.sh").touch()
    assert call(tree, *bootstrap_words(tree)) == 0
    (job,) = jobs_of(tree)
    assert job.command[:2] == (str(tree / "bootstrap.sh"), "bootstrap")


def fail(_: Context) -> bool:
    raise ClusterError("etcd is red")


def test_a_bootstrap_that_fails_is_one_that_failed(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", fail, "none"))
    assert call(tree, *bootstrap_words(tree)) == 11
    said = capsys.readouterr().err
    (job,) = jobs_of(tree)
    assert call(tree, "job", job.id) == 11
    assert capsys.readouterr().err == said


def test_a_bootstrap_goes_on_with_one_that_was_cut_off_whatever_its_options(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The journal of the host knows where it was; the job only has to be the same."""
    use_phases(monkeypatch, Phase("CSP901", "one", "do one", lambda _: False, "none"))
    paths = Paths(tree.parent / "root")
    cut = jobrecord.prepare(paths, Request("bootstrap", {}, ("caisson", "bootstrap")))
    Journal(paths.journal_file).start("one")
    assert call(tree, *bootstrap_words(tree)) == 0
    (job,) = jobs_of(tree)
    assert job.id == cut.id
    assert "the last run was interrupted in the phase 'one'" in job.output_file.read_text()


def test_a_bootstrap_that_is_refused_leaves_no_job(tree: Path, capsys: Captured) -> None:
    paths = Paths(tree.parent / "root")
    with lockfile.hold(paths.lock_file) as lock:
        lock.give(job="20261127-115003-node-add-3fa9c1", operation="node-add")
        assert call(tree, *bootstrap_words(tree)) == 5
    assert "another job is at work on this host: 20261127-115003-node-add-3fa9c1" in capsys.readouterr().err
    assert jobs_of(tree) == []


def test_a_bootstrap_as_a_unit_is_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """A thread of this process stands for the one that systemd starts."""
    started: list[threading.Thread] = []
    paths = Paths(tree.parent / "root")

    def start(unit: str, command: Sequence[str]) -> None:
        assert command[1:7] == ["-I", "-S", "-B", "-X", "utf8", str(tree / "installer")]
        assert [*command[7:10], command[-1]] == ["--program", "bootstrap.sh", "job", "--run"]
        job = jobs.read(paths.jobs_dir / command[10])
        assert unit == job.unit

        def run() -> None:
            jobrun.carry_out(job, cli.WORKS["bootstrap"], paths=paths, tree_dir=tree)

        # The one lock must not be held twice by one process: it is begun once the command has let go of it.
        started.append(threading.Timer(0.5, run))
        started[-1].start()

    use_phases(monkeypatch, Phase("CSP901", "one", "do one", lambda _: True, "none"))
    monkeypatch.setattr(jobunit, "start", start)
    monkeypatch.setattr(
        jobunit,
        "run",
        lambda *_, **__: Completed(
            0, f"ActiveState={'active' if started[-1].is_alive() else 'failed'}\n", ""
        ),
    )
    try:
        assert call(tree, *bootstrap_words(tree), "--detach") == 0
    finally:
        started[-1].join()
    shown = capsys.readouterr()
    (job,) = jobs_of(tree)
    assert shown.err.startswith(f"job {job.id}; Ctrl-C lets go of it")
    assert shown.out.splitlines()[-1] == f"job {job.id}: succeeded, 1 phases in 0.0 s, 1 change"
    assert "[ 1/1] CSP901 one: do one" in shown.out
