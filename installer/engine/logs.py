# SPDX-License-Identifier: Apache-2.0
"""Keep what was said in /var/log/caisson: each log begins again at a size, and a few old ones stay."""

from __future__ import annotations

from pathlib import Path

from installer.base.files import rotate
from installer.base.paths import Paths
from installer.base.run import COMMANDS_LOG_FILE
from installer.engine import saltcall

LIMIT_BYTES, KEPT = 10 * 1024 * 1024, 4
SHARED = (COMMANDS_LOG_FILE.name, saltcall.LOG_NAME)


def file(paths: Paths, operation: str) -> Path:
    """Return the log of an operation."""
    return paths.log_dir / f"{operation}.log"


def begin(paths: Paths, operation: str = "") -> None:
    """Make the directory, and begin those logs again that are too long: the shared ones, and that of the operation.

    To be called with the lock held: nobody else writes into them then.
    """
    paths.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = (file(paths, operation),) if operation else ()
    for log_file in (*own, *(paths.log_dir / name for name in SHARED)):
        rotate(log_file, limit_bytes=LIMIT_BYTES, keep=KEPT)
