# SPDX-License-Identifier: Apache-2.0
"""Stand for systemctl, busctl, kubectl and crictl of an installed host where all is well, until a test changes it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from installer.base.errors import CommandError
from installer.base.run import Completed

READY = [{"type": "Ready", "status": "True"}]
NODES: dict[str, Any] = {
    "items": [
        {
            "metadata": {
                "name": "node1",
                "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/os": "linux"},
            },
            "status": {
                "conditions": READY,
                "addresses": [
                    {"type": "InternalIP", "address": "10.77.1.11"},
                    {"type": "Hostname", "address": "node1"},
                ],
                "nodeInfo": {"kubeletVersion": "v1.36.4"},
            },
        }
    ]
}


def node(name: str, ready: str = "True") -> dict[str, Any]:
    """Return a worker as the API has it."""
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


OWNERS = {
    "etcd-node1": ({"kind": "Node", "name": "node1"}, ""),
    "coredns": ({"kind": "ReplicaSet", "name": "coredns-1"}, "kube-dns"),
    "calico": ({"kind": "DaemonSet", "name": "calico-node"}, "calico-node"),
    "thrown-out": ({"kind": "ReplicaSet", "name": "coredns-1"}, "kube-dns"),
}


def pod(name: str, **status: object) -> dict[str, Any]:
    owner, app = OWNERS.get(name, ({"kind": "ReplicaSet", "name": "x"}, ""))
    return {
        "metadata": {
            "namespace": "kube-system",
            "name": name,
            "ownerReferences": [owner],
            "labels": {"k8s-app": app},
        },
        "spec": {"nodeName": "node1"},
        "status": status,
    }


PODS: dict[str, Any] = {
    "items": [
        pod(
            "etcd-node1",
            phase="Running",
            conditions=READY,
            containerStatuses=[{"restartCount": 2, "state": {}}],
        ),
        pod("done", phase="Succeeded"),
        pod(
            "coredns",
            phase="Pending",
            conditions=[{"type": "Ready", "status": "False"}],
            containerStatuses=[{"restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}],
        ),
        pod(
            "calico",
            phase="Pending",
            initContainerStatuses=[{"state": {"waiting": {"reason": "PodInitializing"}}}],
        ),
        pod("thrown-out", phase="Failed", reason="Evicted"),
    ]
}


class Host:
    """The answers of the programs; ``hanging`` are those that give none within the bound."""

    def __init__(self) -> None:
        self.services = dict.fromkeys(("containerd", "kubelet", "salt-minion", "firewalld"), "active")
        self.sockets: dict[str, str] = {}
        self.absent: set[str] = set()
        self.policies = ["allow-host-ipv6", "caisson-nodes", "caisson-services"]
        self.zones = ["public", "caisson-pods"]
        self.hanging: set[str] = set()
        self.has_api = True
        self.answers_ping = True
        self.minion_started_s = 0
        self.nodes: dict[str, Any] = NODES
        self.pods = {"items": PODS["items"][:2]}
        self.running = ["etcd-node1"]
        self.namespace = "kube-system"
        self.guard = (0, 'table inet caisson { ... accept comment "caisson 1 10.0.0.0/16 10.1.0.0/16" }')
        self.commands: list[Sequence[str]] = []
        self.timeouts: dict[str, float] = {}

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del check
        self.timeouts[args[0]] = timeout_s
        self.commands.append(args)
        if args[0] in self.hanging:
            time.sleep(timeout_s)
            raise CommandError(f"'{args[0]}' did not finish within {timeout_s:g} s")
        if args[0] == "nft":
            return Completed(self.guard[0], self.guard[1], "")
        answer = getattr(self, "_" + args[0].replace("-", "_"))(list(args[1:]))
        return Completed(0, answer, "")

    def _systemctl(self, words: list[str]) -> str:
        if "--property=ActiveEnterTimestampMonotonic" in words:
            return f"{self.minion_started_s * 1_000_000}\n"
        blocks = []
        for unit in (word for word in words if word.endswith(".service")):
            name = unit[: -len(".service")]
            load = "not-found" if name in self.absent else "loaded"
            blocks.append(f"Id={unit}\nLoadState={load}\nActiveState={self.services[name]}\n")
        sockets = [unit for unit in words if unit in self.sockets]
        blocks += [f"Id={unit}\nLoadState=loaded\nActiveState={self.sockets[unit]}\n" for unit in sockets]
        return "\n".join(blocks)

    def _busctl(self, words: list[str]) -> str:
        names = self.policies if words[-1] == "getPolicies" else self.zones
        return f"as {len(names)} " + " ".join(f'"{name}"' for name in names) + "\n"

    def _crictl(self, words: list[str]) -> str:
        if words[0] == "exec":
            return json.dumps({"node1": True} if self.answers_ping else {}) + "\n"
        if "--quiet" in words:
            return "9937cf8701a1\n"
        labels = [
            {"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": self.namespace}
            for name in self.running
        ]
        containers = [{"labels": entry, "state": "CONTAINER_RUNNING"} for entry in labels]
        return json.dumps({"containers": containers})

    def _kubectl(self, words: list[str]) -> str:
        if not self.has_api:
            raise CommandError("'kubectl' failed: exit code 1")
        return json.dumps(self.nodes if words[-1] == "/api/v1/nodes" else self.pods)
