# SPDX-License-Identifier: Apache-2.0
"""A bootstrap is a job: written down, gone on with, and carried out by a unit where that is asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.cli import jobs as commands
from installer.cli import main as cli
from installer.engine import following, jobrecord, jobrun, jobs, jobunit
from installer.engine import lock as lockfile
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.engine.phase import Phase
from tests.unit.installer.cli.test_cli import Captured, bootstrap_words, call, use_phases


@pytest.fixture(autouse=True)
def _on_a_quiet_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave signals alone, and have a systemd that knows no unit."""
    monkeypatch.setattr(commands, "handle_signals", lambda: None)
    monkeypatch.setattr(jobunit, "run", lambda *_, **__: Completed(0, "ActiveState=inactive\n", ""))
    monkeypatch.setattr(following, "END_LIMIT_S", 0.0)  # the process of the jobs is that of the test


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
