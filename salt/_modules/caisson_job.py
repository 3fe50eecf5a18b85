# SPDX-License-Identifier: Apache-2.0
"""Start states on this node in a unit of their own, and tell how that is. The bus only starts them and asks.

Source of the words: ``installer.engine.detached``; over SSH the same is ``caisson on-node``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

ENGINE = "installer.engine.detached"
TOLD_FILE = "/var/lib/caisson/told"


def start(job_id: str, *sls: str) -> str:
    """Have the states applied; return the ID of the job that is at work then: this one, or one of before."""
    return str(
        __salt__["caisson_installer.call"](ENGINE, "start", _paths(), str(job_id), list(map(str, sls)))
    )


def look(job_id: str) -> dict[str, Any]:
    """Return how a job is: ``state``, ``result``, ``progress``."""
    said: dict[str, Any] = __salt__["caisson_installer.call"](ENGINE, "look", _paths(), str(job_id))
    return said


def told() -> str:
    """Return the digest of what this node was told of the control planes, and has acted upon; empty: nothing yet."""
    try:
        return Path(TOLD_FILE).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def follow(job_id: str) -> str:
    """Take what the master tells this node now, and have it acted upon; return the ID as ``start`` does."""
    caisson = __salt__["pillar.items"](unmask=True)["caisson"]
    files = __salt__["caisson_installer.call"]("installer.engine.nodepillar", "local_files", caisson)
    for path, text in files.items():
        __salt__["caisson_installer.call"](
            "installer.base.files", "write_file", Path(path), text, mode=0o600, dir_mode=0o700
        )
    return start(job_id, "cluster.told")


def _paths() -> Any:
    return __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
