# SPDX-License-Identifier: Apache-2.0
"""Hand secrets to a job: a file in memory that is root's alone, read once and deleted.

No argument, environment or job.json holds a secret: those can be seen by others, or stay. /run is in memory; a job that
is interrupted has read its own, so the command that resumes it asks for them again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from installer.base.errors import HostError
from installer.base.files import write_file
from installer.base.mounts import find_mount, read_mounts
from installer.base.paths import Paths

IN_MEMORY = ("tmpfs", "ramfs")


def put(paths: Paths, job_id: str, secrets: Mapping[str, str]) -> None:
    """Lay secrets down for a job; without any nothing is written. What killed commands have left is deleted.

    To be called with the lock held: then nothing runs that would still want its own.

    Raises:
        HostError: /run is not in memory, or cannot be written.
    """
    for leftover in paths.secrets_dir.glob("*") if paths.secrets_dir.is_dir() else ():
        leftover.unlink(missing_ok=True)
    if not secrets:
        return
    try:
        paths.secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths.secrets_dir.chmod(0o700)
        need_memory(paths.secrets_dir)
        write_file(paths.secrets_dir / job_id, json.dumps(dict(secrets)), mode=0o600)
    except OSError as exc:
        raise HostError(
            f"{paths.secrets_dir} cannot be written: {exc.strerror}",
            details="a password on its way to a job lies there for a moment",
            resolution="make room on /run (df -h /run), then run this again",
        ) from exc


def need_memory(directory: Path) -> None:
    """Refuse a directory that is not in memory: what lies there would be on a disk.

    Raises:
        HostError: it is not.
    """
    mount = find_mount(directory.resolve(), read_mounts())
    if mount is None or mount.fstype not in IN_MEMORY:
        raise HostError(
            f"{directory} is not in memory, so no secret is written there",
            details=f"it is on {'nothing known' if mount is None else f'{mount.fstype}, {mount.source}'}",
            resolution="/run is a tmpfs where systemd started the host: see 'findmnt /run'",
        )


def take(paths: Paths, job_id: str) -> dict[str, str]:
    """Return the secrets of a job and delete them; none if there are none.

    Raises:
        HostError: what lies there is not root's alone, or cannot be read.
    """
    file = paths.secrets_dir / job_id
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise _refused(file, str(exc.strerror)) from exc
    with os.fdopen(descriptor, "rb") as source:
        status = os.fstat(source.fileno())
        is_ours = (
            stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        )
        content = source.read() if is_ours else b""
    file.unlink()
    if not is_ours:
        raise _refused(file, f"mode {stat.filemode(status.st_mode)}, user {status.st_uid}")
    try:
        return {str(key): str(value) for key, value in json.loads(content).items()}
    except (ValueError, AttributeError) as exc:
        # No word of what it holds.
        raise _refused(file, "it is not in the form that caisson writes") from exc


def _refused(file: Path, why: str) -> HostError:
    return HostError(
        f"the secrets in {file} are not taken",
        details=why,
        resolution="start the command again: it asks for them again",
    )
