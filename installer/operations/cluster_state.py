# SPDX-License-Identifier: Apache-2.0
"""Ask the cluster how it is: nodes, pods, and the containers on this host when the API does not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import ClusterError, CommandError, HostError
from installer.base.run import run

KUBECTL_TIMEOUT_S = 30.0
APPS = ("calico-kube-controllers", "calico-node", "kube-dns", "kube-proxy")
"""The label ``k8s-app`` of what kubeadm and Calico's manifest bring."""
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
STATIC_PODS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "nginx",
    "registry",
    "salt-master",
)
SHARING_POD = "keepalived"
"""Where the control plane has a virtual address, and nowhere else."""


@dataclass(frozen=True)
class NodeState:
    """A node as the API shows it; ``version`` is its kubelet's, ``runtime`` that of its container runtime, by name."""

    name: str
    version: str
    address: str
    is_ready: bool
    roles: str
    runtime: str = ""
    kernel: str = ""


@dataclass(frozen=True)
class Member:
    """Who a node of the cluster is, Ready or not; ``machine_id`` as its kubelet last said, empty if it never did."""

    name: str
    machine_id: str
    is_control_plane: bool


@dataclass(frozen=True)
class PodState:
    """A pod as the API shows it; ``state`` is a word for people: Running, Pending, CrashLoopBackOff.

    ``is_ours``: the bootstrap applied it. All others are the site's: shown, never judged.
    """

    namespace: str
    name: str
    state: str
    is_ready: bool
    restarts: int
    node: str
    is_ours: bool = False


def get_nodes(kubeconfig_file: Path, *, timeout_s: float = KUBECTL_TIMEOUT_S) -> tuple[NodeState, ...]:
    """Return the nodes, by name.

    Raises:
        ClusterError: the API does not answer.
    """
    return parse_nodes(_get(kubeconfig_file, "nodes", timeout_s))


def get_members(kubeconfig_file: Path, *, timeout_s: float = KUBECTL_TIMEOUT_S) -> tuple[Member, ...]:
    """Return who the nodes are, by name.

    Raises:
        ClusterError: there is no cluster on this host, or its API does not answer.
    """
    if not kubeconfig_file.is_file():
        raise ClusterError(
            "there is no cluster on this host yet, so no node can be added to it",
            details=f"{kubeconfig_file} is not there",
            resolution="start this on the bootstrap node, after its bootstrap; 'caisson check' looks at a single host",
        )
    return parse_members(_get(kubeconfig_file, "nodes", timeout_s))


def get_pods(kubeconfig_file: Path, *, timeout_s: float = KUBECTL_TIMEOUT_S) -> tuple[PodState, ...]:
    """Return the pods of all namespaces, by namespace and name.

    Raises:
        ClusterError: the API does not answer.
    """
    return parse_pods(_get(kubeconfig_file, "pods", timeout_s))


def get_running_pods(*, timeout_s: float = KUBECTL_TIMEOUT_S) -> frozenset[tuple[str, str]]:
    """Return namespace and name of the pods that have a running container on this host.

    Asks containerd, not the API.

    Raises:
        ClusterError: containerd does not answer.
    """
    try:
        listed = json.loads(run(["crictl", "ps", "--output=json"], timeout_s=timeout_s).stdout)
        return frozenset(
            (
                str(container["labels"]["io.kubernetes.pod.namespace"]),
                str(container["labels"]["io.kubernetes.pod.name"]),
            )
            for container in listed["containers"] or ()
            if container.get("state") == "CONTAINER_RUNNING"
        )
    except (CommandError, HostError, ValueError, KeyError, TypeError) as exc:
        raise ClusterError(
            "containerd does not answer", details=str(exc), resolution="see 'journalctl -u containerd'"
        ) from exc


def parse_nodes(data: Mapping[str, Any]) -> tuple[NodeState, ...]:
    """Parse a NodeList."""
    nodes = []
    for item in data.get("items", ()):
        status = item.get("status", {})
        prefix = "node-role.kubernetes.io/"
        labels = item["metadata"].get("labels", {})
        roles = sorted(label[len(prefix) :] for label in labels if label.startswith(prefix))
        addresses = [
            entry["address"] for entry in status.get("addresses", ()) if entry["type"] == "InternalIP"
        ]
        nodes.append(
            NodeState(
                name=item["metadata"]["name"],
                version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
                address=",".join(addresses),
                is_ready=_has_condition(status, "Ready"),
                roles=",".join(roles) or "-",
                runtime=status.get("nodeInfo", {}).get("containerRuntimeVersion", "").replace("://", " "),
                kernel=status.get("nodeInfo", {}).get("kernelVersion", ""),
            )
        )
    return tuple(sorted(nodes, key=lambda node: node.name))


def parse_members(data: Mapping[str, Any]) -> tuple[Member, ...]:
    """Parse a NodeList for who the nodes are."""
    members = [
        Member(
            name=item["metadata"]["name"],
            machine_id=item.get("status", {}).get("nodeInfo", {}).get("machineID", ""),
            is_control_plane=CONTROL_PLANE_LABEL in item["metadata"].get("labels", {}),
        )
        for item in data.get("items", ())
    ]
    return tuple(sorted(members, key=lambda member: member.name))


def parse_pods(data: Mapping[str, Any]) -> tuple[PodState, ...]:
    """Parse a PodList; a pod that has done its work counts as ready."""
    pods = []
    for item in data.get("items", ()):
        status = item.get("status", {})
        phase = status.get("phase", "Unknown")
        containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        waiting = [
            reason
            for container in containers
            if (reason := container.get("state", {}).get("waiting", {}).get("reason"))
            and reason != "PodInitializing"
        ]
        pods.append(
            PodState(
                namespace=item["metadata"]["namespace"],
                name=item["metadata"]["name"],
                state=waiting[0] if waiting else status.get("reason") or phase,
                is_ready=phase == "Succeeded" or _has_condition(status, "Ready"),
                restarts=sum(
                    int(entry.get("restartCount", 0)) for entry in status.get("containerStatuses", ())
                ),
                node=item.get("spec", {}).get("nodeName", "-"),
                is_ours=_is_ours(item) and phase != "Failed",
            )
        )
    return tuple(sorted(pods, key=lambda pod: (pod.namespace, pod.name)))


def _is_ours(item: Mapping[str, Any]) -> bool:
    """Tell whether the bootstrap applied this pod: by its label, or a static pod by its name.

    One that has failed and stays so (it was evicted) is left out by the caller: its controller has made another.
    """
    metadata = item["metadata"]
    if metadata["namespace"] != "kube-system":
        return False
    node = item.get("spec", {}).get("nodeName", "-")
    owners = {(owner.get("kind"), owner.get("name")) for owner in metadata.get("ownerReferences", ())}
    if ("Node", node) in owners:
        return str(metadata["name"]).replace(f"-{node}", "") in (*STATIC_PODS, SHARING_POD)
    return bool(owners) and metadata.get("labels", {}).get("k8s-app") in APPS


def _has_condition(status: Mapping[str, Any], name: str) -> bool:
    return any(entry["type"] == name and entry["status"] == "True" for entry in status.get("conditions", ()))


def _get(kubeconfig_file: Path, kind: str, timeout_s: float) -> dict[str, Any]:
    """Return all objects of a kind; a path instead of its name saves kubectl from asking for the list of kinds."""
    bound = f"--request-timeout={max(1, int(timeout_s))}s"
    command = ["kubectl", "--kubeconfig", str(kubeconfig_file), bound, "get", "--raw", f"/api/v1/{kind}"]
    try:
        answer = run(command, timeout_s=timeout_s)
        data: dict[str, Any] = json.loads(answer.stdout)
    except (CommandError, HostError, ValueError) as exc:
        raise ClusterError(
            "the Kubernetes API does not answer",
            details=str(exc),
            resolution="see 'crictl ps -a' and 'journalctl -u kubelet' on a control-plane node",
        ) from exc
    return data
