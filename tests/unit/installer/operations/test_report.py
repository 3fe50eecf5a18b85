# SPDX-License-Identifier: Apache-2.0
"""The closing report and ``caisson status``."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError, CommandError, DegradedError, UnhealthyError
from installer.base.mounts import Mount
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.engine import saltcall
from installer.engine.journal import Journal
from installer.media import mounting as media
from installer.operations import cluster_state, report
from installer.operations.cluster_state import NodeState, PodState
from tests.unit.installer.helpers import make_context, make_product, product_bytes

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
    """systemctl, kubectl and crictl of a host where all is well, until something is changed."""

    def __init__(self) -> None:
        self.services = {
            "containerd": "active",
            "kubelet": "active",
            "salt-minion": "active",
            "firewalld": "active",
        }
        self.has_api = True
        self.pods = {"items": PODS["items"][:2]}
        self.running = ["etcd-node1"]
        self.namespace = "kube-system"

    def __call__(self, args: Sequence[str], *, timeout_s: float, check: bool = True) -> Completed:
        del timeout_s, check
        if args[0] == "systemctl":
            return Completed(0, self.services[args[2].removesuffix(".service")] + "\n", "")
        if args[0] == "crictl":
            containers = [
                {
                    "labels": {
                        "io.kubernetes.pod.name": name,
                        "io.kubernetes.pod.namespace": self.namespace,
                    },
                    "state": "CONTAINER_RUNNING",
                }
                for name in self.running
            ]
            return Completed(0, json.dumps({"containers": containers}), "")
        if not self.has_api:
            raise CommandError("'kubectl' failed: exit code 1")
        return Completed(0, json.dumps(NODES if "nodes" in args else self.pods), "")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host()
    monkeypatch.setattr(report, "run", fake)
    monkeypatch.setattr(cluster_state, "run", fake)
    media_dir = tmp_path / "srv/caisson/0.1.0"
    media_dir.mkdir(parents=True)
    (media_dir / "product.json").write_bytes(product_bytes())
    mount = Mount(str(media_dir), "/", "iso9660", "/dev/loop0")
    monkeypatch.setattr(report, "read_mounts", lambda: (mount,))
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    iso = tmp_path / "c.iso"
    iso.touch()
    (units / media.unit_name(media_dir)).write_text(f"[Mount]\nWhat={iso}\n")
    manifests = tmp_path / "etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "etcd.yaml").write_text("metadata: {name: etcd, namespace: kube-system}\n")
    return fake


def state_of(tmp_path: Path) -> report.State:
    return report.gather_state(make_product(), Paths(tmp_path))


def test_nodes() -> None:
    assert cluster_state.parse_nodes(NODES) == (
        NodeState("node1", "v1.36.4", "10.77.1.11", is_ready=True, roles="control-plane"),
    )


def test_pods() -> None:
    found = {pod.name: pod for pod in cluster_state.parse_pods(PODS)}
    assert list(found) == ["calico", "coredns", "done", "etcd-node1", "thrown-out"]
    assert found["etcd-node1"] == PodState(
        "kube-system", "etcd-node1", "Running", is_ready=True, restarts=2, node="node1", is_ours=True
    )
    assert (found["coredns"].state, found["coredns"].is_ready) == ("ErrImagePull", False)
    assert (found["calico"].state, found["done"].is_ready) == ("Pending", True)
    assert found["thrown-out"].state == "Evicted"


def test_all_is_well(host: Host, tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert state.error() is None
    data = state.to_json(make_product())
    assert (data["exit_code"], data["pods"]["total"], data["media"]["missing"]) == (0, 2, "")
    titles = [title for title, _ in state.tables(make_product())]
    assert titles[-1] == "2 pods, all Ready"


def test_the_media_is_gone(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "read_mounts", lambda: ())
    (tmp_path / "c.iso").unlink()
    error = state_of(tmp_path).error()
    assert isinstance(error, DegradedError)
    assert error.exit_code == 20
    assert f"{tmp_path / 'c.iso'} is not there" in error.details
    assert error.resolution.startswith(f"put the ISO back as {tmp_path / 'c.iso'}, then: systemctl start")


def test_the_media_is_only_not_mounted(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "read_mounts", lambda: ())
    state = state_of(tmp_path).media
    assert state.missing == f"nothing is mounted at {tmp_path / 'srv/caisson/0.1.0'}"
    assert state.resolution.startswith("systemctl start '")


def test_another_media_is_mounted(host: Host, tmp_path: Path) -> None:
    (tmp_path / "srv/caisson/0.1.0/product.json").write_bytes(product_bytes(lock_sha256="other"))
    assert "another media than Caisson 0.1.0" in state_of(tmp_path).media.missing


def test_a_mounted_media_that_cannot_be_read(host: Host, tmp_path: Path) -> None:
    (tmp_path / "srv/caisson/0.1.0/product.json").unlink()
    assert "cannot be read" in state_of(tmp_path).media.missing


def test_faults_come_before_a_missing_media(host: Host, tmp_path: Path) -> None:
    host.services["kubelet"] = "failed"
    host.services["firewalld"] = "inactive"
    host.running = []
    host.pods = PODS
    error = state_of(tmp_path).error()
    assert isinstance(error, UnhealthyError)
    assert error.details.splitlines() == [
        "kubelet.service is failed",
        "static pod etcd does not run",
        "pod kube-system/calico is not Ready: Pending",
        "pod kube-system/coredns is not Ready: ErrImagePull",
    ]


def test_pods_of_the_site_are_shown_and_change_no_exit_code(host: Host, tmp_path: Path) -> None:
    """A crashing, a pending and an evicted one, one of them in kube-system and called like ours."""
    waiting = {"restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    site = [
        {**pod("crashing", containerStatuses=[waiting]), "spec": {"nodeName": "node1"}},
        pod("waiting", phase="Pending"),
        pod("thrown-out", phase="Failed", reason="Evicted"),
        pod("calico-node", phase="Pending"),
    ]
    for item in site[:3]:
        item["metadata"]["namespace"] = "shop"
    host.pods = {"items": [*PODS["items"][:2], *site]}
    state = state_of(tmp_path)
    assert state.error() is None
    data = state.to_json(make_product())
    assert data["pods"]["not_ready"] == []
    assert [entry["name"] for entry in data["pods"]["site_not_ready"]] == [
        "calico-node",
        "crashing",
        "thrown-out",
        "waiting",
    ]
    title, rows = state.tables(make_product())[-1]
    assert title == "Pods of the site that are not Ready (no fault of the node)"
    assert ("shop", "crashing", "CrashLoopBackOff", "no", "9") in rows


def test_a_deployment_that_is_called_like_a_static_pod_hides_nothing(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc/kubernetes/manifests/nginx.yaml").write_text(
        "metadata: {name: nginx, namespace: kube-system}\n"
    )
    host.running, host.namespace = ["etcd-node1", "nginx-7c5ddbdf54-x2v9k"], "shop"
    assert "static pod nginx does not run" in state_of(tmp_path).faults
    saltcall.write_configuration(make_context(tmp_path))
    stamp = tmp_path / "var/lib/caisson/kubeadm/certs-all.json"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    host.namespace = "kube-system"
    assert state_of(tmp_path).faults == ("static pod nginx does not run",)


def test_a_static_pod_of_the_site_runs_in_its_own_namespace(host: Host, tmp_path: Path) -> None:
    manifests = tmp_path / "etc/kubernetes/manifests"
    for file in manifests.iterdir():
        file.unlink()
    (manifests / "haproxy.yaml").write_text("metadata: {name: haproxy, namespace: edge}\n")
    host.running, host.namespace = ["haproxy-node1"], "edge"
    assert state_of(tmp_path).faults == ()
    host.namespace = "shop"
    assert state_of(tmp_path).faults == ("static pod haproxy does not run",)


def test_the_api_is_down(host: Host, tmp_path: Path) -> None:
    host.has_api = False
    state = state_of(tmp_path)
    assert state.faults == ("the Kubernetes API does not answer",)
    assert state.static_pods == (report.StaticPodState("etcd", is_running=True),)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("metadata: {name: a-pod}\n")
    (tmp_path / "b.yaml").write_text("[")
    (tmp_path / ".hidden.yaml").write_text("[")
    assert report.static_pods(tmp_path) == (("default", "a-pod"), ("", "b.yaml"))
    assert report.static_pods(tmp_path / "none") == ()


def test_the_closing_report(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    stream = io.StringIO()
    context = make_context(tmp_path, ui=Ui(stream, is_terminal=False), source_dir=repository_dir)
    Journal(context.paths.journal_file, run_id="earlier").done("old", changed=True, seconds=99)
    context.journal.start("one")
    context.journal.done("one", changed=True, seconds=61.5)
    context.journal.start("two")
    context.journal.done("two", changed=False, seconds=2)
    assert report.run_report(context) is False
    text = stream.getvalue()
    for line in (
        "node1  Ready  control-plane  v1.36.4  10.77.1.11",
        "kube-system  etcd-node1  Running    yes    2",
        "one    1 min 1 s  yes",
        "two    2.0 s      no",
        "all    1 min 3 s",
        "Kubernetes API    https://api.lab.internal:6443 (10.77.1.11)",
        "packages, images  https://10.77.1.11:8443",
    ):
        assert line in text.splitlines()


def test_the_api_must_answer_the_report(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    host.has_api = False
    with pytest.raises(ClusterError):
        report.run_report(make_context(tmp_path, source_dir=repository_dir))
