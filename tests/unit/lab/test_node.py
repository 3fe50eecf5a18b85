# SPDX-License-Identifier: Apache-2.0
"""Names, addresses, commands and files of a node; booting one is tested in tests/node."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
import yaml

from lab import places
from lab.errors import LabError
from lab.node import Lab, Node, bootstrap_config, nspawn_command, personal_files
from lab.places import LabPlaces
from tests.conftest import GoldenCheck


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAISSON_CACHE", "/cache")


def test_addresses_follow_the_number() -> None:
    node = Node("demo", "node2")
    assert node.control_plane_address == "10.77.1.12"
    assert node.workload_plane_address == "10.77.2.12"
    assert node.uplink_address == "10.77.3.12"


@pytest.mark.parametrize("name", ["node", "node0", "node201", "1", "Node1", "node1.example", "node-1x", ""])
def test_names_that_no_node_can_have(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a node"):
        Node("demo", name)


@pytest.mark.parametrize("name", ["Demo", "1st", "a-b", "a" * 13, "../etc"])
def test_names_that_no_lab_can_have(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a lab"):
        Lab(name)


def test_two_labs_of_one_process_have_two_names() -> None:
    assert Lab().name != Lab().name


def test_everything_of_a_node_carries_the_labs_name() -> None:
    node = LabPlaces(lab="demo").node("node1")
    assert node.key == "caisson-demo-node1"
    assert node.netns_file == Path("/run/netns/caisson-demo-node1")
    assert node.root_dir == Path("/run/caisson-lab/demo/node1/root")
    assert node.image_file == Path("/cache/lab/nodes/demo/node1.xfs")


def test_link_addresses_are_unlike() -> None:
    addresses = [plane.mac_address(number) for plane in places.PLANES for number in range(1, 201)]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("02:") and len(address) == 17 for address in addresses)


def test_nspawn_command(golden: GoldenCheck) -> None:
    command = map(str, nspawn_command(LabPlaces(lab="demo").node("node1")))
    modules = f"--bind-ro=/lib/modules/{os.uname().release}"
    golden("nspawn.txt", "".join(f"{word}\n" for word in command if word != modules))


def test_personal_files() -> None:
    files = personal_files(Node("demo", "node1"), nameserver="10.77.3.1")
    assert files["etc/hostname"] == "node1\n"
    assert "10.77.1.11   node1" in files["etc/hosts"].splitlines()
    assert files["etc/resolv.conf"] == "nameserver 10.77.3.1\n"
    assert len(files["etc/machine-id"]) == 33
    assert personal_files(Node("demo", "node1"), nameserver=None)["etc/resolv.conf"] == ""


def test_bootstrap_configuration(golden: GoldenCheck) -> None:
    text = bootstrap_config("node1", cluster_name="lab")
    golden("bootstrap.yaml", text)
    document = yaml.safe_load(text)
    assert tomllib.loads(document["overrides"]["containerd"])["version"] == 3
    assert all(entry["reason"] for entry in document["overrides"]["ignorePreflights"])


def test_the_first_range_of_each_plane_matches_nothing() -> None:
    networks = yaml.safe_load(bootstrap_config("node1", cluster_name="lab"))["networks"]
    own = {plane.cidr for plane in places.PLANES}
    for plane in ("controlPlane", "workloadPlane"):
        first, second = networks[plane]["cidrs"]
        assert first not in own
        assert second in own
