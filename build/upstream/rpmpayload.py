# SPDX-License-Identifier: Apache-2.0
"""Unpack the payload of an RPM: the files that it would install, without its scriptlets."""

from __future__ import annotations

from pathlib import Path

from build.base.errors import CommandError
from build.base.run import run


def unpack_payload(rpm_file: Path, scratch_dir: Path) -> Path:
    """Turn an RPM's payload into an uncompressed tar file in ``scratch_dir``, whatever its compression.

    Raises: CommandError.
    """
    link = scratch_dir / "payload.rpm"
    link.symlink_to(rpm_file.resolve())
    run(["rpm2archive", "-n", link], timeout_s=600)
    archive = scratch_dir / "payload.rpm.tar"
    if not archive.is_file():
        raise CommandError(
            "command 'rpm2archive' wrote no archive",
            details=f"for {rpm_file}",
            resolution="use rpm 4.16 or later",
        )
    return archive
