# SPDX-License-Identifier: Apache-2.0
"""Make the archive for support as the work of a job: whoever asked for it in a browser fetches it when it is done."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from installer.base.errors import HostError
from installer.base.ui import format_bytes
from installer.config import facts
from installer.engine.jobrun import Task
from installer.engine.jobs import Job
from installer.media import product
from installer.operations import support

NAME = "report"
FILE_NAME = "report.tar.gz"
KEPT_ARCHIVES = 5
"""An archive has megabytes; the jobs themselves stay longer."""


def work(task: Task) -> str:
    """Write the archive into the job's directory, which is root's alone; return what to say of it in one line.

    Raises:
        HostError: it cannot be written.
    """
    archive = file_of(task.job)
    task.ui.phase(NAME, "ask the host, its services and the cluster; leave out what is secret")
    try:
        found = product.load(task.tree_dir)
        names = support.make_archive(found, task.paths, task.tree_dir, archive, progress=task.ui.progress)
    except OSError as exc:
        task.ui.phase_end("FAILED")
        raise HostError(
            f"{archive} cannot be written: {exc.strerror}",
            resolution="make room on its file system (df -h /var/lib), then start it again",
        ) from exc
    except BaseException:
        task.ui.phase_end("FAILED")
        raise
    for old in _older(archive)[: 1 - KEPT_ARCHIVES]:
        old.unlink(missing_ok=True)
    size = archive.stat().st_size
    task.ui.phase_end("done")
    return f"{len(names)} files, {format_bytes(size)}, without keys, tokens and passwords: {archive}"


def _older(archive: Path) -> list[Path]:
    """Return the archives of other jobs, the oldest first."""
    found = archive.parents[1].glob(f"[!.]*/{FILE_NAME}")
    return sorted(file for file in found if file != archive)


def file_of(job: Job) -> Path:
    """Return where the archive of a job is."""
    return job.directory / FILE_NAME


def archive_of(job: Job) -> dict[str, Any] | None:
    """Return what is known of the archive of a job; None where it has none, or none yet."""
    if job.operation != NAME or job.result() is None:
        return None
    try:
        content = file_of(job).read_bytes()
    except OSError:
        return None
    name = f"caisson-report-{facts.host_name()}-{job.id[:15]}.tar.gz"
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
