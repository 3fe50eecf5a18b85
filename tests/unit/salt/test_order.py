# SPDX-License-Identifier: Apache-2.0
"""What is begun before something else is waited for: static pods, imports, the parts of Calico's manifest."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import MANIFEST, load

POD = """apiVersion: v1
kind: Pod
metadata: {name: nginx}
spec: {containers: [{name: nginx}]}
"""


@pytest.fixture
def pods(tmp_path: Path) -> Any:
    """Return the states of static pods, with a kubelet that never starts any."""
    (tmp_path / "pod.yaml").write_text(POD)
    state: Any = load("caisson_static_pod", STATES_DIR)
    state.MANIFESTS_DIR = tmp_path / "kubernetes" / "manifests"
    state.__dict__["__salt__"] = {
        "cp.get_template": lambda *_, **__: str(tmp_path / "pod.yaml"),
        "caisson_result.ensure": load("caisson_result").ensure,
    }
    state.__dict__["__opts__"] = {"test": False}
    return state


def test_a_pod_is_placed_without_being_waited_for_and_then_it_is_quiet(pods: Any) -> None:
    file = pods.MANIFESTS_DIR / "nginx.yaml"
    assert pods.placed("nginx", "salt://pod.yaml")["changes"] == {str(file): "written"}
    assert pods.placed("nginx", "salt://pod.yaml") == {
        "name": "nginx",
        "result": True,
        "changes": {},
        "comment": "static pod nginx is in place",
    }


def test_a_pod_that_was_placed_is_the_one_that_is_waited_for(pods: Any, tmp_path: Path) -> None:
    """With other files to depend on, the second state would write another manifest, and the pod would start twice."""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text("a")
    pods.placed("nginx", "salt://pod.yaml", [str(configuration)])
    digest = yaml.safe_load((pods.MANIFESTS_DIR / "nginx.yaml").read_text())["metadata"]["annotations"]
    asked: list[str] = []

    def running_containers(_: str, wanted: str) -> list[str]:
        asked.append(wanted)
        return ["nginx"]

    pods.__salt__["caisson_pod.running_containers"] = running_containers
    pods.__salt__["caisson_result.until"] = lambda probe, *_, **__: probe() and None
    assert pods.running("nginx", "salt://pod.yaml", [str(configuration)])["changes"] == {}
    assert asked == list(digest.values())


def test_a_pod_from_before_the_control_plane_is_entered_without_being_another_one(pods: Any) -> None:
    """Its uid stays, so the kubelet does not start it again; the annotation makes it look at the pod once."""
    file = pods.MANIFESTS_DIR / "nginx.yaml"
    module: Any = load("caisson_pod")
    module.MANIFESTS_DIR = pods.MANIFESTS_DIR
    pods.placed("nginx", "salt://pod.yaml")
    before = yaml.safe_load(file.read_text())
    assert (module.is_entered("nginx"), module.is_entered("none")) == (False, False)
    (pods.MANIFESTS_DIR / "kube-apiserver.yaml").touch()
    assert pods.placed("nginx", "salt://pod.yaml")["changes"] == {str(file): "written"}
    assert module.is_entered("nginx")
    after = yaml.safe_load(file.read_text())
    assert after["metadata"].pop("annotations").items() > before["metadata"].pop("annotations").items()
    assert after == before
    assert len(after["metadata"]["uid"]) == 32
    assert pods.placed("nginx", "salt://pod.yaml")["changes"] == {}


def test_a_configuration_that_changed_is_another_manifest(pods: Any, tmp_path: Path) -> None:
    configuration = tmp_path / "nginx.conf"
    configuration.write_text("a")
    pods.placed("nginx", "salt://pod.yaml", [str(configuration)])
    uid = yaml.safe_load((pods.MANIFESTS_DIR / "nginx.yaml").read_text())["metadata"]["uid"]
    configuration.write_text("b")
    assert pods.placed("nginx", "salt://pod.yaml", [str(configuration)])["changes"]
    assert yaml.safe_load((pods.MANIFESTS_DIR / "nginx.yaml").read_text())["metadata"]["uid"] != uid


def test_images_are_imported_side_by_side_and_all_faults_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = load("caisson_image")
    meeting = threading.Barrier(2, timeout=10)

    def import_one(reference: str, digest: str, _: str) -> None:
        if reference in ("a", "b"):
            meeting.wait()  # neither would get past this alone
        if digest == "bad":
            raise RuntimeError("ctr could not")

    monkeypatch.setattr(module, "import_from_layout", import_one)
    module.import_all({"a": "good", "b": "good", "c": "good"}, "/oci")
    with pytest.raises(RuntimeError, match="c: ctr could not\nd: ctr could not"):
        module.import_all({"a": "good", "b": "good", "d": "bad", "c": "bad"}, "/oci")


def test_calicos_workloads_wait_for_kube_proxy_and_nothing_else_does(tmp_path: Path) -> None:
    """Their first call goes to a service address, which without kube-proxy leaves the host."""
    (tmp_path / "calico.yaml").write_text(
        MANIFEST + "---\nkind: ConfigMap\nmetadata: {name: calico-config}\n"
    )
    done: list[str] = []
    there = [""]
    module, state = load("caisson_kubernetes"), load("caisson_kubernetes", STATES_DIR)
    functions: dict[str, Any] = {
        f"caisson_kubernetes.{name}": getattr(module, name)
        for name in (
            "read_text",
            "calico_manifest",
            "sha256",
            "split_documents",
            "is_definition",
            "is_workload",
        )
    }

    def probe_url(url: str) -> str:
        done.append(url)
        return ""

    functions |= {
        "caisson_kubernetes.apply": lambda text: done.extend(
            yaml.safe_load(document)["kind"] for document in module.split_documents(text)
        ),
        "caisson_kubernetes.kubectl": lambda *words: there[0] if "get" in words else done.append(words[2]),
        "caisson_kubernetes.await_network": lambda node: done.append(f"no network on {node}"),
        "caisson_wait.probe_url": probe_url,
        "caisson_result.ensure": load("caisson_result").ensure,
        "caisson_result.until": lambda probe, _: probe(),
    }
    state.__dict__.update(__salt__=functions, __opts__={"test": False})
    said = state.calico_applied("x", str(tmp_path / "calico.yaml"), "10.233.0.0/16", [], "http://proxy", "n1")
    assert said["result"] is True, said
    definition, *rest = done
    assert definition == "CustomResourceDefinition"
    assert rest == ["ConfigMap", "http://proxy", "no network on n1", "DaemonSet", "Deployment", "annotate"]
    digest = module.sha256(
        module.calico_manifest((tmp_path / "calico.yaml").read_text(), "10.233.0.0/16", [])
    )
    daemonset = {"kind": "DaemonSet", "metadata": {"annotations": {"caisson.io/applied-sha256": digest}}}
    deployment = {"kind": "Deployment", "metadata": {}}
    for items, is_again in (
        ([daemonset, deployment], False),
        ([daemonset], True),  # somebody has deleted one
        ([deployment], True),
    ):
        there[0] = json.dumps({"kind": "List", "items": items})
        done.clear()
        said = state.calico_applied(
            "x", str(tmp_path / "calico.yaml"), "10.233.0.0/16", [], "http://proxy", "n1"
        )
        assert (said["result"], bool(said["changes"])) == (True, is_again), items
        # A calico-node that runs would not take it back.
        assert ("no network on n1" in done) == (daemonset not in items)
