# SPDX-License-Identifier: Apache-2.0
"""Disks of bootstrapped nodes, kept by what made them: a copy of one boots as the same node, its cluster with it.

    with Lab() as lab:
        node = start_bootstrapped_node(lab, "node1", iso=Path("_out/caisson-VERSION-BUILD-lab.iso"))

    <cache>/lab/bootstrapped/<digest>.xfs     the disk as the node's shutdown left it, renamed into place when complete
    <cache>/lab/bootstrapped/<digest>.lock    held (flock) while it is made, copied or removed

The first that wants a disk bootstraps the node; whatever changes in the ISO, the configuration or the node's root
gives another digest. The newest few are kept: one takes 2.5 GB.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab import node, places
from lab.cache import digest_of, file_sha256, lab_dir, locked
from lab.errors import LabError
from lab.node import Lab, Node, bootstrap_config, require_iso
from lab.places import GATEWAY
from lab.run import run

KEPT_DISKS = 3
BOOTSTRAP_TIMEOUT_S = 900.0
READY_TIMEOUT_S = 240.0
POLL_S = 1.0
NAMESPACE = "kube-system"
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
_SOURCES = (__file__, node.__file__, places.__file__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes a bootstrapped disk; two recipes that differ in anything make two disks."""

    name: str
    iso: Path
    root_image: Path
    configuration: str = ""
    nameserver: str | None = GATEWAY

    @property
    def disk_file(self) -> Path:
        """Return where the disk is kept, made or not."""
        parts: dict[str, str | bytes] = {
            "configuration": self.configuration or bootstrap_config(self.name),
            "iso": iso_sha256(self.iso),
            # The disk mounts it by its name.
            "iso name": self.iso.name,
            "name": self.name,
            "nameserver": str(self.nameserver),
            "root": self.root_image.parent.name,
            **{Path(source).name: Path(source).read_bytes() for source in _SOURCES},
        }
        return kept_dir() / f"{digest_of(parts)}.xfs"


def kept_dir() -> Path:
    """Return the directory of the kept disks."""
    return lab_dir("bootstrapped")


def iso_sha256(iso: Path) -> str:
    """Return the digest of an ISO file: what stands in its ``.sha256``, unless the ISO was written later.

    Raises:
        LabError: there is no such ISO.
    """
    require_iso(iso)
    said = iso.with_name(f"{iso.name}.sha256")
    if said.is_file() and said.stat().st_mtime_ns >= iso.stat().st_mtime_ns:
        for line in said.read_text().splitlines():
            digest, _, name = line.partition("  ")
            if name == iso.name and len(digest) == 64:
                return digest
    return file_sha256(iso)


def start_bootstrapped_node(
    lab: Lab,
    name: str,
    *,
    iso: Path,
    configuration: str = "",
    nameserver: str | None = GATEWAY,
    say: Callable[[str], None] = lambda _line: None,
) -> Node:
    """Start a node with a cluster and wait until all of it is Ready; from a kept disk, which is made if need be.

    Name, addresses, machine-id, keys and certificates are those of the disk, whatever the lab. ``say`` is handed each
    line that a bootstrap prints.

    Raises:
        LabError: it could not be bootstrapped, did not boot, or was not Ready in time.
    """
    recipe = Recipe(
        name=name, iso=iso, root_image=lab.root_image, configuration=configuration, nameserver=nameserver
    )
    disk_file = recipe.disk_file
    with _locked(disk_file):
        if disk_file.is_file():
            os.utime(disk_file)
            since = time.time()
            made = lab.start_node(name, iso=iso, disk=disk_file)
        else:
            made = lab.start_node(name, iso=iso, nameserver=nameserver)
            _bootstrap(made, configuration, say)
            _keep(made, disk_file)
            since = time.time()
            made.boot()
    wait_ready(made, since=since)
    return made


def keep_disk(lab: Lab, bootstrapped: Node, *, iso: Path, configuration: str = "") -> bool:
    """Keep the disk of a node that somebody else bootstrapped, and leave the node powered off; False: it is kept.

    Then the node is left as it is. Its nameserver is taken to be the lab's.
    """
    name = bootstrapped.name
    recipe = Recipe(name=name, iso=iso, root_image=lab.root_image, configuration=configuration)
    disk_file = recipe.disk_file
    with _locked(disk_file):
        if disk_file.is_file():
            return False
        _keep(bootstrapped, disk_file)
    return True


def wait_ready(booted: Node, *, since: float, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until the API answers and the node and each system pod are Ready by containers started after ``since``.

    What the API server remembers of an earlier boot says Ready too: the start of each container decides.

    Raises:
        LabError: something is not Ready in time.
    """
    moment = datetime.fromtimestamp(int(since), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ends_at = time.monotonic() + timeout_s
    while faults := _unready(booted, moment):
        if time.monotonic() > ends_at:
            raise LabError(
                f"the cluster of {booted.name} is not Ready {timeout_s:g} s after the boot",
                details="\n".join(faults),
                resolution=f"see 'caisson status' in it: .venv/bin/python -m lab node enter {booted.name}",
            )
        time.sleep(POLL_S)


def kept_disks() -> tuple[Path, ...]:
    """Return the kept disks, the one used last first."""
    return tuple(sorted(kept_dir().glob("*.xfs"), key=lambda file: file.stat().st_mtime_ns, reverse=True))


def size_bytes() -> int:
    """Return what the kept disks take on this machine's own disk."""
    return sum(file.stat().st_blocks * 512 for file in kept_disks())


def drop_disks(keep: int = 0) -> int:
    """Remove all kept disks but the newest few, and what was left of one half made; return how many disks went.

    One that another run makes or copies just now is left alone.
    """
    newest = kept_disks()[:keep]
    removed = 0
    for lock_file in kept_dir().glob("*.lock"):
        disk_file = lock_file.with_suffix(".xfs")
        if disk_file in newest:
            continue
        with _locked_if_free(lock_file) as is_ours:
            if is_ours:
                removed += disk_file.is_file()
                disk_file.unlink(missing_ok=True)
                _half_made(disk_file).unlink(missing_ok=True)
    return removed


def _bootstrap(made: Node, configuration: str, say: Callable[[str], None]) -> None:
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        say(line)

    since = time.time() - 1e6  # nothing of an earlier boot is there
    code = made.stream(made.prepare_bootstrap(configuration), on_line, timeout_s=BOOTSTRAP_TIMEOUT_S)
    if code != 0:
        raise LabError(f"bootstrap.sh exited with {code} in {made.name}", details="\n".join(lines[-40:]))
    wait_ready(made, since=since)


def _keep(bootstrapped: Node, disk_file: Path) -> None:
    """Power the node off and copy its disk, in one piece for whoever looks; make room by removing old ones."""
    bootstrapped.power_off()
    half_made = _half_made(disk_file)
    try:
        run(["cp", "--reflink=auto", "--sparse=always", bootstrapped.places.image_file, half_made])
        half_made.chmod(0o600)  # keys of a cluster are on it
        run(["sync", half_made])
        half_made.rename(disk_file)
    except BaseException:
        half_made.unlink(missing_ok=True)
        raise
    drop_disks(KEPT_DISKS)


def _half_made(disk_file: Path) -> Path:
    return disk_file.with_name(f".{disk_file.stem}.half")


@contextmanager
def _locked(disk_file: Path) -> Iterator[None]:
    disk_file.parent.mkdir(parents=True, exist_ok=True)
    with locked(disk_file.with_suffix(".lock")):
        yield


@contextmanager
def _locked_if_free(lock_file: Path) -> Iterator[bool]:
    with lock_file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _unready(booted: Node, since: str) -> list[str]:
    query = [*KUBECTL, "get", "nodes,pods", "--namespace", NAMESPACE, "--output", "json"]
    done = booted.run(query, check=False, timeout_s=60)
    if done.returncode != 0:
        return [f"the API does not answer: {done.stderr.strip()[-300:]}"]
    return unready_of(json.loads(done.stdout)["items"], since)


def unready_of(items: list[dict[str, Any]], since: str) -> list[str]:
    """Return a line for each node and pod that is not Ready by containers that were started at ``since`` or later."""
    faults = [] if {item["kind"] for item in items} == {"Node", "Pod"} else ["no node or no pod"]
    for item in items:
        status, name = item["status"], f"{item['kind']} {item['metadata']['name']}"
        conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
        states = [entry["state"] for entry in status.get("containerStatuses", [])]
        started = [state.get("running", {}).get("startedAt", "") for state in states]
        is_of_this_boot = item["kind"] == "Node" or min(started, default="") >= since
        if conditions.get("Ready") != "True" or not is_of_this_boot:
            faults.append(f"{name}: Ready {conditions.get('Ready')}, containers started {started}")
    return faults
