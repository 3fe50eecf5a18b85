# SPDX-License-Identifier: Apache-2.0
"""Say what a reset would do before it is done, and what it is not to touch.

Each phase of the reset makes a list of actions from what it finds; a dry run shows their words, a run carries them out.
So both look with the same eyes, and where nothing is found there is nothing to do: a reset that was cut goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import HostError, InstallerError, UsageError
from installer.base.files import write_file
from installer.base.mounts import Mount, read_mounts
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import Ui
from installer.config import changes
from installer.engine import traces
from installer.engine.journal import Journal
from installer.media.mounting import unit_name
from installer.media.product import Product

NAME = "reset"
NOTE_NAME = "reset.json"
LOOK_TIMEOUT_S = 20.0
UNIT_DIRS = (traces.UNITS_DIR, "/usr/lib/systemd/system", "/run/systemd/generator", "/run/systemd/system")
HOST_DIRS = (
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/run",
    "/sys",
    "/tmp",  # noqa: S108  nothing is written there
    "/usr",
    "/var",
)
"""Volumes of whole directories of the host are no data of the site's, nor is what lies in some of them."""
HOST_TREES = ("/dev/", "/etc/", "/lib/", "/proc/", "/run/", "/sys/", "/usr/", "/var/log", "/var/run")


@dataclass(frozen=True)
class Action:
    """One thing to do, in words, and how."""

    text: str
    do: Callable[[], object]


@dataclass(frozen=True)
class Noted:
    """What a reset found before it changed anything: what is kept (path -> why), and where it puts what it saves."""

    archive_dir: str
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResetContext:
    """What the phases of a reset work with: a host may be so broken that no configuration of it can be read."""

    paths: Paths
    ui: Ui
    journal: Journal
    noted: Noted
    product: Product
    others: dict[str, str] = field(default_factory=dict)
    """What was left behind in this run, path -> why."""

    def kept(self) -> list[Path]:
        """Return the places that stay; a disk of the host's that was mounted there since does, too."""
        return [self.paths.at(path) for path in {**self.noted.kept, **of_host(self.paths, read_mounts())}]


Plan = Callable[[ResetContext], Sequence[Action]]


def carry_out(context: ResetContext, *, plan: Plan) -> bool:
    """Do what a look at the host finds to do; return whether there was anything."""
    actions = plan(context)
    for action in actions:
        context.ui.progress(action.text)
        action.do()
        context.ui.detail(f"done: {action.text}")
    return bool(actions)


# ---- the note of what stays ------------------------------------------------------------------------------------


def read(paths: Paths) -> Noted | None:
    """Return what a reset that was begun has noted, or None."""
    try:
        data = json.loads((paths.state_dir / NOTE_NAME).read_text(encoding="utf-8"))
        return Noted(str(data["archive_dir"]), {str(key): str(value) for key, value in data["kept"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def refuse_begun(paths: Paths) -> None:
    """Refuse to make a node of a host that a reset has half taken back.

    Raises:
        HostError: a reset was begun and has not ended.
    """
    if (paths.state_dir / NOTE_NAME).exists():
        raise HostError(
            "a reset of this host was begun and has not ended",
            details=f"{paths.state_dir / NOTE_NAME} is there",
            resolution="end it first: caisson reset --yes, or bootstrap.sh reset --yes from the ISO",
        )


def write(paths: Paths, noted: Noted) -> bool:
    """Note it, on the disk; return whether that is new."""
    text = json.dumps({"archive_dir": noted.archive_dir, "kept": dict(noted.kept)}, indent=1)
    return write_file(paths.state_dir / NOTE_NAME, text + "\n", mode=0o600)


def look(paths: Paths, *, mounts: Sequence[Mount] | None = None) -> Noted:
    """Look what is the site's: volumes of its pods, mounts of the host's own, images in its registry."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    kept = {
        **of_host(paths, read_mounts() if mounts is None else mounts),
        **_of_pods(paths),
        **_pushed(paths),
    }
    return Noted(f"/var/log/caisson/before-reset-{stamp}", kept)


def with_kept(noted: Noted, places: Sequence[str], paths: Paths) -> Noted:
    """Return the note with what somebody has named as the site's.

    Raises:
        UsageError: such a place is none: it is the cluster's own, or the host's.
    """
    wrong = [place for place in places if not is_data(place)]
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)} cannot be kept: it is no directory of a site's",
            details="what the cluster or the host itself needs there goes with a reset, or is not touched by it",
            resolution="give the absolute path of the directory with the data, one --keep for each",
        )
    named = {place: "named with --keep" for place in places if paths.at(place).exists()}
    return Noted(noted.archive_dir, {**named, **noted.kept})


def of_host(paths: Paths, mounts: Sequence[Mount]) -> dict[str, str]:
    """Return the mounts in Caisson's directories that the host has on record: its own disks."""
    places = [mount.mount_point for mount in mounts if _is_below_a_tree(mount.mount_point)]
    return {place: "a mount of this host's own" for place in places if is_on_record(paths, place)}


def _is_below_a_tree(place: str) -> bool:
    return any(
        place.startswith(f"{tree}/") for tree in (*traces.TREES, *traces.MOUNT_ROOTS, traces.STATE_DIR)
    )


def is_on_record(paths: Paths, mount_point: str) -> bool:
    """Say whether /etc/fstab or a unit file of the host says that something is mounted there."""
    name = unit_name(Path(mount_point))
    if any((paths.at(directory) / name).exists() for directory in UNIT_DIRS):
        return True
    try:
        text = paths.at("/etc/fstab").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    fields = (line.split() for line in text.splitlines() if not line.lstrip().startswith("#"))
    return any(len(words) > 1 and words[1].replace("\\040", " ") == mount_point for words in fields)


def _pushed(paths: Paths) -> dict[str, str]:
    """Return the registry's directory when anybody has pushed an image into it."""
    directory = paths.at(traces.REGISTRY_DIR)
    has_files = any(file.is_file() for file in directory.rglob("*"))
    return {traces.REGISTRY_DIR: "images that were pushed to the registry"} if has_files else {}


def _of_pods(paths: Paths) -> dict[str, str]:
    """Return the volumes of the site's pods on this host, as far as the cluster still tells."""
    found: dict[str, str] = {}
    for item in _asked(paths, "pods", "--all-namespaces"):
        pod = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        if item["metadata"]["namespace"] == "kube-system":
            continue
        for volume in item["spec"].get("volumes", []):
            place = str((volume.get("hostPath") or {}).get("path", ""))
            if is_data(place):
                found[place] = f"a volume of the pod {pod}"
    for item in _asked(paths, "persistentvolumes"):
        spec = item["spec"]
        place = str((spec.get("local") or spec.get("hostPath") or {}).get("path", ""))
        if is_data(place):
            found[place] = f"the persistent volume {item['metadata']['name']}"
    return {place: why for place, why in found.items() if paths.at(place).exists()}


def is_data(place: str) -> bool:
    """Say whether a directory that a pod has as a volume is the site's data, by its path. Pure.

    >>> [is_data(place) for place in ("/srv/db", "/var/lib/kubelet/plugins/csi", "/var/lib/kubelet/db", "/proc", "")]
    [True, False, True, False, False]
    >>> [is_data(place) for place in ("/var/lib/etcd/./member", "//var/lib/etcd/member", "/srv//db/")]
    [False, False, True]
    """
    if not place.startswith("/") or ".." in place.split("/"):
        return False
    place = f"/{os.path.normpath(place).lstrip('/')}"
    if place in HOST_DIRS or place.startswith(HOST_TREES):
        return False
    for tree, own in traces.TREE_CONTENTS.items():
        if place == tree or tree.startswith(f"{place}/"):
            return False
        if place.startswith(f"{tree}/"):
            return own.match(place[len(tree) + 1 :].partition("/")[0]) is None
    trees = (*traces.TREES, traces.STATE_DIR, traces.PROGRAM_DIR, traces.CACHE_DIR, traces.MEDIA_DIR)
    return not any(place == tree or place.startswith(f"{tree}/") for tree in trees)


def _asked(paths: Paths, *words: str) -> list[dict[str, Any]]:
    """Return what the API server has of this node, asked as its administrator or its kubelet."""
    admin = paths.admin_kubeconfig_file
    kubelet = paths.at("/etc/kubernetes/kubelet.conf")
    file = admin if admin.exists() else kubelet
    name = own_node_name(paths)
    if not file.exists() or not name:
        return []
    selected = [f"--field-selector=spec.nodeName={name}"] if words[0] == "pods" else []
    command: list[str | Path] = [
        "kubectl",
        "--kubeconfig",
        file,
        "--request-timeout=10s",
        "get",
        *words,
        *selected,
        "--output=json",
    ]
    try:
        completed = run(command, timeout_s=LOOK_TIMEOUT_S, check=False)
        return list(json.loads(completed.stdout)["items"]) if completed.returncode == 0 else []
    except (InstallerError, ValueError, KeyError):
        return []


def own_node_name(paths: Paths) -> str:
    """Return the name that this host has in its cluster, by what it was told; empty when nothing says it."""
    caisson = changes.recorded(paths) or {}
    return str((caisson.get("node") or {}).get("name", ""))
