# SPDX-License-Identifier: Apache-2.0
"""The installer's preflights, run by Salt: the same engine, the same codes, Salt's own Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}


def run(config_file: str = "/etc/caisson/bootstrap.yaml", *, with_trials: bool = True) -> dict[str, Any]:
    """Check this host and change nothing; without trials nothing is unpacked, started or sent.

    Returns the report of ``caisson check --json`` with one more key: ``failed``, the lines of what stops a bootstrap.
    """
    readiness = __salt__["caisson_installer.load"]("installer.checks.readiness")
    tree_dir = __salt__["caisson_installer.tree_dir"]()
    found = readiness.assess(tree_dir, Path(config_file), with_trials=with_trials)
    report: dict[str, Any] = found.to_json()
    report["failed"] = found.lines(*{result.status for result in found.failed})
    return report


def control_plane_differences() -> list[str]:
    """Return why the control plane of this host is not one of the cluster in the pillar; empty when it is."""
    caisson = __pillar__["caisson"]
    control_plane = __salt__["caisson_installer.load"]("installer.config.control_plane")
    found: list[str] = control_plane.differences(Path("/"), caisson, caisson["versions"]["kubernetes"])
    return found
