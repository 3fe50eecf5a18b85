# SPDX-License-Identifier: Apache-2.0
"""What the door tells of the host: from systemd, files and containerd; what nobody knows is None, never a good word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.operations.door import host
from tests.door_shapes import validator

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system}
"""
LABELS = {
    "io.kubernetes.pod.name": "etcd-node1",
    "io.kubernetes.pod.namespace": "kube-system",
    "io.kubernetes.container.name": "etcd",
}
SHOWN = """\
Id=kubelet.service
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
ExecMainStatus=1
NRestarts=7
StateChangeTimestamp=@1764316800

Id=containerd.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
ExecMainStatus=0
NRestarts=0
StateChangeTimestamp=
"""


def looked(paths: Paths, *, address: str, api_port: int) -> Any:
    """Return what is told of the host, after a comparison with the schema."""
    found = host.gather(paths, address=address, api_port=api_port)
    validator("door", "this_host").validate(json.loads(json.dumps(found)))
    return found


class Programs:
    """The programs of a host on which the kubelet has failed and etcd ended twice."""

    def __init__(self) -> None:
        self.silent: set[str] = set()

    def __call__(self, args: Sequence[str], **_: object) -> Completed:
        if args[0] in self.silent:
            raise CommandError(f"{args[0]} did not finish")
        said = {
            "systemctl": SHOWN,
            "journalctl": "kubelet: cannot \x1b[31mstart\n" * 30,
            "timedatectl": "NTPSynchronized=yes\nNTP=no\nTimezone=UTC\n",
        }.get(args[0], "")
        if args[0] == "crictl":
            exited = {"id": "a", "state": "CONTAINER_EXITED", "labels": LABELS, "createdAt": "1"}
            running = {**exited, "state": "CONTAINER_RUNNING", "metadata": {"attempt": 2}}
            status = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-28T09:59:00.5+02:00"}
            shown = {"status": status} if args[1] == "inspect" else {"containers": [exited, running]}
            said = json.dumps(shown)
        return Completed(0, said, "")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs()
    monkeypatch.setattr(host, "run", found)
    return found


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    manifests = tmp_path / "etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "etcd.yaml").write_text(POD)
    logs = tmp_path / "var/log/pods/kube-system_etcd-node1_0123/etcd"
    logs.mkdir(parents=True)
    for number in (1, 3):
        lines = [f"2026-11-28T08:00:00Z stderr F {number}: line {line}\n" for line in range(30)]
        (logs / f"{number}.log").write_text("".join(lines))
    return Paths(tmp_path)


def test_a_service_that_failed_comes_with_its_last_words(paths: Paths, programs: Programs) -> None:
    del programs
    kubelet, containerd = looked(paths, address="", api_port=6443)["services"]
    assert (kubelet["name"], kubelet["state"], kubelet["exit_code"], kubelet["restarts"]) == (
        "kubelet", "failed", 1, 7,
    )  # fmt: skip
    assert (kubelet["since"], containerd["since"]) == ("2025-11-28T08:00:00Z", "")
    assert len(kubelet["lines"]) == host.LINES
    assert "\x1b" not in kubelet["lines"][0]
    assert (containerd["state"], containerd["lines"]) == ("active", ())


def test_a_static_pod_comes_with_restarts_its_last_exit_and_its_log(paths: Paths, programs: Programs) -> None:
    del programs
    (etcd,) = looked(paths, address="", api_port=6443)["static_pods"]
    assert (etcd["name"], etcd["running"], etcd["restarts"]) == ("etcd", True, 2)
    assert etcd["last_exit"] == {"code": 137, "reason": "OOMKilled", "time": "2026-11-28T07:59:00Z"}
    assert etcd["lines"][-1] == "3: line 29"


def test_without_containerd_the_log_still_speaks(paths: Paths, programs: Programs) -> None:
    programs.silent = {"crictl", "systemctl", "timedatectl"}
    found = looked(paths, address="", api_port=6443)
    (etcd,) = found["static_pods"]
    assert (etcd["running"], etcd["restarts"], etcd["last_exit"]) == (None, 3, None)
    assert etcd["lines"]
    assert found["services"] is None
    assert found["clock"]["synchronized"] is None
    assert found["api"] is None
