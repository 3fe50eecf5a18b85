# SPDX-License-Identifier: Apache-2.0
"""What runs on a node ends in the right order, and what a dead containerd left does too: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.run import Completed
from installer.operations import reset_pods
from installer.operations.reset_plan import ResetContext
from tests.unit.installer.operations.resetting import make_reset

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.call([sys.executable, '-c', '{SLEEP}'])"


def _pod(number: int, name: str, source: str) -> dict[str, Any]:
    return {"id": f"id{number}", "metadata": {"name": name}, "annotations": {reset_pods.SOURCE: source}}


def test_the_static_ones_come_last_and_the_shared_address_goes_first() -> None:
    pods = [
        _pod(1, "kube-apiserver-node1", "file"),
        _pod(2, "coredns-1", "api"),
        _pod(3, "keepalived-node1", "file"),
        _pod(4, "keepalived-of-site", "api"),
        {"id": "id5"},
    ]
    assert reset_pods.rounds(pods) == [
        ("pod of keepalived", ["id3"]),
        ("pods", ["id2", "id4", "id5"]),
        ("static pods", ["id1"]),
    ]


def test_what_has_the_shared_address_is_let_end_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is killed leaves the address on its interface."""
    ran: list[tuple[str, ...]] = []

    def crictl(*words: str, timeout_s: float) -> Completed:
        assert timeout_s > 10
        ran.append(words)
        return Completed(0, "c1\n" if words[0] == "ps" else "", "")

    pods = [_pod(3, "keepalived-node1", "file"), _pod(1, "etcd-node1", "file")]
    monkeypatch.setattr(reset_pods, "_crictl_pods", lambda: pods)
    monkeypatch.setattr(reset_pods, "_crictl", crictl)
    monkeypatch.setattr(reset_pods, "left_shims", list)
    for action in reset_pods.plan_pods(cast("ResetContext", None))[:2]:
        action.do()
    assert ran == [
        ("ps", "--quiet", "--pod", "id3"),
        ("stop", "--timeout=10", "c1"),
        ("rmp", "--force", "id3"),
        ("rmp", "--force", "id1"),
    ]


@pytest.mark.subprocess
def test_a_shim_of_the_kubelet_s_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """One of another namespace of containerd is somebody else's."""
    program = tmp_path / "containerd-shim-runc-v2"
    program.symlink_to(sys.executable)
    words = ["-c", PARENT, "-address", "/run/containerd/containerd.sock"]
    ours = subprocess.Popen([program, *words, "-namespace", "k8s.io"])
    others = subprocess.Popen([program, *words, "-namespace", "moby"])
    try:
        deadline = time.monotonic() + 10
        while not reset_pods.descendants([ours.pid]) and time.monotonic() < deadline:
            time.sleep(0.05)
        (child,) = reset_pods.descendants([ours.pid])
        assert ours.pid in reset_pods.left_shims()
        assert others.pid not in reset_pods.left_shims()
        reset_pods.end_left()
        assert ours.wait(timeout=5) == -9
        assert not Path(f"/proc/{child}/fd").exists() or "Z" in Path(f"/proc/{child}/stat").read_text("utf-8")
        assert others.poll() is None
    finally:
        for number in [*reset_pods.descendants([others.pid]), others.pid]:
            os.kill(number, 9)
        others.wait()


def test_control_groups_go_unless_something_is_in_one(tmp_path: Path) -> None:
    root = tmp_path / "sys/fs/cgroup"
    for name in ("memory/kubepods/burstable/pod1", "cpu/kubepods/pod2", "memory/site"):
        (root / name).mkdir(parents=True)
    (root / "cpu/kubepods/pod2/cgroup.procs").write_text("17\n", encoding="ascii")
    actions = reset_pods.plan_groups(make_reset(tmp_path))
    assert [action.text for action in actions] == ["remove 1 control groups of pods"]
    actions[0].do()
    left = sorted(str(place.relative_to(root)) for place in root.rglob("*") if place.is_dir())
    assert left == ["cpu", "cpu/kubepods", "cpu/kubepods/pod2", "memory", "memory/site"]
    assert reset_pods.plan_groups(make_reset(tmp_path)) == []
