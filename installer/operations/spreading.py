# SPDX-License-Identifier: Apache-2.0
"""Let the cluster's DNS survive the loss of a node: its two pods were placed when there was one node only.

Nothing moves a pod that runs. One of them is deleted: where its successor goes, the scheduler says, and kubeadm's
Deployment prefers a node that has none. The other answers meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from installer.base.run import run
from installer.engine.context import Context

SELECTOR = "k8s-app=kube-dns"
NAMESPACE = "kube-system"
TIMEOUT_S = 60.0
TOLERATED = "node-role.kubernetes.io/control-plane"
BARRING = ("NoSchedule", "NoExecute")
PASSING = ("node.kubernetes.io/not-ready", "node.kubernetes.io/network-unavailable")
"""What a controller takes off a node once that is Ready, on a busy host some seconds later."""
LIMIT_S = 30.0
POLL_S = 1.0


def spread_dns(context: Context) -> bool:
    """Delete one of the pods of DNS where all are on one node and another could have it; return whether it did.

    Raises:
        CommandError: the API does not answer.
    """
    kubectl = ["kubectl", "--kubeconfig", str(context.paths.admin_kubeconfig_file), "--namespace", NAMESPACE]
    deadline = time.monotonic() + LIMIT_S
    while True:
        listed = run(
            [*kubectl, "get", "pods", f"--selector={SELECTOR}", "--output=json"], timeout_s=TIMEOUT_S
        )
        nodes = run([*kubectl, "get", "nodes", "--output=json"], timeout_s=TIMEOUT_S)
        found = json.loads(listed.stdout), json.loads(nodes.stdout)
        name = to_move(*found)
        if name:
            run([*kubectl, "delete", "pod", name, "--wait=false"], timeout_s=TIMEOUT_S)
        if name or not to_move(*found, passing=PASSING) or time.monotonic() > deadline:
            return bool(name)
        context.ui.progress("the new node to take pods")
        time.sleep(POLL_S)


def to_move(pods: Mapping[str, Any], nodes: Mapping[str, Any], *, passing: Collection[str] = ()) -> str:
    """Return the pod that is to be placed again, of a PodList and a NodeList; "" when none. Pure.

    ``passing``: keys of taints that are soon gone, as if they were.
    """
    running = {
        str(pod["metadata"]["name"]): str(pod["spec"].get("nodeName", ""))
        for pod in pods["items"]
        if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Running", "Pending")
    }
    places = {*running.values()}
    free = {str(node["metadata"]["name"]) for node in nodes["items"] if _takes_dns(node, passing)}
    is_together = len(running) > 1 and len(places) == 1 and bool(free - places)
    return max(running) if is_together else ""


def _takes_dns(node: Mapping[str, Any], passing: Collection[str]) -> bool:
    taints = node["spec"].get("taints", [])
    is_ready = any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in node["status"].get("conditions", [])
    )
    borne = (TOLERATED, *passing)
    barred = [taint for taint in taints if taint["effect"] in BARRING and taint["key"] not in borne]
    return is_ready and not node["spec"].get("unschedulable", False) and not barred
