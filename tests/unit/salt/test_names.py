# SPDX-License-Identifier: Apache-2.0
"""The cluster's names reach /etc/hosts, and a pod that has a copy of it; the kubelet is played."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load

OLD = "10.0.0.1 api.x.internal # caisson\n"
NEW = OLD + "10.0.0.2 api.x.internal # caisson\n"
HEADER = "# Kubernetes-managed hosts file (host network).\n"


class Host:
    """A host with one pod of kube-proxy, whose copy is made when its container starts."""

    def __init__(self, root: Path) -> None:
        self.hosts, self.copy = root / "hosts", root / "pods/uid1/etc-hosts"
        self.copy.parent.mkdir(parents=True)
        self.hosts.write_text("127.0.0.1 localhost\n" + OLD)
        self.start()
        self.retcode, self.pods = 0, [{"metadata": {"uid": "uid1"}}]
        self.module: ModuleType = load("caisson_names")
        vars(self.module).update(
            HOSTS_FILE=str(self.hosts),
            PODS_DIR=str(root / "pods"),
            __pillar__={"caisson": {}},
            __salt__={"cmd.run_all": self.crictl, "caisson_installer.call": self.call},
        )

    def start(self, _: str = "") -> None:
        self.copy.write_text(HEADER + self.hosts.read_text())

    def crictl(self, words: list[str], **_: Any) -> dict[str, Any]:
        assert words[:2] == ["crictl", "pods"]
        assert "k8s-app=kube-proxy" in words
        return {"retcode": self.retcode, "stdout": json.dumps({"items": self.pods}), "stderr": "no runtime"}

    def call(self, module: str, function: str, *_: Any) -> Any:
        if function == "knows_cluster":
            return NEW in self.hosts.read_text()
        if function == "name_cluster":
            self.hosts.write_text("127.0.0.1 localhost\n" + NEW)
        return module

    def apply(self, function: str, *, test: bool = False, **arguments: str) -> dict[str, Any]:
        result = load("caisson_result")
        functions = {
            f"caisson_names.{key}": value for key, value in vars(self.module).items() if callable(value)
        }
        functions |= {"caisson_result.ensure": result.ensure, "caisson_result.until": result.until}
        state = load("caisson_names", STATES_DIR)
        vars(state).update(__salt__=functions, __opts__={"test": test})
        said: dict[str, Any] = getattr(state, function)("x", **arguments)
        return said


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_names_are_written_once(host: Host) -> None:
    assert host.apply("known", test=True)["result"] is None
    assert host.apply("known")["changes"]
    assert NEW in host.hosts.read_text()
    assert host.apply("known")["changes"] == {}


def test_a_pod_that_has_other_names_gets_them_and_goes_on(host: Host) -> None:
    """In the file that its container has mounted: one that is started again waits longer each time."""
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}
    host.apply("known")
    assert host.apply("known_to_pods", app="kube-proxy", test=True)["result"] is None
    mounted = host.copy.stat().st_ino
    said = host.apply("known_to_pods", app="kube-proxy")
    assert (said["result"], said["changes"]) == (True, {"kube-proxy": "the names of the cluster"})
    assert host.copy.read_text() == HEADER + host.hosts.read_text()
    assert host.copy.stat().st_ino == mounted
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}


def test_the_other_lines_of_a_copy_stay(host: Host) -> None:
    """Aliases that the pod has, a shorter table, and bytes that are no text."""
    host.apply("known")
    host.copy.write_bytes(b"# of the kubelet\n10.0.0.9 " + b"x" * 99 + b" # caisson\n10.1.1.1 alias\xff\n")
    host.apply("known_to_pods", app="kube-proxy")
    assert host.copy.read_bytes() == b"# of the kubelet\n" + NEW.encode() + b"10.1.1.1 alias\xff\n"
    host.copy.write_bytes(b"10.1.1.1 alias")
    host.apply("known_to_pods", app="kube-proxy")
    assert host.copy.read_bytes() == b"10.1.1.1 alias\n" + NEW.encode()


def test_other_lines_of_the_site_start_nothing(host: Host) -> None:
    host.hosts.write_text("10.9.9.9 printer\n" + host.hosts.read_text())
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}


def test_a_node_without_such_a_pod_has_nothing_to_start(host: Host) -> None:
    host.apply("known")
    host.pods = []
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}


def test_a_pod_that_has_not_started_yet_will_have_them(host: Host) -> None:
    """Its copy is made when its container starts: on a node that joins just now there is none to start again."""
    host.apply("known")
    host.copy.unlink()
    said = host.apply("known_to_pods", app="kube-proxy")
    assert (said["result"], said["changes"]) == (True, {})


def test_a_copy_that_cannot_be_written_is_named(host: Host) -> None:
    host.apply("known")
    host.copy.unlink()
    host.copy.mkdir()
    said = host.apply("known_to_pods", app="kube-proxy")
    assert said["result"] is False
    assert str(host.copy) in said["comment"]


def test_a_runtime_that_does_not_answer_is_a_fault(host: Host) -> None:
    host.retcode = 1
    said = host.apply("known_to_pods", app="kube-proxy")
    assert (said["result"], said["comment"]) == (False, "crictl lists no pods: no runtime")
