# SPDX-License-Identifier: Apache-2.0
"""The pillar's top file is one for all nodes: several that are added side by side are all in it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from installer.base.paths import Paths
from installer.config import changes
from installer.engine import pillartop


def test_nodes_that_are_added_side_by_side_are_all_in_the_top_file(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    names = [f"node{number}.example" for number in range(2, 42)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda name: pillartop.write(paths, "node1", {"node": {"name": name, "x": name}}), names)
        )
    top = json.loads((paths.pillar_dir / "top.sls").read_text().partition("\n")[2])
    assert set(top["base"]) == {"node1", *names}
    assert pillartop.read(paths, names[0]) == {"node": {"name": names[0], "x": names[0]}}
    assert pillartop.read(paths, "node99") == {}
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: pillartop.forget(paths, "node1", name), names))
    top = json.loads((paths.pillar_dir / "top.sls").read_text().partition("\n")[2])
    assert set(top["base"]) == {"node1"}


def tell(tmp_path: Path, **roles: str) -> Paths:
    paths = Paths(tmp_path)
    for name, role in roles.items():
        pillartop.write(paths, "node1", {"node": {"name": name, "role": role}})
    return paths


ADD = "until 'caisson node add' is run again for them"
JOIN = "until each is taken out of the cluster and added again ('caisson node remove', 'caisson node add')"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ([], []),
        (["overrides.kubeProxy"], []),
        (["overrides.containerd"], [f"what they were told of overrides.containerd {ADD}: cp2, w1"]),
        (["overrides.kubelet"], [f"what they joined with of overrides.kubelet {JOIN}: cp2, w1"]),
        (
            ["overrides.kubelet", "overrides.kubeadmPatches"],
            [f"what they joined with of overrides.kubelet, overrides.kubeadmPatches {JOIN}: cp2, w1"],
        ),
        (["apiServer.extraSans"], [f"what they joined with of apiServer.extraSans {JOIN}: cp2"]),
        (
            ["apiServer.extraSans", "overrides.kubelet", "networks.controlPlane.cidrs"],
            [
                f"what they were told of networks.controlPlane.cidrs {ADD}: cp2, w1",
                f"what they joined with of overrides.kubelet {JOIN}: cp2, w1",
                f"what they joined with of apiServer.extraSans {JOIN}: cp2",
            ],
        ),
    ],
)
def test_it_is_said_how_a_change_gets_to_further_nodes(
    tmp_path: Path, changed: list[str], expected: list[str]
) -> None:
    """A node has its kubelet's configuration, its manifests and certificates of kubeadm, when it joins, and no more."""
    said = pillartop.unaware(tell(tmp_path, cp2="control-plane", w1="worker"), changed)
    assert said == "; ".join(f"further nodes keep {text}" for text in expected)


def test_a_name_of_the_api_is_no_worker_s_affair(tmp_path: Path) -> None:
    assert pillartop.unaware(tell(tmp_path, w1="worker"), ["apiServer.extraSans"]) == ""
    assert pillartop.unaware(Paths(tmp_path / "none"), ["overrides.kubelet"]) == ""


def test_its_keys_are_those_that_can_change() -> None:
    keys = {field.key for field in changes.FIELDS if not field.fixed}
    assert {*pillartop.BY_JOIN, *pillartop.BY_JOIN_OF_CONTROL_PLANES, *pillartop.OF_ALL_AT_ONCE} <= keys


def node(name: str, address: str) -> dict[str, dict[str, str]]:
    return {"node": {"name": name, "control_plane_address": address}}


def test_a_node_that_has_a_pillar_may_not_push(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    names = [f"node{number}" for number in range(2, 42)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: pillartop.write(paths, "node1", node(name, f"10.0.0.{name[4:]}")), names))
    barred = sorted(file.name for file in paths.barred_nodes_dir.iterdir())
    assert barred == sorted(f"10.0.0.{name[4:]}" for name in names)
    assert not pillartop.bar_pushes(paths, pillartop.pillars(paths))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: pillartop.forget(paths, "node1", name), names[1:]))
    assert [file.name for file in paths.barred_nodes_dir.iterdir()] == ["10.0.0.2"]


def test_an_address_that_a_node_had_may_push_again_when_the_bootstrap_has_looked(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    pillartop.write(paths, "node1", node("node2", "10.0.0.2"))
    pillartop.write(paths, "node1", node("node2", "10.0.0.3"))
    assert pillartop.let_push(paths)
    assert [file.name for file in paths.barred_nodes_dir.iterdir()] == ["10.0.0.3"]
    assert not pillartop.let_push(paths)
