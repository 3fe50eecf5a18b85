# SPDX-License-Identifier: Apache-2.0
"""State: one phase of ``kubeadm init`` has been completed with what it reads at present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def phase_completed(
    name: str,
    phase: str,
    produces: list[str] | None = None,
    renews: list[str] | None = None,
    restarts: str = "",
) -> dict[str, Any]:
    """Make sure that ``phase`` (for example ``certs all``) was completed.

    It counts as completed when its stamp names what the phase reads at present and kubeadm's version, and every file
    in ``produces`` is there and not empty. When an earlier run has completed it for other inputs, the files in
    ``renews`` are removed first (kubeadm keeps what it finds), and what read them is started again afterwards:
    ``restarts`` is the name of a container, or ``daemonset/NAME`` in kube-system.
    """
    said: dict[str, Any] = {
        "name": name,
        "result": True,
        "changes": {},
        "comment": f"phase {phase} is complete",
    }
    if __opts__["test"] and not os.path.exists("/usr/bin/kubeadm"):
        return {**said, "result": None, "changes": {phase: "run"}, "comment": "kubeadm is not installed yet"}
    stamp_file = __salt__["caisson_kubeadm.stamp_file"](phase)
    expected, recorded = __salt__["caisson_kubeadm.expected_stamp"](phase), _read(stamp_file)
    if recorded == expected and not _missing(produces):
        return said
    if phase == "preflight" and (recorded or __salt__["caisson_kubeadm.has_living_control_plane"]()):
        return {**said, "comment": "kubeadm's preflight is about hosts without a control plane"}
    changes = {phase: {"old": "complete for another configuration" if recorded else "", "new": "complete"}}
    if __opts__["test"]:
        return {**said, "result": None, "changes": changes, "comment": f"would run phase {phase}"}
    _make_way(phase, renews or [], is_first=recorded is None)
    fault = _run(phase, produces, restarts if recorded else "")
    if fault:
        return {**said, "result": False, "comment": fault}
    _write_durably(stamp_file, json.dumps(expected, sort_keys=True) + "\n")
    return {**said, "changes": changes, "comment": f"phase {phase} completed"}


def _run(phase: str, produces: list[str] | None, restarts: str) -> str:
    """Run the phase, then start again what read its files; return "" or what went wrong."""
    outcome = __salt__["caisson_kubeadm.run_phase"](phase)
    if outcome["retcode"] != 0:
        lines = (outcome["stdout"] + "\n" + outcome["stderr"]).strip().splitlines()[-20:]
        return f"kubeadm init phase {phase} exited with {outcome['retcode']}:\n" + "\n".join(lines)
    absent = _missing(produces)
    if absent:
        return f"kubeadm init phase {phase} succeeded, yet {', '.join(absent)} is not there or empty"
    try:
        _restart(restarts)
    except RuntimeError as error:
        return str(error)
    return ""


def _read(stamp_file: Path) -> Any:
    try:
        return json.loads(stamp_file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _missing(produces: list[str] | None) -> list[str]:
    """Return the paths that are not there, or are there without a byte: what a power cut leaves."""
    return [path for path in produces or [] if not os.path.exists(path) or not os.path.getsize(path)]


def _make_way(phase: str, renews: list[str], *, is_first: bool) -> None:
    """Remove what kubeadm would keep: what a cut-off run has left, or what was made for another configuration."""
    if not is_first:
        for path in renews:
            Path(path).unlink(missing_ok=True)
    elif phase in ("certs all", "kubeconfig all"):
        __salt__["caisson_kubeadm.remove_unfinished"](phase)


def _restart(what: str) -> None:
    kind, _, workload = what.rpartition("/")
    if kind:
        rollout = ("--namespace", "kube-system", "rollout")
        __salt__["caisson_kubernetes.kubectl"](*rollout, "restart", what)
        __salt__["caisson_kubernetes.kubectl"](*rollout, "status", what, "--timeout=120s", timeout_s=150)
    elif workload:
        __salt__["caisson_kubeadm.restart_container"](workload)


def _write_durably(path: Path, text: str) -> None:
    """Write a stamp, after everything that it stands for is on the disk: a power cut may not leave it alone."""
    os.sync()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
