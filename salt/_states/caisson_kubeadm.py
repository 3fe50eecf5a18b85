# SPDX-License-Identifier: Apache-2.0
"""State: one phase of ``kubeadm init`` has been completed with the present configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def phase_completed(name: str, phase: str, produces: list[str] | None = None) -> dict[str, Any]:
    """Make sure that ``phase`` (for example ``certs all``) was completed.

    It counts as completed when its stamp names the present configuration, patches and kubeadm version, and every
    path in ``produces`` exists. kubeadm's phases are idempotent, so a phase cut in the middle is simply run again.
    """
    stamp_file = __salt__["caisson_kubeadm.stamp_file"](phase)
    missing = [path for path in produces or [] if not os.path.exists(path)]
    if __opts__["test"] and not os.path.exists("/usr/bin/kubeadm"):
        return {
            "name": name,
            "result": None,
            "changes": {phase: "run"},
            "comment": "kubeadm is not installed yet",
        }
    expected = __salt__["caisson_kubeadm.expected_stamp"]()
    try:
        recorded = json.loads(stamp_file.read_text())
    except (FileNotFoundError, ValueError):
        recorded = None
    if recorded == expected and not missing:
        return {"name": name, "result": True, "changes": {}, "comment": f"phase {phase} is complete"}
    changes = {phase: {"old": "complete for another configuration" if recorded else "", "new": "complete"}}
    if __opts__["test"]:
        return {"name": name, "result": None, "changes": changes, "comment": f"would run phase {phase}"}
    outcome = __salt__["caisson_kubeadm.run_phase"](phase)
    if outcome["retcode"] != 0:
        lines = (outcome["stdout"] + "\n" + outcome["stderr"]).strip().splitlines()[-20:]
        comment = f"kubeadm init phase {phase} exited with {outcome['retcode']}:\n" + "\n".join(lines)
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    absent = [path for path in produces or [] if not os.path.exists(path)]
    if absent:
        comment = f"kubeadm init phase {phase} succeeded, yet {', '.join(absent)} is not there"
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    _write_durably(stamp_file, json.dumps(expected, sort_keys=True) + "\n")
    return {"name": name, "result": True, "changes": changes, "comment": f"phase {phase} completed"}


def _write_durably(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)
