# SPDX-License-Identifier: Apache-2.0
"""Start ``bootstrap.sh`` in a node and kill it at a chosen moment; take down where an installation ended.

Shared by the node tests and by ``tests/soak``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.node import Node, bootstrap_config

OUT_DIR = Path(__file__).parents[2] / "_out"
BOOTSTRAP_TIMEOUT_S = 600.0
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
ANNOUNCED = re.compile(r"^\[ *\d+/\d+\] (?P<phase>[a-z-]+): ")
JOURNAL_FILE = "/var/lib/caisson/journal.jsonl"

#: SIGKILL to the process that holds the installer's lock, as the node numbers it: to that one and no other.
KILL_INSTALLER = """
pid=$(sed -n 's/.*"pid": \\([0-9]*\\),.*/\\1/p' /run/caisson.lock 2>/dev/null)
[[ -n $pid ]] && kill -KILL "$pid"
"""

#: What an installation leaves behind. Content is compared where it is the same on every host of that name and
#: address; of keys, certificates, tokens and what they are in only owner, mode and name.
FOOTPRINT = """
find /etc/caisson /etc/cni /etc/containerd /etc/crictl.yaml /etc/firewalld /etc/hosts /etc/kubernetes \
  /etc/modules-load.d /etc/salt /etc/sysctl.d /etc/systemd/system /opt/caisson /opt/cni /srv/salt \
  /usr/bin/caisson /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  \\( -name __pycache__ -o -name calico-kubeconfig -o -name 'firewalld.conf.old' -o -name '*.xml.old' \\) -prune -o \
  \\( -type f -o -type l \\) -printf '%m %u:%g %l %p\\n' 2>/dev/null | sort -k4
find /etc/caisson /etc/cni /etc/containerd /etc/crictl.yaml /etc/firewalld /etc/hosts /etc/kubernetes/manifests \
  /etc/modules-load.d /etc/salt /etc/sysctl.d /etc/systemd/system /opt/caisson /usr/bin/caisson \
  /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  \\( -name __pycache__ -o -name pki -o -name calico-kubeconfig -o -name '*.old' \\) -prune -o \
  -type f -print 2>/dev/null | sort | xargs sha256sum
rpm -qa | sort
crictl images --output json | python3 -c '
import json, sys
for image in json.load(sys.stdin)["images"]:
    print(sorted(image["repoTags"]), image["id"], image.get("pinned", False))' | sort
firewall-cmd --permanent --list-all-zones
systemctl list-unit-files --state=enabled,disabled --no-legend --no-pager | sort
"""


def lab_iso() -> Path:
    """Return the lab bundle that ``./doit.sh iso upstream=lab`` built."""
    found = sorted(OUT_DIR.glob("caisson-*-lab.iso"))
    assert len(found) == 1, f"one lab ISO is wanted in {OUT_DIR}, found {found}: ./doit.sh iso upstream=lab"
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to kill: so long after a phase was announced (0: at its very beginning)."""

    phase: str
    delay_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.phase} + {self.delay_s:.1f} s" if self.delay_s else f"start of {self.phase}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one start of ``bootstrap.sh`` ended. ``phase``: the last one that it announced."""

    returncode: int
    output: str
    phase: str
    seconds: float
    was_killed: bool = False

    @property
    def faults(self) -> list[str]:
        """Return the lines that speak of an error or a failure."""
        return [line for line in self.output.splitlines() if re.search(r"\berror\b|FAILED|Traceback", line)]


def prepare(node: Node) -> list[str]:
    """Write the lab's configuration, mount the ISO, and return the command that bootstraps the node."""
    node.write_file("/root/bootstrap.yaml", bootstrap_config(node.name, cluster_name="lab"), 0o600)
    media_dir = node.mount_iso()
    return [f"{media_dir}/bootstrap.sh", "--config", "/root/bootstrap.yaml", "--accept-lab-bundle"]


def start(
    node: Node, command: list[str], *, killed_at: Moment | None = None, timeout_s: float = BOOTSTRAP_TIMEOUT_S
) -> Ended:
    """Run ``bootstrap.sh`` to its end, or until its installer is killed (what that had started lives on)."""
    lines: list[str] = []
    phases = [""]
    timers: list[threading.Timer] = []
    began = time.monotonic()

    def on_line(line: str) -> None:
        lines.append(line)
        announced = ANNOUNCED.match(line)
        if announced:
            phases.append(announced["phase"])
            if killed_at is not None and killed_at.phase == announced["phase"]:
                timers.append(_timer(killed_at.delay_s, lambda: kill_installer(node)))

    try:
        returncode = node.stream(command, on_line, timeout_s=timeout_s)
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
    return Ended(
        returncode=returncode,
        output="\n".join(lines),
        phase=phases[-1],
        seconds=time.monotonic() - began,
        was_killed=returncode in (-9, 137),
    )


def kill_installer(node: Node) -> None:
    """Send SIGKILL to the installer that works in the node, if one does."""
    node.run(["bash", "-c", KILL_INSTALLER], check=False, timeout_s=30)


def power_cut(node: Node, command: list[str]) -> list[str]:
    """End everything in the node at once, boot it, mount the ISO again; return the command to go on with."""
    node.stop()
    node.boot(degraded_ok=True)
    node.mount_iso()
    return command


def journal(node: Node) -> list[dict[str, Any]]:
    """Return the entries of the installer's journal; none if there is no journal yet."""
    text = node.run(["cat", JOURNAL_FILE], check=False, timeout_s=30).stdout
    return [json.loads(line) for line in text.splitlines() if line]


def phase_seconds(node: Node) -> dict[str, float]:
    """Return how long each phase took the first time that it ended well, in the order of the phases."""
    seconds: dict[str, float] = {}
    for entry in journal(node):
        if entry["event"] == "done":
            seconds.setdefault(entry["phase"], float(entry["seconds"]))
    return seconds


def footprint(node: Node) -> list[str]:
    """Return what an installation left on the node, one line each: files, packages, images, zones, units."""
    return node.run(["bash", "-c", FOOTPRINT], timeout_s=60).stdout.splitlines()


def pods(node: Node) -> dict[str, str]:
    """Return namespace/name of each pod with its uid."""
    answer = node.run([*KUBECTL, "get", "pods", "--all-namespaces", "--output", "json"], timeout_s=60).stdout
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod["metadata"]["uid"]
        for pod in json.loads(answer)["items"]
    }


def unready(node: Node) -> list[str]:
    """Return what is not Ready: nodes, pods, and the number of pods where it is not the usual one."""
    faults = []
    for kind in ("nodes", "pods"):
        answer = node.run(
            [*KUBECTL, "get", kind, "--all-namespaces", "--output", "json"], timeout_s=60
        ).stdout
        items = json.loads(answer)["items"]
        for item in items:
            conditions = {entry["type"]: entry["status"] for entry in item["status"].get("conditions", [])}
            if conditions.get("Ready") != "True":
                faults.append(f"{kind} {item['metadata']['name']}: {conditions}")
        expected = {"nodes": 1, "pods": 12}[kind]
        if len(items) != expected:
            faults.append(
                f"{len(items)} {kind} instead of {expected}: {[i['metadata']['name'] for i in items]}"
            )
    return faults


def _timer(delay_s: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.daemon = True
    timer.start()
    return timer
