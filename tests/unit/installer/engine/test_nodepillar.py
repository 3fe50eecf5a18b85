# SPDX-License-Identifier: Apache-2.0
"""What a worker is told: all that its states read, nothing of the bootstrap node's own, no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installer.config import bootstrap as config
from installer.config import facts
from installer.config.facts import Address
from installer.config.nodes import NodeEntry, Taint
from installer.engine import nodepillar, saltcall
from installer.engine.context import Context
from tests.unit.installer.helpers import CONFIG_TEXT, make_config, make_context, make_facts

OVERRIDES = """\
overrides:
  kubelet: {failSwapOn: false}
  kubeadmPatches:
    etcd0+merge.yaml: "metadata: {}"
    kubeletconfiguration1+merge.yaml: "maxPods: 200"
"""
ENTRY = NodeEntry("10.77.1.12", name="node2", taints=(Taint("gpu", "", "NoSchedule"),))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path, config=make_config(OVERRIDES))


@pytest.fixture
def caisson(context: Context) -> dict[str, Any]:
    addresses = [Address("ens1", "10.77.1.12", 24), Address("ens2", "10.77.2.12", 24)]
    found = facts.gather(
        make_config("node: {name: node2}\n"), addresses, resolv_conf_file=Path("/nonexistent")
    )
    return nodepillar.pillar(context, ENTRY, found, media_port=8443, cluster_ca_sha256="ab")


def test_what_is_its_own(caisson: dict[str, Any]) -> None:
    assert caisson["node"] == {
        "name": "node2",
        "role": "worker",
        "control_plane_address": "10.77.1.12",
        "control_plane_interface": "ens1",
        "workload_plane_address": "10.77.2.12",
        "workload_plane_interface": "ens2",
        "labels": {},
        "taints": [{"key": "gpu", "value": "", "effect": "NoSchedule"}],
    }
    assert caisson["elsewhere"] == {"api.lab.internal": ["10.77.1.11"], "media.lab.internal": ["10.77.1.11"]}
    assert caisson["control_planes"] == []


def test_with_a_virtual_address_the_name_of_the_api_leads_there(tmp_path: Path) -> None:
    """Not to the node that adds it: that one may be the next to fail. Media stay where they are."""
    text = CONFIG_TEXT.replace("10.77.1.0/24]", "10.77.1.0/24], vip: 10.77.1.100", 1)
    context = make_context(tmp_path, config=config.parse(text))
    caisson = nodepillar.pillar(context, ENTRY, make_facts(), media_port=8443, cluster_ca_sha256="ab")
    assert caisson["elsewhere"] == {"api.lab.internal": ["10.77.1.100"], "media.lab.internal": ["10.77.1.11"]}
    assert caisson["control_planes"] == []


def test_packages_and_images_are_asked_for_by_name(caisson: dict[str, Any]) -> None:
    assert caisson["repository"] == {
        "url": "https://media.lab.internal:8443/repo/el9",
        "ca_file": "/etc/caisson/ca.crt",
    }
    assert caisson["media_servers"] == [{"address": "media.lab.internal"}]
    assert caisson["media_dir"] == caisson["self_dir"]


def test_only_what_a_worker_reads_is_told(context: Context, caisson: dict[str, Any]) -> None:
    assert set(caisson["overrides"]) == {"containerd", "kubelet", "kubeadm_patches", "ignore_preflights"}
    assert list(caisson["overrides"]["kubeadm_patches"]) == ["kubeletconfiguration1+merge.yaml"]
    assert set(saltcall.pillar(context)) - set(caisson) == {
        "api_server",
        "authorities",
        "built",
        "manifests",
        "media",
        "nameservers",
        "site_images",
    }


def test_salt_works_there_without_its_master(caisson: dict[str, Any]) -> None:
    files = nodepillar.local_files(caisson)
    local = json.loads(files["/etc/caisson/salt/local/minion"])
    assert local["id"] == "node2"
    assert local["file_roots"] == {"base": [f"{caisson['media_dir']}/salt"]}
    assert json.loads(files["/etc/caisson/pillar/top.sls"].partition("\n")[2])["base"].keys() == {"node2"}
    assert json.loads(files["/etc/caisson/pillar/caisson.sls"].partition("\n")[2]) == {"caisson": caisson}


def test_its_minion_is_set_as_the_bootstrap_nodes_is(caisson: dict[str, Any], repository_dir: Path) -> None:
    """But for where its modules are: one is rendered by Salt, the other must be there before Salt."""
    text = nodepillar.minion_configuration(caisson, "10.77.1.11")
    said = json.loads(text.partition("\n")[2])
    assert (said["master"], said["id"]) == ("10.77.1.11", "node2")
    state = (repository_dir / "salt/salt_minion/connected.sls").read_text()
    block = state.partition("- contents: |\n")[2].partition("- makedirs")[0]
    assert {line.split(":")[0].strip() for line in block.splitlines() if ":" in line} == set(said)
