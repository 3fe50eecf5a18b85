# SPDX-License-Identifier: Apache-2.0
"""Start ``bootstrap.sh`` in a node and kill it at a chosen moment; take down where an installation ended.

Shared by the node tests and by ``tests/soak``.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.project import Project
from lab.cleanup import Process, end_process, process_of, read_nodes
from lab.errors import LabError
from lab.node import Node

ROOT_DIR = Path(__file__).parents[2]
BOOTSTRAP_TIMEOUT_S = 600.0
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
ANNOUNCED = re.compile(r"^\[ *\d+/\d+\] (?:CSP\d+ )?(?P<phase>[a-z-]+): ")
JOURNAL_FILE = "/var/lib/caisson/journal.jsonl"

#: What an installation leaves behind. Content is compared where it is the same on every host of that name and
#: address; of keys, certificates, passwords, tokens and what they are in only owner, mode and name.
#: What a minion notes of its own schedule (_schedule.conf) is other from hour to hour.
FOOTPRINT = """
find /etc/caisson /etc/cni /etc/containerd /etc/crictl.yaml /etc/firewalld /etc/hosts /etc/kubernetes \
  /etc/modules-load.d /etc/salt /etc/sysctl.d /etc/systemd/system /opt/caisson /opt/cni /srv/salt \
  /usr/bin/caisson /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  \\( -name __pycache__ -o -name calico-kubeconfig -o -name 'firewalld.conf.old' -o -name '*.xml.old' \
  -o -name _schedule.conf \\) -prune -o \\( -type f -o -type l \\) -printf '%m %u:%g %l %p\\n' 2>/dev/null | sort -k4
for manifest in /etc/kubernetes/manifests/*; do
  echo "$(grep -v -e caisson.io/configuration-sha256 -e '^  uid:' "$manifest" | sha256sum | cut -c 1-64)  $manifest"
done
find /etc/caisson /etc/cni /etc/containerd /etc/crictl.yaml /etc/firewalld /etc/hosts \
  /etc/modules-load.d /etc/salt /etc/sysctl.d /etc/systemd/system /opt/caisson /opt/cni /usr/bin/caisson \
  /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  \\( -name __pycache__ -o -name pki -o -path /etc/caisson/tls -o -name ca.crt -o -name calico-kubeconfig \
  -o -name '*.old' \
  -o -name registry-login -o -name registry-login.conf -o -name htpasswd -o -path '/etc/caisson/console/tls.*' \
  -o -name _schedule.conf \\) -prune -o -type f -print 2>/dev/null | sort | xargs sha256sum
rpm -qa | sort
rpm --verify --all --nodeps --noscripts | grep -E '^(..5|missing)' | grep -v '  c /' | sort
layers=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots
findmnt --list --noheadings --types overlay --output OPTIONS | grep -o 'lowerdir=[^,]*' | grep -oE '[0-9]+/fs' |
sort -u | while read -r layer; do
  echo "$(cd $layers/$layer && find . -type f -print0 | sort -z | xargs -0 -r sha256sum | sha256sum) layer that runs"
done | sort
crictl images --output json | python3 -c '
import json, sys
for image in json.load(sys.stdin)["images"]:
    print(sorted(image["repoTags"]), image["id"], image.get("pinned", False))' | sort
firewall-cmd --permanent --list-all-zones
systemctl list-unit-files --state=enabled,disabled --no-legend --no-pager | sort
"""


def lab_iso() -> Path:
    """Return the lab bundle that ``./doit.sh iso upstream=lab`` built."""
    file = Project(ROOT_DIR, "lab").iso_file
    assert file.is_file(), f"there is no {file}: ./doit.sh iso upstream=lab"
    return file


class Victim(enum.Enum):
    """What is killed: the installer alone (what it started lives on), with all that it started, or a command of its.

    ``POWER`` is the node as a whole, and what was not synced is lost. Or the installer is asked to stop.
    """

    INSTALLER = "installer"
    SESSION = "installer with all that it started"
    COMMAND = "command that the installer waits for"
    DNF = "dnf"
    POWER = "power"
    ASKED_BY_KEY = "installer, asked to stop by Ctrl-C"
    ASKED_BY_SIGTERM = "installer, asked to stop by SIGTERM"


ASKED = {Victim.ASKED_BY_KEY: signal.SIGINT, Victim.ASKED_BY_SIGTERM: signal.SIGTERM}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What to kill when: so long after a phase was announced (0: at its very beginning)."""

    phase: str
    delay_s: float = 0.0
    victim: Victim = Victim.INSTALLER

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


def install(node: Node, configuration: str = "") -> Ended:
    """Bootstrap a node calmly, from the ISO that is attached to it; it must end well."""
    ended = start(node, node.prepare_bootstrap(configuration))
    assert ended.returncode == 0, ended.output[-6000:]
    return ended


def start(
    node: Node, command: list[str], *, killed_at: Moment | None = None, timeout_s: float = BOOTSTRAP_TIMEOUT_S
) -> Ended:
    """Run ``bootstrap.sh`` to its end, or until its installer is killed (what that had started lives on)."""
    lines: list[str] = []
    phases = [""]
    found: list[Process] = []
    timers: list[threading.Timer] = []
    began = time.monotonic()

    is_dark = threading.Event()

    def end() -> None:
        if killed_at is not None:
            kill(node, found[0], killed_at.victim, on_dark=is_dark.set)

    def on_line(line: str) -> None:
        if is_dark.is_set():
            return  # its file system is gone and it is not killed yet: nobody would see what it says of that
        lines.append(line)
        announced = ANNOUNCED.match(line)
        if announced is None:
            return
        phases.append(announced["phase"])
        if killed_at is None:
            return
        if not found:
            found.append(installer_process(node))
        if killed_at.phase == announced["phase"]:
            timers.append(threading.Timer(killed_at.delay_s, end))
            timers[-1].start()

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


def kill(node: Node, installer: Process, victim: Victim, *, on_dark: Callable[[], None]) -> None:
    """Kill what a moment says, as far as it is there; ``on_dark`` is called just before power is cut."""
    started = descendants(installer)
    if victim is Victim.POWER:
        on_dark()
        node.cut_power()
    if victim in (Victim.INSTALLER, Victim.SESSION):
        end_process(installer)
    if victim in (Victim.SESSION, Victim.COMMAND):
        for process in started if victim is Victim.SESSION else started[:1]:
            end_process(process)
    if victim is Victim.DNF:
        end_process(_waited_for(started, "dnf"))
    if victim in ASKED:
        os.kill(installer.pid, ASKED[victim])


def descendants(process: Process) -> list[Process]:
    """Return what a process has started, and what that has, nearest first."""
    found: list[Process] = []
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += filter(None, map(process_of, map(int, children.read_text().split())))
    return [*found, *itertools.chain.from_iterable(map(descendants, found))]


def _waited_for(processes: Sequence[Process], name: str, patience_s: float = 10.0) -> Process | None:
    """Return the one with this name, which may be about to start below one of the others."""
    ends_at = time.monotonic() + patience_s
    while time.monotonic() < ends_at:
        for process in [*processes, *itertools.chain.from_iterable(map(descendants, processes))]:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process.pid}/comm").read_text().strip() == name:
                    return process
        time.sleep(0.05)
    return None


def installer_process(node: Node) -> Process:
    """Return the process that holds the installer's lock in the node, as this machine numbers it.

    Asked for once, beforehand: a kill must not be late by the time that it takes to enter the node.
    """
    leader = node.record.leader
    assert leader is not None
    namespace = Path(f"/proc/{leader.pid}/ns/pid").readlink()
    number = str(json.loads(Path(f"/proc/{leader.pid}/root/run/caisson.lock").read_text())["pid"])
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            numbers = re.search(r"^NSpid:(.*)$", (directory / "status").read_text(), re.MULTILINE)
            if (
                numbers
                and numbers[1].split()[-1] == number
                and (directory / "ns/pid").readlink() == namespace
            ):
                process = process_of(int(directory.name))
                if process is not None:
                    return process
    raise AssertionError(f"process {number} of {node.name} is not to be seen")


def killed(node: Node, command: list[str], moment: Moment) -> Ended:
    """Start the bootstrap and kill at a moment; a node whose power was cut boots again."""
    ended = start(node, command, killed_at=moment)
    if not node.is_up:
        boot_again(node)
    return ended


def boot_again(node: Node) -> None:
    """Boot the node after its power was cut, and mount the ISO as its operator would."""
    node.boot(degraded_ok=True)
    node.mount_iso()


def shell(node: Node, script: str, *, check: bool = True, timeout_s: float = 60) -> str:
    """Run a script in the node; return what it printed."""
    return node.run(["bash", "-c", script], check=check, timeout_s=timeout_s).stdout


def packages(node: Node) -> set[str]:
    """Return name, version, release and architecture of each installed package."""
    return set(shell(node, "rpm -qa").split())


def is_reached(neighbour: Node, address: str, port: int) -> bool:
    """Tell whether a neighbour gets a connection."""
    script = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null"
    return neighbour.run(["bash", "-c", script], check=False, timeout_s=10).returncode == 0


def repository_files(node: Node) -> str:
    """Return digest and name of each of the host's own repository files."""
    return node.run(
        ["bash", "-c", "sha256sum /etc/yum.repos.d/* /etc/dnf/dnf.conf"], timeout_s=30, check=False
    ).stdout


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
    return node.run(["bash", "-c", FOOTPRINT], timeout_s=180).stdout.splitlines()


def pods(node: Node) -> dict[str, str]:
    """Return namespace/name of each pod with its uid."""
    answer = node.run([*KUBECTL, "get", "pods", "--all-namespaces", "--output", "json"], timeout_s=60).stdout
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod["metadata"]["uid"]
        for pod in json.loads(answer)["items"]
    }


def unready(node: Node, pods_expected: int = 12) -> list[str]:
    """Return what is not Ready: nodes, pods, and the number of pods where it is another than expected."""
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
        expected = {"nodes": 1, "pods": pods_expected}[kind]
        if len(items) != expected:
            faults.append(
                f"{len(items)} {kind} instead of {expected}: {[i['metadata']['name'] for i in items]}"
            )
    return faults


def wait_ready(node: Node, timeout_s: float, pods_expected: int = 12) -> list[str]:
    """Wait until everything is Ready again; return what is not."""
    ends_at = time.monotonic() + timeout_s
    while (faults := unready(node, pods_expected)) and time.monotonic() < ends_at:
        time.sleep(1)
    return faults


def wait_ready_after_boot(node: Node, timeout_s: float) -> list[str]:
    """Wait until everything is Ready again by containers of this boot; return what is not.

    What the API server remembers of the time before says Ready too: the start of each container decides.
    """
    booted = shell(node, "date --utc --date=@$(sed -n 's/^btime //p' /proc/stat) +%FT%TZ")
    since = max(booted.strip(), shell(node, 'date --utc --date="$(ps -o lstart= -p 1)" +%FT%TZ').strip())
    ends_at = time.monotonic() + timeout_s
    faults = ["nothing was asked yet"]
    while faults and time.monotonic() < ends_at:
        time.sleep(1)
        try:
            faults = unready(node)
            started = "{range .items[*].status.containerStatuses[*]}{.state.running.startedAt}{'\\n'}{end}"
            query = f'{" ".join(KUBECTL)} get pods --all-namespaces --output jsonpath="{started}"'
            faults += [f"runs since {when}" for when in shell(node, query).split() if when < since]
        except LabError as error:  # the API server does not answer yet
            faults = [str(error)]
    return faults


def restarts(node: Node) -> dict[str, int]:
    """Return pod name -> restarts of all its containers, of those that restarted."""
    answer = node.run([*KUBECTL, "get", "pods", "--all-namespaces", "--output", "json"], timeout_s=60).stdout
    counted = {
        pod["metadata"]["name"]: sum(entry["restartCount"] for entry in pod["status"]["containerStatuses"])
        for pod in json.loads(answer)["items"]
    }
    return {name: count for name, count in counted.items() if count}


def has_begun(lab: str, node_name: str, phase: str) -> bool:
    """Tell whether the bootstrap of a node, of a lab that somebody else made, has begun a phase."""
    record = next((node for node in read_nodes(lab) if node.name == node_name), None)
    if record is None:
        return False
    try:
        text = (Path(record.root_dir) / JOURNAL_FILE.lstrip("/")).read_text()
    except OSError:
        return False
    return any(json.loads(line)["phase"] == phase for line in text.splitlines() if line.endswith("}"))
