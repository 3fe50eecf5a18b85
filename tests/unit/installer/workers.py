# SPDX-License-Identifier: Apache-2.0
"""A further node as its files and its programs show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from installer.base.paths import Paths
from installer.config import facts
from installer.config.facts import Address
from installer.config.nodes import NodeEntry
from installer.engine import nodepillar
from tests.unit.installer.helpers import make_config, make_context

ENTRY = NodeEntry("10.77.1.12", name="node2")
HOSTS = "10.77.1.11 api.lab.internal # caisson\n10.77.1.11 media.lab.internal # caisson\n"


def pillar(root: Path) -> dict[str, Any]:
    """Return what the bootstrap node tells node2."""
    addresses = [Address("ens1", "10.77.1.12", 24), Address("ens2", "10.77.2.12", 24)]
    config = make_config("node: {name: node2}\n")
    found = facts.gather(config, addresses, resolv_conf_file=Path("/nonexistent"))
    return nodepillar.pillar(make_context(root), ENTRY, found, media_port=8443, cluster_ca_sha256="ab")


def make_worker(root: Path) -> Paths:
    """Write what a worker has: its pillar, the names of the cluster."""
    caisson = {**pillar(root), "self_dir": "/opt/caisson/0.1.0-b1"}
    for path, text in (
        *nodepillar.local_files(caisson).items(),
        ("/etc/hosts", HOSTS),
        ("/etc/caisson/ca.crt", "CA"),
    ):
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return Paths(root)


def own(**changes: Any) -> dict[str, Any]:
    """Return what a good worker says of itself, with some keys replaced."""
    node = {
        "name": "node2",
        "role": "worker",
        "cluster": "lab",
        "bootstrap_node": "10.77.1.11",
        "version": "0.1.0-b1",
        "kernel": "5.14.0",
        "addresses": ["10.77.1.12"],
    }
    said = {
        "format": 1,
        "node": node,
        "services": dict.fromkeys(("containerd", "kubelet", "salt-minion", "firewalld"), "active"),
        "firewall": "active, with Caisson's policies",
        "disks": [
            {
                "places": ["/"],
                "free_bytes": 5,
                "size_bytes": 10,
                "free_percent": 50.0,
                "free_inodes_percent": 50.0,
            }
        ],
        "static_pods": [],
        "etcd": None,
        "endpoints": [
            {
                "name": "images, packages",
                "url": "https://media.lab.internal:8443/v2/",
                "answer": "HTTP 200",
                "needs_media": False,
            }
        ],
        "master": "connected to 10.77.1.11:4505",
        "certificates": [
            {
                "file": "/var/lib/kubelet/pki/kubelet-client-current.pem",
                "ends": "2027-11-27",
                "days_left": 364,
                "fault": "",
            }
        ],
        "faults": [],
    }
    return json.loads(json.dumps({**said, **changes}))  # type: ignore[no-any-return]
