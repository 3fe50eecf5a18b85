# SPDX-License-Identifier: Apache-2.0
"""Let the cluster's DNS survive the loss of a node: its two pods were placed when there was one node only.

Nothing moves a pod that runs. One of them is deleted: where its successor goes, the scheduler says, and kubeadm's
Deployment prefers a node that has none. The other answers meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from installer.base.run import run
from installer.engine.context import Context

SELECTOR = "k8s-app=kube-dns"
NAMESPACE = "kube-system"
TIMEOUT_S = 60.0
TOLERATED = "node-role.kubernetes.io/control-plane"
BARRING = ("NoSchedule", "NoExecute")


def spread_dns(context: Context) -> bool:
    """Delete one of the pods of DNS where all are on one node and another could have it; return whether it did.

    Raises:
        CommandError: the API does not answer.
    """
    kubectl = ["kubectl", "--kubeconfig", str(context.paths.admin_kubeconfig_file), "--namespace", NAMESPACE]
    listed = run([*kubectl, "get", "pods", f"--selector={SELECTOR}", "--output=json"], timeout_s=TIMEOUT_S)
    nodes = run([*kubectl, "get", "nodes", "--output=json"], timeout_s=TIMEOUT_S)
    name = to_move(json.loads(listed.stdout), json.loads(nodes.stdout))
    if name:
        run([*kubectl, "delete", "pod", name, "--wait=false"], timeout_s=TIMEOUT_S)
    return bool(name)


def to_move(pods: Mapping[str, Any], nodes: Mapping[str, Any]) -> str:
    """Return the pod that is to be placed again, of a PodList and a NodeList; "" when none. Pure."""
    running = {
        str(pod["metadata"]["name"]): str(pod["spec"].get("nodeName", ""))
        for pod in pods["items"]
        if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Running", "Pending")
    }
    places = {*running.values()}
    free = {str(node["metadata"]["name"]) for node in nodes["items"] if _takes_dns(node)}
    is_together = len(running) > 1 and len(places) == 1 and bool(free - places)
    return max(running) if is_together else ""


def _takes_dns(node: Mapping[str, Any]) -> bool:
    taints = node["spec"].get("taints", [])
    is_ready = any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in node["status"].get("conditions", [])
    )
    barred = [taint for taint in taints if taint["effect"] in BARRING and taint["key"] != TOLERATED]
    return is_ready and not node["spec"].get("unschedulable", False) and not barred
