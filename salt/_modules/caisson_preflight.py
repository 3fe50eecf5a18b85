# SPDX-License-Identifier: Apache-2.0
"""The installer's preflights, run by Salt: the same engine, the same codes, Salt's own Python.

The installer's copy on the host (``/opt/caisson/VERSION-BUILD``) is imported: one engine, no second list.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __pillar__: dict[str, Any] = {}


def run(config_file: str = "/etc/caisson/bootstrap.yaml", *, with_trials: bool = True) -> dict[str, Any]:
    """Check this host and change nothing; without trials nothing is unpacked, started or sent.

    Returns the report of ``caisson check --json`` with one more key: ``failed``, the lines of what stops a bootstrap.
    """
    tree_dir = Path(__pillar__["caisson"]["self_dir"])
    searched = list(sys.path)
    # At the end: what Salt carries itself (PyYAML, attrs) is used as it is.
    sys.path += [str(tree_dir), str(tree_dir / "installer" / "vendor")]
    try:
        from installer.checks import readiness  # noqa: PLC0415 - the path is set just now

        found = readiness.assess(tree_dir, Path(config_file), with_trials=with_trials)
    finally:
        sys.path[:] = searched
    report: dict[str, Any] = found.to_json()
    report["failed"] = found.lines(*{result.status for result in found.failed})
    return report
