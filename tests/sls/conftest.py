# SPDX-License-Identifier: Apache-2.0
"""Pillars as the installer writes them: made by the installer's own code from whole configurations."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from installer.base.ui import Ui
from installer.config import bootstrap as config
from installer.config.facts import Facts
from installer.config.nodes import NodeEntry, Role, Taint
from installer.engine import nodepillar, saltcall
from installer.engine.context import Context
from installer.engine.journal import Journal
from installer.media import product
from tests.authorities import make_authority
from tests.sls.compiler import GRAINS, Compiler

REPOSITORY_DIR = Path(__file__).parents[2]
VERSION = "9.9.9"
# A configuration that says as little as it can, and one that says all that there is.
CONFIGURATIONS = {
    "least": """
apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: least
networks:
  controlPlane: {cidrs: [192.0.2.0/24]}
""",
    "most": """
apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: most
networks:
  controlPlane: {cidrs: [203.0.113.0/24, 192.0.2.0/24], vip: 192.0.2.200}
  workloadPlane: {cidrs: [203.0.113.0/24, 198.51.100.0/24]}
  pods: {cidr: 10.200.0.0/16}
  services: {cidr: 10.201.0.0/16}
node: {name: node1}
apiServer: {extraSans: [k8s.example.com, 203.0.113.9]}
authorities:
  services: {certificateFile: AUTHORITY/ca.crt, keyFile: AUTHORITY/ca.key}
  cluster: {certificateFile: AUTHORITY/ca.crt, keyFile: AUTHORITY/ca.key}
overrides:
  containerd: |
    version = 3
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
  kubelet: {cgroupDriver: cgroupfs, failCgroupV1: false, failSwapOn: false}
  kubeProxy: {conntrack: {maxPerCore: 0}}
  kubeadmPatches:
    etcd0+merge.yaml: |
      metadata: {annotations: {example.com/of: "{{ braces }} are no template"}}
  ignorePreflights: [{id: SystemVerification, reason: a test}]
""",
}


def _product() -> product.Product:
    """Return a product that holds what images.yaml asks for, with digests of nothing."""
    inventory = yaml.safe_load((REPOSITORY_DIR / "images.yaml").read_text())
    versions = yaml.safe_load((REPOSITORY_DIR / "versions.yaml").read_text())["versions"]
    images = {
        entry["id"]: {
            "reference": entry["reference"].format(**versions),
            "digest": "sha256:" + "1" * 64,
            "platform_digest": "sha256:" + "2" * 64,
            "size_bytes": 1,
            "preload": entry.get("preload", False),
        }
        for entry in [*inventory["images"], *inventory["composed"]]
        if entry.get("role") != "base"
    }
    manifests = {
        entry["id"]: {"path": f"manifests/{entry['path']}", "sha256": "3" * 64}
        for entry in inventory["manifests"]
    }
    data = {
        "format": 1,
        "name": "caisson",
        "version": VERSION,
        "profile": {"name": "production", "lab": False},
        "lock_sha256": "4" * 64,
        "source_date_epoch": 0,
        "versions": {name: str(version) for name, version in versions.items()},
        "images": images,
        "packages": {},
        "manifests": manifests,
        "rpm_keys": [],
        "tools": {},
    }
    return product.parse(json.dumps(data).encode())


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """Return the compiler of the whole tree."""
    return Compiler(REPOSITORY_DIR / "salt", tmp_path_factory.mktemp("minion"), GRAINS)


def _context(name: str, authority_dir: Path, state_dir: Path) -> Context:
    """Return the bootstrap node of the cluster that has one of the configurations."""
    configuration = config.parse(CONFIGURATIONS[name].replace("AUTHORITY", str(authority_dir)))
    facts = Facts(
        node_name="node1",
        control_plane_address="192.0.2.11",
        control_plane_interface="eth0",
        control_plane_cidr="192.0.2.0/24",
        workload_plane_address="192.0.2.11" if name == "least" else "198.51.100.11",
        workload_plane_interface="eth0" if name == "least" else "eth1",
        workload_plane_cidr="192.0.2.0/24" if name == "least" else "198.51.100.0/24",
        nameservers=() if name == "least" else ("192.0.2.1",),
        endpoint=configuration.endpoint,
    )
    return Context(
        config=configuration,
        facts=facts,
        product=_product(),
        media_dir=Path(f"/srv/caisson/{VERSION}"),
        ui=Ui(io.StringIO()),
        journal=Journal(state_dir / "journal.jsonl"),
        source_dir=Path("/mnt/caisson"),
        config_file=Path("/etc/caisson/bootstrap.yaml"),
    )


@pytest.fixture(scope="session", params=sorted(CONFIGURATIONS))
def pillar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the pillar of one configuration."""
    return pillar_of_bootstrap(request.param, tmp_path_factory)


def pillar_of_bootstrap(name: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the pillar of the bootstrap node in the cluster of one configuration."""
    authority_dir = make_authority(tmp_path_factory.mktemp("authority"))[0].parent
    context = _context(name, authority_dir, tmp_path_factory.mktemp("state"))
    # As Salt reads it back: what is no JSON would be found here.
    read_back: dict[str, Any] = json.loads(json.dumps({"caisson": saltcall.pillar(context)}))
    return read_back


def pillar_of_node(name: str, role: Role, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the pillar of a further node in the cluster of one configuration."""
    authority_dir = make_authority(tmp_path_factory.mktemp("authority"))[0].parent
    context = _context(name, authority_dir, tmp_path_factory.mktemp("state"))
    entry = NodeEntry("192.0.2.12", role, name="node2", taints=(Taint("gpu", "yes", "NoSchedule"),))
    facts = replace(context.facts, node_name="node2", control_plane_address="192.0.2.12")
    caisson = nodepillar.pillar(context, entry, facts, media_port=8443, cluster_ca_sha256="5" * 64)
    read_back: dict[str, Any] = json.loads(json.dumps({"caisson": caisson}))
    return read_back


@pytest.fixture(scope="session", params=sorted(CONFIGURATIONS))
def worker_pillar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the pillar of a worker."""
    return pillar_of_node(request.param, Role.WORKER, tmp_path_factory)


@pytest.fixture(scope="session", params=sorted(CONFIGURATIONS))
def control_plane_pillar(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return the pillar of a further control plane."""
    return pillar_of_node(request.param, Role.CONTROL_PLANE, tmp_path_factory)
