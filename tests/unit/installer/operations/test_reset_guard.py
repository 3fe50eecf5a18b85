# SPDX-License-Identifier: Apache-2.0
"""Who may be reset: no host that others count on, or may; the cluster is played, the files of the host are real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError, CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config import changes, control_plane
from installer.engine import pillartop
from installer.operations import reset_guard, reset_plan

SILENT = Completed(
    1, "", "couldn't get current server API group list\ndial tcp 10.77.1.11:6443: i/o timeout\n"
)
GONE = Completed(0, "", "")


class Kubectl:
    """kubectl, which says the same to every question; ``asked``: those, without options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.says: Completed | Exception = GONE
        self.asked: list[str] = []
        monkeypatch.setattr(reset_guard, "run", self.run)

    def run(self, words: list[str], **_: Any) -> Completed:
        """Answer."""
        self.asked.append(" ".join(map(str, words)))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    return Kubectl(monkeypatch)


def host(root: Path, role: str, *files: str, name: str = "node2") -> Paths:
    """Return a host that was told this role, with these files."""
    paths = Paths(root)
    caisson = {
        "node": {"name": name, "role": role},
        "cluster": {"name": "lab"},
        "media_name": "media.lab.internal",
        "elsewhere": {"media.lab.internal": ["10.77.1.11"]},
        "self_dir": "/opt/caisson/0.1.0",
    }
    for file, text in (
        (paths.pillar_dir / "caisson.sls", "#!json\n" + json.dumps({"caisson": caisson})),
        *((paths.at(file), "x") for file in files),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return paths


KUBELET, ADMIN = "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/admin.conf"
FURTHER = [("worker", (KUBELET,)), ("control-plane", (KUBELET, ADMIN))]


@pytest.mark.parametrize(("role", "files"), FURTHER)
@pytest.mark.parametrize("said", [SILENT, CommandError("kubectl did not end in 15 s")])
def test_a_cluster_that_does_not_answer_lets_nobody_go(
    role: str, files: tuple[str, ...], said: Any, kubectl: Kubectl, tmp_path: Path
) -> None:
    """It is the moment in which people try a reset: its etcd may be the one that the others wait for."""
    kubectl.says = said
    with pytest.raises(
        ClusterError, match="does not answer: whether it counts on node2 is not known"
    ) as caught:
        reset_guard.refuse_member(host(tmp_path, role, *files))
    assert "caisson node remove node2" in caught.value.resolution
    assert "10.77.1.11" in caught.value.resolution
    assert "--force" in caught.value.resolution
    assert "timeout" in caught.value.details or "15 s" in caught.value.details


@pytest.mark.parametrize(("role", "files"), FURTHER)
def test_a_node_that_the_cluster_knows_is_removed_from_the_bootstrap_node(
    role: str, files: tuple[str, ...], kubectl: Kubectl, tmp_path: Path
) -> None:
    """Also a control plane, which sees all the others: they are not its to remove."""
    kubectl.says = Completed(0, "node/node2\n", "")
    with pytest.raises(ClusterError, match="node2 is a node of a cluster that still counts on it") as caught:
        reset_guard.refuse_member(host(tmp_path, role, *files))
    assert "on 10.77.1.11, the bootstrap node: caisson node remove node2" in caught.value.resolution
    assert "remove each first" not in caught.value.resolution
    assert ("vote" in caught.value.details) is (role == "control-plane")


@pytest.mark.parametrize(("role", "files"), FURTHER)
def test_one_that_the_cluster_has_let_go_of_may_go(
    role: str, files: tuple[str, ...], kubectl: Kubectl, tmp_path: Path
) -> None:
    reset_guard.refuse_member(host(tmp_path, role, *files))
    assert len(kubectl.asked) == 1


def test_one_that_never_joined_may_go(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.says = SILENT
    reset_guard.refuse_member(host(tmp_path, "worker"))
    assert kubectl.asked == []


@pytest.mark.parametrize(
    "said", [SILENT, Completed(0, "node/node1\nnode/node2\n", "")], ids=["silent", "told"]
)
def test_a_bootstrap_node_with_others_is_the_last_to_go(
    said: Completed, kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl.says = said
    monkeypatch.setattr(pillartop, "known", lambda _: ["node2"])
    with pytest.raises(ClusterError, match="1 other nodes belong to the cluster of this host: node2"):
        reset_guard.refuse_member(host(tmp_path, "bootstrap", KUBELET, ADMIN, name="node1"))


@pytest.mark.parametrize("said", [SILENT, Completed(0, "node/node1\n", "")])
def test_a_bootstrap_node_alone_may_go_also_without_its_api(
    said: Completed, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.says = said
    reset_guard.refuse_member(host(tmp_path, "bootstrap", KUBELET, ADMIN, name="node1"))


def test_a_host_that_is_in_no_cluster_may_go(kubectl: Kubectl, tmp_path: Path) -> None:
    reset_guard.refuse_member(Paths(tmp_path))
    assert kubectl.asked == []


def test_one_that_was_begun_goes_on(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.says = SILENT
    paths = host(tmp_path, "worker", KUBELET)
    reset_plan.write(paths, reset_plan.Noted("/var/log/caisson/before-reset-x", {}))
    reset_guard.refuse_member(paths)


# ---- whose control plane it is ---------------------------------------------------------------------------------


def test_a_control_plane_of_others_is_theirs(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="did not make the control plane"):
        reset_guard.refuse_foreign(host(tmp_path, "control-plane", control_plane.LIVING_FILES[1]))


@pytest.mark.parametrize("stamp", [changes.FIRST_STAMP, control_plane.JOIN_STAMP])
def test_one_that_was_founded_or_has_joined_is_caisson_s(tmp_path: Path, stamp: str) -> None:
    reset_guard.refuse_foreign(host(tmp_path, "control-plane", control_plane.LIVING_FILES[1], stamp))


def test_the_two_sides_mean_the_same_stamp(repository_dir: Path) -> None:
    text = (repository_dir / "salt/_modules/caisson_member.py").read_text(encoding="utf-8")
    directory, _, name = control_plane.JOIN_STAMP.rpartition("/")
    assert f'STAMPS_DIR = "{directory}"' in text
    assert 'f"join-{phase.replace(' in text
    assert 'PHASES = ("preflight"' in text
    assert name == "join-preflight.json"


def test_a_control_plane_that_was_taken_out_asks_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The API server beside it has no etcd any more, and that is who its kubelet asks."""

    def run(words: list[str], **_: Any) -> Completed:
        return SILENT if words[2].endswith(KUBELET) else GONE

    monkeypatch.setattr(reset_guard, "run", run)
    reset_guard.refuse_member(host(tmp_path, "control-plane", KUBELET, ADMIN))
    with pytest.raises(ClusterError, match="does not answer"):
        reset_guard.refuse_member(host(tmp_path / "worker", "worker", KUBELET))
