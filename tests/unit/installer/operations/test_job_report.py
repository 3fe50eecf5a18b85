# SPDX-License-Identifier: Apache-2.0
"""A job of several hosts is shown host by host: its phases, what it does now, how each has ended."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.config.nodes import NodeEntry
from installer.engine import jobrecord
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.operations import job_report
from installer.operations.host_results import HostResults

REQUEST = Request("node-add", {"nodes": []}, ("caisson", "node", "add", "--file", "nodes.yaml"))
HOSTS = (NodeEntry("10.77.1.12", name="node2"), NodeEntry("10.77.1.13"))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return jobrecord.prepare(Paths(tmp_path), REQUEST, is_active=lambda _: False)


def begin(job: Job, address: str, run_id: str) -> Journal:
    own = job.directory / "all.jsonl"
    return Journal(own, operation=f"node-add/{address}", run_id=run_id, copy_file=job.journal_file)


def test_the_phases_of_several_hosts(job: Job) -> None:
    """Those of an earlier start are not shown; what each host does now is."""
    old = begin(job, "10.77.1.12", "old")
    old.start("send")
    old.failed("send", seconds=9)
    one, two = begin(job, "10.77.1.12", "new"), begin(job, "10.77.1.13", "new")
    one.start("connect")
    two.start("connect")
    two.done("connect", changed=False, seconds=1)
    one.done("connect", changed=False, seconds=2)
    two.start("send")
    one.start("send")
    one.failed("send", seconds=3)
    HostResults(job.directory, HOSTS).begin("10.77.1.13")
    found = job_report.look(job, is_active=lambda _: False)
    assert found.phase_rows() == [
        ("HOST", "PHASE", "TIME", "CHANGED"),
        ("node2", "connect", "2.0 s", "no"),
        ("node2", "send", "3.0 s", "failed"),
        ("node2", "all", "5.0 s", ""),
        ("10.77.1.13", "connect", "1.0 s", "no"),
        ("10.77.1.13", "all", "1.0 s", ""),
    ]
    assert found.open_phase == "10.77.1.13: send"
    assert [(entry["host"], entry["name"]) for entry in found.to_json()["phases"]][-1] == (
        "10.77.1.12",
        "send",
    )


def test_one_host_is_shown_without_its_name_in_each_row(job: Job) -> None:
    one = begin(job, "10.77.1.12", "new")
    one.start("connect")
    found = job_report.look(job, is_active=lambda _: False)
    assert (found.open_phase, found.phase_rows(), found.host_rows()) == ("connect", [], [])


def test_how_each_host_has_ended_is_shown_and_of_a_cut_job_nothing_is_at_work(
    job: Job, repository_dir: Path
) -> None:
    results = HostResults(job.directory, HOSTS)
    results.failed("node2 (10.77.1.12)", HostError("CSP403 send: no room"), seconds=4.2, phase="CSP403 send")
    results.begin("10.77.1.13")
    found = job_report.look(job, is_active=lambda _: False)
    assert found.host_rows() == [
        ("NAME", "ADDRESS", "ROLE", "RESULT", "PHASE", "SECONDS", "WHY"),
        ("node2", "10.77.1.12", "worker", "failed", "CSP403 send", "4", "CSE012 no room"),
        ("-", "10.77.1.13", "worker", "interrupted", "-", "-", ""),
    ]
    schema = json.loads((repository_dir / "installer/operations/jobs.schema.json").read_text())
    jsonschema.validate({"format": 1, "job": found.to_json()}, schema)
    (job.directory / "hosts.json").write_text("torn")
    assert job_report.look(job, is_active=lambda _: False).host_rows() == []
