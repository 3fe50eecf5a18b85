# SPDX-License-Identifier: Apache-2.0
"""A cluster that grows from one node to several by one ``nodes.yaml``, shared by all tests of what is added to it.

Three nodes for every commit, five for ``tests/soak``: two processors have enough to do with three. node1 boots from a
kept disk; the others are bare hosts that are logged in to by a key, and one address of the list is nobody's. There is
no VIP: whoever asks the API finds all control planes behind the endpoint's name.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab import cleanup, hosts, kept
from lab.errors import LabError
from lab.node import Lab, Node
from tests.node import snapshot
from tests.node.installing import KUBECTL, lab_iso, shell

#: More than the goals: beside other labs a node takes longer. The bench measures.
ADD_TIMEOUT_S = 600.0
GROW_TIMEOUT_S = 1500.0
BACK_TIMEOUT_S = 240.0
FORGOTTEN_S = 60.0

Roles = Mapping[str, str]
THREE: Roles = {hosts.FIRST: hosts.CONTROL_PLANE, "node2": hosts.CONTROL_PLANE, "node3": hosts.WORKER}
FIVE: Roles = {hosts.FIRST: hosts.CONTROL_PLANE, **hosts.further(hosts.MOST_NODES)}
AWAY = {"address": "10.77.1.99", "name": "away", "identity": hosts.IDENTITY_FILE, "role": hosts.WORKER}
#: What the list asks for of the first worker.
MARKS: Mapping[str, Any] = {"labels": {"rack": "r1"}, "taints": ["gpu=yes:PreferNoSchedule"]}


@dataclass(frozen=True)
class Site:
    """Control planes and workers, by name.

    ``words`` name a host on the command line of ``node add``; ``before``: what the last one was before it joined;
    ``listed``: the lines that the command printed that added them all.
    """

    lab: Lab
    roles: Roles = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)

    @property
    def driver(self) -> Node:
        """Return the bootstrap node."""
        return self.nodes["node1"]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all nodes, the bootstrap node first, workers last."""
        return tuple(self.roles)

    @property
    def control_planes(self) -> tuple[str, ...]:
        """Return the names of the control planes."""
        return tuple(name for name, role in self.roles.items() if role == hosts.CONTROL_PLANE)

    @property
    def worker_name(self) -> str:
        """Return the name of the first worker, which has labels and taints."""
        return next(name for name, role in self.roles.items() if role == hosts.WORKER)

    @property
    def worker(self) -> Node:
        """Return the first worker."""
        return self.nodes[self.worker_name]

    def is_whole(self) -> bool:
        """Tell whether all nodes are there, no other is, and each is Ready."""
        return self.ready() == all_ready(*self.names)

    def caisson(self, *words: str, code: int = 0) -> str:
        """Run caisson on the bootstrap node; it must end with this code. Return what it printed."""
        done = self.driver.run(["caisson", *words], timeout_s=ADD_TIMEOUT_S, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def add(self, name: str) -> str:
        """Add a host, or look at one that is a node already."""
        return self.caisson("node", "add", *self.words[name])

    def kubectl(self, *words: str, at: str = "node1") -> Any:
        """Return the JSON answer of kubectl on a control plane."""
        return json.loads(self.nodes[at].run([*KUBECTL, *words, "--output=json"], timeout_s=60).stdout)

    def ready(self, at: str = "node1") -> dict[str, str]:
        """Return name -> ``True``, ``False`` or ``Unknown``: whether a node is Ready, of all."""
        return {
            node["metadata"]["name"]: next(
                entry["status"] for entry in node["status"]["conditions"] if entry["type"] == "Ready"
            )
            for node in self.kubectl("get", "nodes", at=at)["items"]
        }


def all_ready(*names: str) -> dict[str, str]:
    """Return what ``Site.ready`` says when these nodes are all, and Ready."""
    return dict.fromkeys(names, "True")


def told(node: Node, *words: str, code: int = 0) -> Any:
    """Return the JSON that a command prints in a node; it exits with this code."""
    done = node.run(words, check=False, timeout_s=ADD_TIMEOUT_S)
    assert done.returncode == code, done
    return json.loads(done.stdout)


def until(probe: Callable[[], object], timeout_s: float) -> float:
    """Ask until the answer is true; return the seconds that it took. What is raised counts as no answer."""
    started, last = time.monotonic(), "no"
    while time.monotonic() - started < timeout_s:
        try:
            if probe():
                return time.monotonic() - started
        except (LabError, ValueError, KeyError) as exc:
            last = str(exc)
        time.sleep(0.5)
    raise AssertionError(f"not after {timeout_s:g} s: {last}")


#: What holds a key or a token on a node, or speaks of one in its journal; nothing, when no addition is at work.
SECRETS = (
    "grep -rlE 'PRIVATE KEY|[a-z0-9]{6}\\.[a-z0-9]{16}\\b' /var/cache/caisson /var/lib/caisson /etc/caisson/pillar "
    "/etc/caisson/kubeadm /var/log/caisson /run/caisson* 2>/dev/null || true; "
    "journalctl --no-pager | grep -E 'PRIVATE KEY' | head -3; ls -d /run/caisson-join 2>/dev/null || true; "
    "ls /etc/kubernetes/bootstrap-kubelet.conf 2>/dev/null || true"
)
TOKENS = "--namespace kube-system get secrets --field-selector=type=bootstrap.kubernetes.io/token"
KILL_DRIVER = 'kill -9 $(python3 -c \'import json; print(json.load(open("/run/caisson.lock"))["pid"])\')'


def assert_no_secret_is_left(site: Site) -> None:
    """Neither on a node nor in the cluster: what a cut addition has left is removed by the host's own job, soon."""
    ends_at = time.monotonic() + FORGOTTEN_S
    for name, node in site.nodes.items():
        while (found := shell(node, SECRETS).splitlines()) and time.monotonic() < ends_at:
            time.sleep(1)
        assert found == [], f"{name}: {found}"
    for secret in site.kubectl(*TOKENS.split())["items"]:
        assert "caisson node add" not in json.dumps(secret)


def cut(site: Site, name: str, phase: str, act: Callable[[], object], *, after_s: float = 0.0) -> bool:
    """Begin to add a host, and do something to it so long after a phase began; tell whether that phase was seen."""
    timers: list[threading.Timer] = []

    def on_line(line: str) -> None:
        if f" {phase}: " in line and not timers:
            timers.append(threading.Timer(after_s, act))
            timers[-1].start()

    command = ["caisson", "node", "add", *site.words[name]]
    site.driver.stream(command, on_line, timeout_s=ADD_TIMEOUT_S)
    for timer in timers:
        timer.join()
    return bool(timers)


def grown(roles: Roles) -> Iterator[Site]:
    """Yield the cluster, in a lab of its own; at its end nothing of that is left."""
    with Lab() as lab:
        found = Site(lab, roles)
        driver = found.nodes["node1"] = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        public_key = hosts.make_identity(driver)
        lab.switch.reset()
        hosts.write_list(driver, [AWAY, *(start_host(found, name, public_key) for name in found.names[1:])])
        found.before.extend(snapshot.take(found.nodes[found.names[-1]]))
        began = time.monotonic()
        done = driver.run(hosts.ADD_COMMAND, check=False, timeout_s=GROW_TIMEOUT_S)
        print(
            f"{done.stdout}\n{done.stderr}\nfrom one node to {len(roles)} in {time.monotonic() - began:.1f} s"
        )
        assert done.returncode == 14, done.returncode
        found.listed.extend(done.stdout.splitlines())
        yield found
    assert cleanup.leftovers(lab.name) == []


def start_host(site: Site, name: str, public_key: str) -> dict[str, Any]:
    """Start a bare host that lets the bootstrap node in; return its entry of the list."""
    host = site.nodes[name] = site.lab.start_node(name)
    entry = hosts.admit(host, site.roles[name], public_key)
    marks = MARKS if name == site.worker_name else {}
    options = {"name": "name", "identity": "identity", "hostKey": "host-key", "role": "role"}
    words = [
        entry["address"],
        *(word for key, option in options.items() for word in (f"--{option}", entry[key])),
    ]
    if marks:
        labels = ",".join(f"{key}={value}" for key, value in marks["labels"].items())
        words += ["--labels", labels, "--taints", ",".join(marks["taints"])]
    site.words[name] = tuple(words)
    return {**entry, **marks}


def running(node: Node, pod: str) -> str:
    """Return the id of the running container of a pod on a node."""
    return shell(node, f"crictl ps -q --state running --label io.kubernetes.pod.name={pod}").strip()
