# SPDX-License-Identifier: Apache-2.0
"""States: one phase of ``kubeadm init`` has been completed with what it reads; what others have made is left alone.

A phase that writes static pods has ended when those run: the pod of before answers for a while after its manifest was
written, and what comes next would be asked of it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

SETTLED_TIMEOUT_S = 240
POLL_S = 0.5
BEFORE = ".before"


def control_plane_fits(name: str) -> dict[str, Any]:
    """Make sure that a control plane that others have made is one of this very cluster; nothing is changed."""
    said: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": "there is none of others"}
    if not __salt__["caisson_kubeadm.is_left_alone"]():
        return said
    lines = __salt__["caisson_preflight.control_plane_differences"]()
    if lines:
        comment = "this host has a control plane of another origin:\n" + "\n".join(lines)
        return {**said, "result": False, "comment": comment}
    return {**said, "comment": "a control plane of this cluster is there: left alone"}


def phase_completed(
    name: str,
    phase: str,
    produces: list[str] | None = None,
    renews: list[str] | None = None,
    restarts: str = "",
) -> dict[str, Any]:
    """Make sure that ``phase`` (for example ``certs all``) was completed.

    It counts as completed when its stamp names what the phase reads at present and kubeadm's version, no run since has
    begun without coming to its end, every file in ``produces`` is there and not empty, and so are an addon's objects
    in the cluster. When an earlier run has
    completed it for other inputs, the files in ``renews`` are put aside first (kubeadm keeps what it finds; a phase
    that fails gets them back), and what read them is started again afterwards: ``restarts`` is the name of a
    container, or ``daemonset/NAME`` in kube-system. A control plane of others is left alone.
    """
    said: dict[str, Any] = {"name": name, "result": True, "changes": {}}
    if __opts__["test"] and not os.path.exists("/usr/bin/kubeadm"):
        return {**said, "result": None, "changes": {phase: "run"}, "comment": "kubeadm is not installed yet"}
    stamp_file = __salt__["caisson_kubeadm.stamp_file"](phase)
    expected, recorded = __salt__["caisson_kubeadm.expected_stamp"](phase), _read(stamp_file)
    before_file = stamp_file.with_suffix(BEFORE)
    is_complete = recorded == expected and not before_file.exists() and not _missing(produces)
    try:
        gone = __salt__["caisson_kubeadm.lacks_objects"](phase) if is_complete else ""
    except RuntimeError as error:
        return {**said, "result": False, "comment": str(error)}
    why_not = _why_not(phase, is_complete=is_complete and not gone, recorded=recorded)
    if why_not:
        return {**said, "comment": why_not}
    old = f"without {gone}" if gone else "complete for another configuration"
    changes = {phase: {"old": old if recorded else "", "new": "complete"}}
    if __opts__["test"]:
        return {**said, "result": None, "changes": changes, "comment": f"would run phase {phase}"}
    before = _begun(before_file, phase) if recorded is not None else {}
    aside = _make_way(phase, renews or [], is_first=recorded is None)
    fault = _run(phase, produces, restarts if recorded else "")
    _put_back(aside, has_failed=bool(fault))
    fault = fault or _until_settled(phase, before)
    if fault:
        if recorded is not None:
            _write_durably(before_file, "{}\n")  # begun, and what runs is to be looked at afresh
        return {**said, "result": False, "comment": fault}
    os.sync()  # a stamp is on the disk after everything that it speaks for: a power cut may not leave it alone
    _write_durably(stamp_file, json.dumps(expected, sort_keys=True) + "\n")
    before_file.unlink(missing_ok=True)
    return {**said, "changes": changes, "comment": f"phase {phase} completed"}


def _why_not(phase: str, *, is_complete: bool, recorded: Any) -> str:
    """Say why ``phase`` is not run; "" when it is."""
    if __salt__["caisson_kubeadm.is_left_alone"]():
        return "the control plane was here before Caisson: left alone"
    if is_complete:
        return f"phase {phase} is complete"
    if phase == "preflight" and (recorded or __salt__["caisson_kubeadm.has_living_control_plane"]()):
        return "kubeadm's preflight is about hosts without a control plane"
    return ""


def _run(phase: str, produces: list[str] | None, restarts: str) -> str:
    """Run the phase, then start again what read its files; return "" or what went wrong."""
    unsigned: str = __salt__["caisson_kubeadm.unsigned_names"](phase)
    if unsigned:
        return f"{unsigned}: have it signed for them, or put the key there for this run"
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


def _make_way(phase: str, renews: list[str], *, is_first: bool) -> list[Path]:
    """Clear away what kubeadm would keep: what a cut-off run has left, or what was made for another configuration.

    Return what was put aside, also by a run that was killed: its halves go, what it put aside is what was whole.
    Without the authority's key all stays: what the site had signed is then judged.
    """
    if is_first:
        if phase in ("certs all", "kubeconfig all"):
            __salt__["caisson_kubeadm.remove_unfinished"](phase)
        return []
    if not renews or __salt__["caisson_kubeadm.cannot_sign"](phase):
        return []
    for path in map(Path, renews):
        if _aside(path).exists():
            path.unlink(missing_ok=True)
        elif path.exists():
            path.replace(_aside(path))
    return [path for path in map(Path, renews) if _aside(path).exists()]


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".before")


def _put_back(moved: list[Path], *, has_failed: bool) -> None:
    """Give a phase that failed its files back: what runs reads them again when it is started again."""
    for path in moved:
        if has_failed:
            _aside(path).replace(path)
        else:
            _aside(path).unlink(missing_ok=True)


def _begun(before_file: Path, phase: str) -> dict[str, Any]:
    """Note that a phase is run again; return which static pods ran before.

    As long as the note is there the stamp of before proves nothing: a run that was cut off or failed has changed
    files, also when the configuration is then put back. After a kill it tells which pods are those of before.
    """
    noted = _read(before_file)
    if isinstance(noted, dict) and noted:
        return noted
    found: dict[str, Any] = __salt__["caisson_kubeadm.static_pods"](phase)
    _write_durably(before_file, json.dumps(found, sort_keys=True) + "\n")
    return found


def _until_settled(phase: str, before: dict[str, Any]) -> str:
    """Wait until the static pods are those of their manifests, and Ready; return "" or what is not."""

    def probe() -> str:
        return "\n".join(__salt__["caisson_kubeadm.unsettled"](before))

    try:
        __salt__["caisson_result.until"](probe, SETTLED_TIMEOUT_S, interval_s=POLL_S)
    except RuntimeError as error:
        return (
            f"kubeadm init phase {phase} succeeded, yet its static pods are not as they should be:\n{error}"
        )
    return ""


def _restart(what: str) -> None:
    kind, _, workload = what.rpartition("/")
    if kind:
        rollout = ("--namespace", "kube-system", "rollout")
        __salt__["caisson_kubernetes.kubectl"](*rollout, "restart", what)
        __salt__["caisson_kubernetes.kubectl"](*rollout, "status", what, "--timeout=120s", timeout_s=150)
    elif workload:
        __salt__["caisson_kubeadm.restart_container"](workload)


def _write_durably(path: Path, text: str) -> None:
    """Write a stamp or a note, in one piece and to the disk."""
    __salt__["caisson_installer.call"]("installer.base.files", "write_file", path, text)
