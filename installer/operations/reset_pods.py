# SPDX-License-Identifier: Apache-2.0
"""Stop what runs on a node, in the order in which nothing starts it again: the kubelet, the pods, the services.

A pod with a network of its own is stopped while the API server still runs: the network's plugin gives its address back
there. Static pods come last, and crictl's is their real stop: what kubectl deletes is a mirror only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from installer.base import processes
from installer.base.errors import CommandError, HostError
from installer.base.run import Completed, run
from installer.base.units import parse_units
from installer.engine import traces
from installer.operations.reset_plan import Action, ResetContext

SOURCE = "kubernetes.io/config.source"
"""The kubelet's annotation: ``file`` for a static pod. Source: Kubernetes, pkg/kubelet/types/pod_update.go."""
FIRST_POD = "keepalived"
"""It gives the shared address away before what it leads to stops."""
FIRST_TITLE = f"pod of {FIRST_POD}"
GRACE_S = 10
STOP_LIMIT_S = 60.0
"""For all pods of a round, side by side; the kubelet's own limit for one is 30 s."""
UNIT_LIMIT_S = 120.0
CGROUPS_DIR = "/sys/fs/cgroup"
SHIM = "containerd-shim"
SHIM_OPTIONS = ("-namespace", "k8s.io")
ENDED_LIMIT_S = 5.0
STARTED_STATES = ("active", "activating", "reloading", "deactivating", "failed")


def plan_kubelet(context: ResetContext) -> Sequence[Action]:
    """Stop the kubelet: it would start each pod again."""
    del context
    return _stops([traces.KUBELET_UNIT])


def plan_services(context: ResetContext) -> Sequence[Action]:
    """Stop Caisson's services and those that it has set up, once no pod needs them; then the groups of pods go."""
    return [*_stops(traces.LATER_UNITS), *plan_groups(context)]


def _stops(units: Sequence[str]) -> list[Action]:
    words = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", "--", *units]
    found = parse_units(run(words, timeout_s=30, check=False).stdout)
    running = [
        unit
        for unit in units
        if found.get(unit, {}).get("ActiveState") in STARTED_STATES
        or found.get(unit, {}).get("UnitFileState") == "enabled"
    ]
    return [Action(f"stop and disable {', '.join(running)}", partial(_stop, running))] if running else []


def _stop(units: Sequence[str]) -> None:
    run(["systemctl", "disable", "--now", *units], timeout_s=UNIT_LIMIT_S)
    run(["systemctl", "reset-failed", *units], timeout_s=30, check=False)


# ---- pods ------------------------------------------------------------------------------------------------------


def plan_pods(context: ResetContext) -> Sequence[Action]:
    """Stop and remove all pods: those with a network of their own, then the static ones; then what is left of any."""
    del context
    actions = []
    for title, ids in rounds(_crictl_pods()):
        stop = _give_away if title == FIRST_TITLE else _stop_pods
        actions.append(Action(f"stop {len(ids)} {title}", partial(stop, ids)))
    shims = left_shims()
    if actions or shims:
        said = f"; of {len(shims)} containers something runs now" if shims else ""
        actions.append(Action(f"end what is left of containers{said}", end_left))
    return actions


def plan_groups(context: ResetContext) -> Sequence[Action]:
    """Remove the control groups of pods, which nobody else does where systemd did not make them."""
    root = context.paths.at(CGROUPS_DIR)
    groups = [group for group in (*root.glob("kubepods*"), *root.glob("*/kubepods*")) if _is_idle(group)]
    return (
        [Action(f"remove {len(groups)} control groups of pods", partial(_remove_groups, groups))]
        if groups
        else []
    )


def _is_idle(group: Path) -> bool:
    return group.is_dir() and not any(_processes(place) for place in (group, *_below(group)))


def _processes(group: Path) -> str:
    try:
        return (group / "cgroup.procs").read_text(encoding="ascii")
    except OSError:
        return ""


def _below(group: Path) -> list[Path]:
    """Return the groups below one, the deepest first."""
    return sorted(
        (place for place in group.rglob("*") if place.is_dir()), key=lambda place: -len(place.parts)
    )


def _remove_groups(groups: Sequence[Path]) -> None:
    for group in groups:
        for place in (*_below(group), group):
            with contextlib.suppress(OSError):  # one that has got a process since stays
                place.rmdir()


def rounds(pods: Iterable[dict[str, object]]) -> list[tuple[str, list[str]]]:
    """Return the pods in the order in which they are stopped: title and IDs. Pure."""
    titles = (FIRST_TITLE, "pods", "static pods")
    found: dict[str, list[str]] = {title: [] for title in titles}
    for pod in pods:
        annotations, metadata = pod.get("annotations") or {}, pod.get("metadata") or {}
        is_static = isinstance(annotations, dict) and annotations.get(SOURCE) == "file"
        name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
        is_first = is_static and name.startswith(f"{FIRST_POD}-")
        found[titles[0] if is_first else titles[2] if is_static else titles[1]].append(str(pod["id"]))
    return [(title, ids) for title, ids in found.items() if ids]


def _crictl_pods() -> list[dict[str, object]]:
    answer = _crictl("pods", "--output=json", timeout_s=20.0)
    try:
        return list(json.loads(answer.stdout)["items"])
    except (ValueError, KeyError, TypeError):
        return []  # no containerd answers: what still runs has shims


def _crictl(*words: str, timeout_s: float) -> Completed:
    try:
        return run(["crictl", "--timeout=20s", *words], timeout_s=timeout_s, check=False)
    except (CommandError, HostError) as exc:  # it hangs, or is not installed
        return Completed(1, "", exc.message)


def _give_away(ids: Sequence[str]) -> None:
    """Let the containers end by themselves first: one that is killed leaves the address on its interface."""
    for pod_id in ids:
        containers = _crictl("ps", "--quiet", "--pod", pod_id, timeout_s=20.0).stdout.split()
        if containers:
            _crictl("stop", f"--timeout={GRACE_S}", *containers, timeout_s=STOP_LIMIT_S)
    _stop_pods(ids)


def _stop_pods(ids: Sequence[str]) -> None:
    """Stop pods and remove them; one that cannot be is ended with its shim afterwards."""
    _crictl("rmp", "--force", *ids, timeout_s=STOP_LIMIT_S)


# ---- what a containerd that was killed has left ----------------------------------------------------------------------


def left_shims(proc_dir: Path = processes.PROC_DIR) -> list[int]:
    """Return the shims of the kubelet's containers that run: other users of containerd have other namespaces."""
    found = []
    for directory in proc_dir.glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().decode("utf-8", errors="replace").split("\0")
        except OSError:
            continue
        pairs = set(zip(words, words[1:]))
        if Path(words[0]).name.startswith(SHIM) and SHIM_OPTIONS in pairs:
            found.append(int(directory.name))
    return sorted(found)


def end_left() -> None:
    """Kill the shims that are left, and all that they have started."""
    shims = left_shims()
    doomed = [*shims, *descendants(shims)]
    for number in doomed:
        _kill(number)
    deadline = time.monotonic() + ENDED_LIMIT_S
    while any(_is_living(number) for number in doomed) and time.monotonic() < deadline:
        time.sleep(0.05)


def descendants(parents: Sequence[int], proc_dir: Path = processes.PROC_DIR) -> list[int]:
    """Return all that these processes have started, and what that has."""
    children: dict[int, list[int]] = {}
    for directory in proc_dir.glob("[0-9]*"):
        try:
            after_name = (directory / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            children.setdefault(int(after_name.split()[1]), []).append(int(directory.name))
        except (OSError, ValueError, IndexError):
            continue
    found: list[int] = []
    waiting = list(parents)
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_living(number: int) -> bool:
    found = processes.find(number)
    return found is not None and found.state != "Z"
