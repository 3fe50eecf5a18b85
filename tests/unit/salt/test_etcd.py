# SPDX-License-Identifier: Apache-2.0
"""etcd is founded once, whole or not at all; ctr's part is played by a list of calls."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.salt.test_kubeadm import STATES_DIR
from tests.unit.salt.test_modules import load


class State:
    """What ``installer.operations.etcd_state`` answers: silence, then a member without a leader, then with one."""

    FAULTS = (OSError,)
    QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (("/v3/maintenance/status", {}),)

    def __init__(self) -> None:
        self.answers: list[Any] = [OSError("refused"), {}, {"leader": "7"}]

    def call(self, _: object, port: int, question: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        assert port > 0
        assert question == self.QUESTIONS[0]
        answer = self.answers.pop(0) if self.answers else {"leader": "7"}
        if isinstance(answer, Exception):
            raise answer
        return [answer]


class Host:
    """A host whose containerd runs one container, which makes data."""

    def __init__(self, root: Path) -> None:
        self.root, self.state = root, State()
        self.calls: list[str] = []
        self.is_running = False
        self.is_others = False
        self.fails_at = ""
        self.module: ModuleType = load("caisson_etcd")
        result = load("caisson_result")
        vars(self.module).update(
            DATA_DIR=str(root / "etcd"),
            MANIFEST_FILE=str(root / "etcd.yaml"),
            READY_TIMEOUT_S=2,
            __pillar__={
                "caisson": {
                    "node": {"name": "node1", "control_plane_address": "10.0.0.1"},
                    "images": {"etcd": {"reference": "registry.k8s.io/etcd:3"}},
                }
            },
            __salt__={
                "cmd.run_all": self.run,
                "caisson_installer.load": lambda _: self.state,
                "caisson_installer.call": lambda *_: None,
                "caisson_kubeadm.is_left_alone": lambda: self.is_others,
                "caisson_result.until": result.until,
            },
        )

    def run(self, words: list[str], **_: Any) -> dict[str, Any]:
        said = " ".join(words[3:])
        self.calls.append(said)
        stdout = ""
        if words[3] == "run":
            assert not self.is_running
            self.is_running = True
            (self.place / "member/wal").mkdir(parents=True)
            (self.place / "member/wal/0.wal").write_text("x")
        if words[3:5] == ["task", "kill"]:
            self.is_running = False
        if words[3:5] == ["task", "list"]:
            stdout = (
                f"TASK PID STATUS\ncaisson-etcd-founding 7 {'RUNNING' if self.is_running else 'STOPPED'}\n"
            )
        is_bad = bool(self.fails_at) and said.startswith(self.fails_at)
        return {"retcode": int(is_bad), "stdout": stdout, "stderr": "no" if is_bad else ""}

    @property
    def place(self) -> Path:
        return self.root / "etcd/.founding"

    def apply(self, *, test: bool = False) -> dict[str, Any]:
        functions = {
            f"caisson_etcd.{key}": value for key, value in vars(self.module).items() if callable(value)
        }
        state = load("caisson_etcd", STATES_DIR)
        ensure = load("caisson_result").ensure
        vars(state).update(__salt__={**functions, "caisson_result.ensure": ensure}, __opts__={"test": test})
        said: dict[str, Any] = state.founded("Found the cluster's etcd")
        return said

    def files(self) -> list[str]:
        return sorted(str(file.relative_to(self.root)) for file in self.root.rglob("*") if file.is_file())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_it_is_founded_once_with_the_member_s_name_and_address(host: Host) -> None:
    said = host.apply()
    assert (said["result"], said["changes"]) == (True, {"etcd": "founded"})
    assert host.files() == ["etcd/member/wal/0.wal"]
    (run,) = (call for call in host.calls if call.startswith("run "))
    assert "--initial-cluster=node1=https://10.0.0.1:2380" in run
    assert "--initial-advertise-peer-urls=https://10.0.0.1:2380" in run
    assert host.apply()["changes"] == {}
    assert len([call for call in host.calls if call.startswith("run ")]) == 1


def test_nobody_on_the_host_gets_in_meanwhile(host: Host) -> None:
    """It listens on loopback, where every user of the host is, and asks for certificates as the pod does."""
    command = host.module.command(12345)
    assert "--listen-client-urls=https://127.0.0.1:12345" in command
    for flag in ("client-cert-auth", "peer-client-cert-auth"):
        assert f"--{flag}=true" in command
    assert not [word for word in command if "http://" in word]


def test_it_stops_in_order_before_its_data_counts(host: Host) -> None:
    host.apply()
    verbs = [" ".join(call.split()[:2]) for call in host.calls]
    begun = next(place for place, verb in enumerate(verbs) if verb.startswith("run "))
    assert "SIGTERM" in host.calls[begun + 1]
    assert verbs[begun + 2] == "task list"


@pytest.mark.parametrize("fails_at", ["run ", "task list"])
def test_what_failed_leaves_nothing_and_can_be_tried_again(host: Host, fails_at: str) -> None:
    host.fails_at = fails_at
    said = host.apply()
    assert (said["result"], host.files(), host.is_running) == (False, [], False)
    host.fails_at = ""
    assert host.apply()["result"] is True


def test_what_a_power_cut_left_is_no_data(host: Host) -> None:
    (host.place / "member/wal").mkdir(parents=True)
    (host.place / "member/wal/9.wal").write_text("half")
    assert host.apply()["result"] is True
    assert host.files() == ["etcd/member/wal/0.wal"]


@pytest.mark.parametrize("there", ["etcd.yaml", "etcd/member/wal/0.wal"])
def test_a_cluster_that_was_there_is_never_founded_again(host: Host, there: str) -> None:
    """Not even where its data is gone: that is what somebody has to know."""
    file = host.root / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    said = host.apply()
    assert (said["changes"], host.calls) == ({}, [])


def test_that_of_others_is_left_alone(host: Host) -> None:
    host.is_others = True
    assert (host.apply()["changes"], host.calls) == ({}, [])


def test_in_test_mode_nothing_is_run(host: Host) -> None:
    assert (host.apply(test=True)["result"], host.calls) == (None, [])
