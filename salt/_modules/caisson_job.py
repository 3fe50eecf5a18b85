# SPDX-License-Identifier: Apache-2.0
"""Start states on this node in a unit of their own, and tell how that is. The bus only starts them and asks.

Source of the words: ``installer.engine.detached``; over SSH the same is ``caisson on-node``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

ENGINE = "installer.engine.detached"


def start(job_id: str, *sls: str) -> str:
    """Have the states applied; return the ID of the job that is at work then: this one, or one of before."""
    return str(
        __salt__["caisson_installer.call"](ENGINE, "start", _paths(), str(job_id), list(map(str, sls)))
    )


def look(job_id: str) -> dict[str, Any]:
    """Return how a job is: ``state``, ``result``, ``progress``."""
    said: dict[str, Any] = __salt__["caisson_installer.call"](ENGINE, "look", _paths(), str(job_id))
    return said


def _paths() -> Any:
    return __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
