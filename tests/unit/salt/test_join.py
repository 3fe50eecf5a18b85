# SPDX-License-Identifier: Apache-2.0
"""A node joins once, whatever was cut off before: on a tree of files, with kubeadm's part played by a list of calls."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import caisson, load

__all__ = ["caisson"]
CA = "-----BEGIN CERTIFICATE-----\nours\n"
MADE = ("kubernetes/kubelet.conf", "kubernetes/pki/ca.crt", "client.pem", "config.yaml")


class Host:
    """A host whose kubeadm writes what the real one writes, and whose kubelet then gets its certificate."""

    def __init__(self, root: Path, *, fails_at: str = "") -> None:
        self.root = root
        self.fails_at = fails_at
        self.calls: list[str] = []
        self.module: ModuleType = load("caisson_join")
        vars(self.module).update(
            KUBERNETES_DIR=str(root / "kubernetes"),
            CLIENT_CERTIFICATE_FILE=str(root / "client.pem"),
            CONFIG_FILE=str(root / "config.yaml"),
            DISCOVERY_FILE=str(root / "join/discovery.conf"),
            __pillar__={"caisson": {"cluster": {"ca_sha256": hashlib.sha256(CA.encode()).hexdigest()}}},
            __salt__={"cmd.run_all": self.run},
        )
        (root / "kubernetes/pki").mkdir(parents=True)
        self.send("token: secret\n")

    def send(self, text: str) -> None:
        """Write what comes over SSH before the join."""
        (self.root / "join").mkdir(exist_ok=True)
        (self.root / "join/discovery.conf").write_text(text)

    def run(self, words: list[str], **_: Any) -> dict[str, Any]:
        call = " ".join(words[:4])
        self.calls.append(call)
        if self.fails_at and call.endswith(self.fails_at):
            return {"retcode": 1, "stdout": "", "stderr": "[ERROR X]: no\n"}
        if call.endswith("preflight"):
            there = [name for name in MADE[:2] if (self.root / name).exists()]
            assert not there, f"kubeadm refuses: {there}"
        if call.endswith("kubelet-start"):
            (self.root / "kubernetes/bootstrap-kubelet.conf").write_text("token: secret\n")
            for name in MADE:
                (self.root / name).write_text(CA if name.endswith("ca.crt") else "x")
        return {"retcode": 0, "stdout": "", "stderr": ""}

    def state(self, *, test: bool = False) -> dict[str, Any]:
        result = load("caisson_result")
        functions = {
            f"caisson_join.{name}": value for name, value in vars(self.module).items() if callable(value)
        }
        functions |= {"caisson_result.ensure": result.ensure, "caisson_result.until": result.until}
        state = load("caisson_join", STATES_DIR)
        vars(state).update(__salt__=functions, __opts__={"test": test}, JOINED_TIMEOUT_S=0)
        said: dict[str, Any] = state.joined("Join the cluster")
        return said

    def files(self) -> set[str]:
        return {str(file.relative_to(self.root)) for file in self.root.rglob("*") if file.is_file()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_it_joins_and_no_token_stays(host: Host) -> None:
    said = host.state()
    assert said["result"] is True, said
    assert said["changes"]
    assert host.calls == ["kubeadm join phase preflight", "kubeadm join phase kubelet-start"]
    assert host.files() == set(MADE)
    assert not (host.root / "join").exists(), (
        "a run that is killed here finds nothing to do when it comes again"
    )


def test_a_second_time_changes_nothing_and_takes_the_next_token_away(host: Host) -> None:
    host.state()
    host.send("token: another\n")
    again = host.state()
    assert (again["result"], again["changes"], len(host.calls)) == (True, {}, 2)
    assert host.files() == set(MADE)


@pytest.mark.parametrize("left", [MADE[:1], MADE[1:2], ("kubernetes/bootstrap-kubelet.conf", *MADE[1:2])])
def test_a_join_that_was_cut_off_is_begun_again(host: Host, left: tuple[str, ...]) -> None:
    for name in left:
        (host.root / name).write_text(CA)
    assert host.state()["result"] is True
    assert host.calls[0] == "systemctl stop kubelet.service"
    assert host.files() == set(MADE)


def test_a_join_that_was_cut_off_after_its_end_is_not_begun_again(host: Host) -> None:
    """The cluster had taken the node already: only what holds the token was left."""
    host.run(["kubeadm", "join", "phase", "kubelet-start"])
    host.calls.clear()
    said = host.state()
    assert (said["result"], said["changes"], host.calls) == (True, {}, [])
    assert host.files() == set(MADE)


def test_a_node_of_another_cluster_is_left_alone(host: Host) -> None:
    for name in MADE:
        (host.root / name).write_text("another cluster's\n")
    before = host.files()
    said = host.state()
    assert said["result"] is False
    assert "node of another cluster" in said["comment"]
    assert (host.calls, host.files()) == ([], before)


def test_without_a_token_it_says_how_to_get_one(host: Host) -> None:
    (host.root / "join/discovery.conf").unlink()
    said = host.state()
    assert said["result"] is False
    assert "'caisson node add' again" in said["comment"]


@pytest.mark.parametrize("phase", ["preflight", "kubelet-start"])
def test_kubeadm_s_own_words_are_shown(host: Host, phase: str) -> None:
    host.fails_at = phase
    said = host.state()
    assert said["result"] is False
    assert f"phase {phase} --config" in said["comment"]
    assert "[ERROR X]: no" in said["comment"]


def test_a_test_run_only_looks(host: Host) -> None:
    before = host.files()
    assert host.state(test=True)["result"] is None
    assert (host.calls, host.files()) == ([], before)


def test_a_worker_gets_the_kubelet_s_patches_only(caisson: dict[str, Any]) -> None:
    changed = copy.deepcopy(caisson)
    changed["overrides"]["kubeadm_patches"]["kubeletconfiguration5+json.json"] = "[]"
    found = load("caisson_kubeadm").node_patches(changed)
    assert sorted(found) == ["kubeletconfiguration0+strategic.json", "kubeletconfiguration5+json.json"]


def test_both_files_of_kubeadm_register_a_node_alike(caisson: dict[str, Any]) -> None:
    module = load("caisson_kubeadm")
    init, join = module.configuration(caisson)[0], module.join_configuration(caisson)
    assert init["nodeRegistration"] == join["nodeRegistration"]


def test_a_control_plane_gets_all_patches_and_says_where_it_serves(caisson: dict[str, Any]) -> None:
    module, changed = load("caisson_kubeadm"), copy.deepcopy(caisson)
    changed["node"]["role"] = "control-plane"
    assert module.node_patches(changed) == module.patches(changed)
    address = changed["node"]["control_plane_address"]
    said = module.join_configuration(changed)
    assert said["controlPlane"] == {"localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443}}
    assert "controlPlane" not in module.join_configuration(caisson)


def test_the_two_modules_mean_the_same_file() -> None:
    assert load("caisson_join").DISCOVERY_FILE == load("caisson_kubeadm").DISCOVERY_FILE
