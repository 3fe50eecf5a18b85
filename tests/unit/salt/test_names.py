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


class Host:
    """A host with one pod of kube-proxy, whose copy is made when its container starts."""

    def __init__(self, root: Path) -> None:
        self.hosts, self.copy = root / "hosts", root / "pods/uid1/etc-hosts"
        self.copy.parent.mkdir(parents=True)
        self.hosts.write_text("127.0.0.1 localhost\n" + OLD)
        self.start()
        self.starts, self.retcode, self.pods = 0, 0, [{"metadata": {"uid": "uid1"}}]
        self.module: ModuleType = load("caisson_names")
        vars(self.module).update(
            HOSTS_FILE=str(self.hosts),
            PODS_DIR=str(root / "pods"),
            __pillar__={"caisson": {}},
            __salt__={"cmd.run_all": self.crictl, "caisson_installer.call": self.call},
        )

    def start(self, _: str = "") -> None:
        self.copy.write_text("# Kubernetes-managed hosts file (host network).\n" + self.hosts.read_text())

    def restart(self, name: str) -> None:
        assert name == "kube-proxy"
        self.starts += 1
        self.start()

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
        functions["caisson_kubeadm.restart_container"] = self.restart
        state = load("caisson_names", STATES_DIR)
        vars(state).update(__salt__=functions, __opts__={"test": test}, STARTED_TIMEOUT_S=0)
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


def test_a_pod_that_has_other_names_is_started_again_once(host: Host) -> None:
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}
    host.apply("known")
    said = host.apply("known_to_pods", app="kube-proxy")
    assert (said["result"], said["changes"], host.starts) == (True, {"kube-proxy": "started again"}, 1)
    assert host.apply("known_to_pods", app="kube-proxy")["changes"] == {}
    assert host.starts == 1


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
    assert (said["result"], said["changes"], host.starts) == (True, {}, 0)


def test_one_that_does_not_come_back_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.apply("known")
    monkeypatch.setattr(host, "start", lambda _="": None)
    said = host.apply("known_to_pods", app="kube-proxy")
    assert said["result"] is False
    assert "kube-proxy to start with the cluster's names: uid1" in said["comment"]


def test_a_runtime_that_does_not_answer_is_a_fault(host: Host) -> None:
    host.retcode = 1
    said = host.apply("known_to_pods", app="kube-proxy")
    assert (said["result"], said["comment"]) == (False, "crictl lists no pods: no runtime")
