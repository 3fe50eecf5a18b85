# SPDX-License-Identifier: Apache-2.0
"""What is waited for at the end: all that Caisson applied, and nothing of a site's own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from installer.operations import cluster_state
from tests.unit.salt.test_modules import load

READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
BROKEN = {
    "phase": "Pending",
    "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
}


class Api:
    """A cluster in which all is Ready, until something is changed."""

    def __init__(self, module: Any) -> None:
        self.node = {"kind": "Node", "metadata": {"name": "node1"}, "status": copy.deepcopy(READY)}
        self.workloads = {name: self.workload(name) for name in module.WORKLOADS}
        self.pods = {f"{name}-node1": self.pod(f"{name}-node1", "") for name in module.STATIC_PODS} | {
            f"{name}-x": self.pod(f"{name}-x", f"uid of {name}") for name in module.WORKLOADS
        }

    @staticmethod
    def workload(name: str) -> dict[str, Any]:
        is_deployment = name in ("coredns", "calico-kube-controllers")
        return {
            "kind": "Deployment" if is_deployment else "DaemonSet",
            "metadata": {"name": name, "uid": f"uid of {name}", "generation": 1},
            "spec": {"replicas": 2},
            "status": {
                "observedGeneration": 1,
                "readyReplicas": 2,
                "desiredNumberScheduled": 1,
                "numberReady": 1,
            },
        }

    @staticmethod
    def pod(name: str, owner: str, node: str = "node1") -> dict[str, Any]:
        return {
            "kind": "Pod",
            "metadata": {"name": name, "ownerReferences": [{"uid": owner}]},
            "spec": {"nodeName": node},
            "status": copy.deepcopy(READY),
        }

    def kubectl(self, *words: str) -> str:
        assert "--all-namespaces" not in words
        assert words[:2] == ("--namespace", "kube-system")
        assert words[3].split(",") == ["nodes", "deployments", "daemonsets", "pods"]
        return json.dumps({"items": [self.node, *self.workloads.values(), *self.pods.values()]})


@pytest.fixture
def module() -> Any:
    return load("caisson_kubernetes")


@pytest.fixture
def api(module: Any) -> Api:
    found = Api(module)
    module.kubectl = found.kubectl
    return found


def test_status_judges_the_same_pods(module: Any) -> None:
    assert module.STATIC_PODS == cluster_state.STATIC_PODS


def test_all_is_ready(module: Any, api: Api) -> None:
    assert module.not_ready("node1") == []


def test_a_site_s_pods_in_kube_system_and_an_evicted_one_are_not_waited_for(module: Any, api: Api) -> None:
    api.pods["backup-1"] = {**api.pod("backup-1", "uid of backup"), "status": BROKEN}
    api.workloads["backup"] = {**api.workload("backup"), "status": {}}
    evicted = {"phase": "Failed", "reason": "Evicted"}
    api.pods["coredns-y"] = {**api.pod("coredns-y", "uid of coredns"), "status": evicted}
    assert module.not_ready("node1") == []


def test_a_worker_that_is_away_is_not_waited_for(module: Any, api: Api) -> None:
    api.pods["calico-node-2"] = {**api.pod("calico-node-2", "uid of calico-node", "node2"), "status": BROKEN}
    api.workloads["calico-node"]["status"].update(desiredNumberScheduled=2, numberReady=1)
    assert module.not_ready("node1") == []


def test_of_a_deployment_what_is_on_a_node_that_is_away_is_not_waited_for(module: Any, api: Api) -> None:
    """Kubernetes puts it elsewhere after five minutes, which is as long as is waited; one at least must be Ready."""
    away = {"kind": "Node", "metadata": {"name": "node2"}, "status": {"conditions": []}}
    api.pods["node2"] = away
    api.pods["coredns-y"] = {**api.pod("coredns-y", "uid of a ReplicaSet", "node2"), "status": BROKEN}
    api.workloads["coredns"]["status"]["readyReplicas"] = 1
    assert module.not_ready("node1") == []
    api.workloads["coredns"]["status"]["readyReplicas"] = 0
    assert module.not_ready("node1") == ["deployment coredns: 0 of 2 ready"]
    api.workloads["coredns"]["status"]["readyReplicas"] = 1
    away["status"] = copy.deepcopy(READY)
    assert module.not_ready("node1") == ["deployment coredns: 1 of 2 ready"]


def test_what_was_applied_is_waited_for(module: Any, api: Api) -> None:
    api.node["status"] = {}
    api.pods["etcd-node1"]["status"] = BROKEN
    del api.pods["nginx-node1"]
    api.pods["kube-proxy-x"]["status"] = BROKEN
    del api.pods["calico-node-x"]
    api.workloads["coredns"]["status"]["readyReplicas"] = 1
    del api.workloads["calico-kube-controllers"]
    assert module.not_ready("node1") == [
        "node node1: not Ready",
        "deployment coredns: 1 of 2 ready",
        "calico-kube-controllers: not there",
        "daemonset calico-node: no pod on this node yet",
        "daemonset kube-proxy: c: CrashLoopBackOff",
        "pod etcd-node1: c: CrashLoopBackOff",
        "pod nginx-node1: not there",
    ]
    api.workloads["coredns"]["metadata"]["generation"] = 2
    assert "deployment coredns: not looked at yet" in module.not_ready("node1")
