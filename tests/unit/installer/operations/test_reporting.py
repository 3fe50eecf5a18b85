# SPDX-License-Identifier: Apache-2.0
"""A report is made as a job; its archive is in the job's directory, and a few old ones stay."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.engine import jobrecord
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task
from installer.engine.jobs import Job
from installer.media import product
from installer.operations import reporting, support
from tests.unit.installer.helpers import make_product


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    def make(_product: object, _paths: Paths, _tree: Path, archive: Path, **_: Any) -> list[str]:
        archive.write_bytes(b"archive")
        return ["a", "b"]

    monkeypatch.setattr(support, "make_archive", make)
    monkeypatch.setattr(product, "load", lambda _: make_product())
    return Paths(tmp_path)


def make(paths: Paths) -> Job:
    job = jobrecord.prepare(paths, Request(reporting.NAME, {}, ("caisson", "report")))
    assert reporting.archive_of(job) is None
    ui = Ui(io.StringIO(), is_terminal=False)
    summary = reporting.work(Task(job, {}, ui, paths, paths.root))
    jobrecord.finish(job, summary=summary)
    return job


def test_the_archive_is_told_with_its_digest(paths: Paths) -> None:
    job = make(paths)
    about = reporting.archive_of(job)
    assert about is not None
    assert about["size"] == 7
    assert about["name"].startswith("caisson-report-")
    result = job.result()
    assert result is not None
    assert "2 files" in result.summary


def test_a_few_archives_stay_and_all_jobs(paths: Paths) -> None:
    made = [make(paths) for _ in range(reporting.KEPT_ARCHIVES + 2)]
    there = [job for job in made if reporting.archive_of(job) is not None]
    assert len(there) == reporting.KEPT_ARCHIVES
    assert all(job.directory.is_dir() for job in made)


def test_a_full_disk_is_the_job_s_error(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(support, "make_archive", full)
    with pytest.raises(HostError, match="No space left"):
        make(paths)
