# SPDX-License-Identifier: Apache-2.0
"""The installer's preflights, run by Salt: the same engine, the same codes, Salt's own Python.

The installer's copy on the host (``/opt/caisson/VERSION-BUILD``) is imported: one engine, no second list.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __pillar__: dict[str, Any] = {}


def run(config_file: str = "/etc/caisson/bootstrap.yaml", *, with_trials: bool = True) -> dict[str, Any]:
    """Check this host and change nothing; without trials nothing is unpacked, started or sent.

    Returns the report of ``caisson check --json`` with one more key: ``failed``, the lines of what stops a bootstrap.
    """
    with _installer() as tree_dir:
        from installer.checks import readiness  # noqa: PLC0415 - the path is set just now

        found = readiness.assess(tree_dir, Path(config_file), with_trials=with_trials)
    report: dict[str, Any] = found.to_json()
    report["failed"] = found.lines(*{result.status for result in found.failed})
    return report


def control_plane_differences() -> list[str]:
    """Return why the control plane of this host is not one of the cluster in the pillar; empty when it is."""
    caisson = __pillar__["caisson"]
    with _installer():
        from installer.config import control_plane  # noqa: PLC0415 - the path is set just now

        return control_plane.differences(Path("/"), caisson, caisson["versions"]["kubernetes"])


@contextlib.contextmanager
def _installer() -> Iterator[Path]:
    """Let the installer's copy be imported, yield its directory.

    It comes last: what Salt carries itself (PyYAML, attrs) is used as it is.
    """
    tree_dir = Path(__pillar__["caisson"]["self_dir"])
    searched = list(sys.path)
    sys.path += [str(tree_dir), str(tree_dir / "installer" / "vendor")]
    try:
        yield tree_dir
    finally:
        sys.path[:] = searched
