# SPDX-License-Identifier: Apache-2.0
"""A job is asked for by one process and carried out by another, with nothing that could come in between."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from installer.base.errors import ClusterError, CommandError, LockedError
from installer.base.paths import Paths
from installer.engine import following, jobrecord, jobrun, jobs, jobsecrets, jobunit, logs
from installer.engine import lock as lockfile
from installer.engine.jobrun import Task
from installer.engine.jobs import State
from tests.unit.installer.engine.test_jobs import REQUEST, inactive, never

REPOSITORY_DIR = Path(__file__).parents[4]
#: What a unit runs: a job that tells what it was given, and nothing of a secret but its length.
PROGRAM = """
import json, sys
from pathlib import Path
from installer.base.paths import Paths
from installer.engine import jobrun, jobs
paths = Paths(Path(sys.argv[1]))
def work(task):
    task.ui.note(f"{task.job.arguments['hosts']}: {len(task.secrets['password'])} letters")
    task.ui.note(json.loads(paths.lock_file.read_text())["job"])
    return "one host"
jobrun.carry_out(jobs.read(paths.jobs_dir / sys.argv[3]), work, paths=paths, tree_dir=Path("/"))
"""


@pytest.fixture
def paths() -> Iterator[Paths]:
    """Return a host of which /run is in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Paths(Path(directory))


class Systemd:
    """What starts programs: this process, which waits for them at the end."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, unit: str, command: Sequence[str]) -> None:
        assert unit == jobunit.name(command[2])
        program = [sys.executable, "-c", PROGRAM, str(self._root), *command[1:]]
        process = subprocess.Popen(
            program, cwd=REPOSITORY_DIR, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.started.append(process)
        time.sleep(1)  # it comes to the lock before the one who asked lets go of it

    def is_active(self, _: str) -> bool:
        return any(process.poll() is None for process in self.started)


@pytest.mark.subprocess
def test_what_is_asked_for_is_carried_out_elsewhere(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts Python, as systemd would start the job."""
    systemd = Systemd(paths.root)
    monkeypatch.setattr(jobunit, "start", systemd.start)
    job = jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    said: list[str] = []
    result = following.follow(job, said.append, is_active=systemd.is_active)
    assert said == ["['a']: 6 letters", job.id]
    assert (result.exit_code, result.summary) == (0, "one host")
    assert list(paths.secrets_dir.iterdir()) == []
    everything = b"".join(file.read_bytes() for file in paths.root.rglob("*") if file.is_file())
    assert b"geheim" not in everything
    with lockfile.hold(paths.lock_file):
        pass
    assert [process.wait() for process in systemd.started] == [0]


def test_while_another_works_nothing_is_asked_for(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobunit, "start", lambda *_: pytest.fail("it was started"))
    with lockfile.hold(paths.lock_file) as lock:
        lock.give(job="20261127-115003-node-remove-3fa9c1", operation="node-remove")
        with pytest.raises(LockedError, match=r"3fa9c1 \(node-remove\), since"):
            jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    assert not paths.jobs_dir.exists()
    assert not paths.secrets_dir.exists()


def test_what_systemd_does_not_start_has_failed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CommandError("'systemd-run' failed: exit code 1")

    monkeypatch.setattr(jobunit, "start", refuse)
    monkeypatch.setattr(jobunit, "is_active", inactive)
    with pytest.raises(CommandError):
        jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    (job,) = jobs.read_all(paths)[0]
    assert job.state(inactive) is State.FAILED
    assert list(paths.secrets_dir.iterdir()) == []


@pytest.mark.parametrize("at", ["put", "start"])
def test_ctrl_c_before_it_is_started_leaves_no_secret_and_says_so(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    put = jobsecrets.put

    def put_and_press(paths: Paths, job_id: str, secrets: Mapping[str, str]) -> None:
        put(paths, job_id, secrets)
        if secrets:
            press()

    monkeypatch.setattr(jobunit, "start", press)
    if at == "put":
        monkeypatch.setattr(jobsecrets, "put", put_and_press)
    monkeypatch.setattr(jobunit, "is_active", inactive)
    with pytest.raises(KeyboardInterrupt):
        jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    (job,) = jobs.read_all(paths)[0]
    result = job.result()
    assert result is not None
    assert result.exit_code == 130
    assert list(paths.secrets_dir.iterdir()) == []


def test_a_systemd_that_does_not_answer_hides_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was started is not known: its secrets may still be wanted, and a result could be a lie."""

    def be_silent(*_: object) -> None:
        raise CommandError("'systemctl' did not finish within 60 s")

    def come_late(*_: object) -> None:
        raise CommandError("'systemd-run' did not finish within 60 s")

    monkeypatch.setattr(jobunit, "start", come_late)
    monkeypatch.setattr(jobunit, "is_active", be_silent)
    with pytest.raises(CommandError, match="systemd-run"):
        jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    (job,) = jobs.read_all(paths)[0]
    assert job.result() is None
    assert jobsecrets.take(paths, job.id) == {"password": "geheim"}


def test_what_systemd_has_started_though_nobody_heard_goes_on(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd-run did not come back in time, and the job runs: a result would be a lie."""

    def come_late(*_: object) -> None:
        raise CommandError("'systemd-run' did not finish within 60 s")

    monkeypatch.setattr(jobunit, "start", come_late)
    monkeypatch.setattr(jobunit, "is_active", lambda _: True)
    with pytest.raises(CommandError):
        jobrun.ask(paths, REQUEST, ["caisson"], secrets={"password": "geheim"})
    (job,) = jobs.read_all(paths)[0]
    assert job.result() is None
    assert jobsecrets.take(paths, job.id) == {"password": "geheim"}


def test_what_fails_says_so_in_its_result_and_lets_go(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    job = jobrecord.prepare(paths, REQUEST, is_active=never)

    def fail(task: Task) -> str:
        task.ui.note("begun")
        raise ClusterError("etcd is red")

    with pytest.raises(ClusterError):
        jobrun.carry_out(job, fail, paths=paths, tree_dir=Path("/"))
    assert json.loads(job.result_file.read_text())["exit_code"] == 11
    assert job.output_file.read_text() == "begun\n"
    with lockfile.hold(paths.lock_file):
        pass


def test_a_fault_of_ours_is_in_what_it_said(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    job = jobrecord.prepare(paths, REQUEST, is_active=never)

    def fail(_: Task) -> str:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError):
        jobrun.carry_out(job, fail, paths=paths, tree_dir=Path("/"))
    assert "Traceback" in job.output_file.read_text()
    assert json.loads(job.result_file.read_text())["exit_code"] == 1


def test_one_that_finds_the_lock_taken_has_failed_and_says_by_whom(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobrun, "LOCK_PATIENCE_S", 0.2)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    with lockfile.hold(paths.lock_file) as lock:
        lock.give(job="other", operation="node-remove")
        with pytest.raises(LockedError):
            jobrun.carry_out(job, lambda _: pytest.fail("it was begun"), paths=paths, tree_dir=Path("/"))
    assert json.loads(job.result_file.read_text())["error"]["code"] == "CSE005"


def test_what_a_job_says_to_its_log_only_is_kept_and_rotated(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /var/log/caisson, by its operation, with the job and its error; a log that is too long begins again."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(logs, "LIMIT_BYTES", 100)
    job = jobrecord.prepare(paths, REQUEST, is_active=never)
    log_file = paths.log_dir / f"{REQUEST.operation}.log"
    commands_file = paths.log_dir / "commands.log"
    paths.log_dir.mkdir(parents=True)
    for old in (log_file, commands_file):
        old.write_text("x" * 100)

    def fail(task: Task) -> str:
        task.ui.detail("changed on node2: /etc/crictl.yaml")
        raise ClusterError("etcd is red")

    with pytest.raises(ClusterError):
        jobrun.carry_out(job, fail, paths=paths, tree_dir=Path("/"))
    lines = [line.partition(" ")[2] for line in log_file.read_text().splitlines()]
    assert lines == [
        f"job {job.id}: {job.shown_command}",
        "changed on node2: /etc/crictl.yaml",
        f"job {job.id}: error: etcd is red",
    ]
    assert log_file.with_name(f"{log_file.name}.1").read_text() == "x" * 100
    assert commands_file.with_name("commands.log.1").exists()
    assert not job.output_file.exists()
