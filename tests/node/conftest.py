# SPDX-License-Identifier: Apache-2.0
"""One bootstrap, shared by all tests that need a cluster and put back what they do to it.

Tests whose subject is the bootstrap have nodes of their own, in labs of their own; those that change a cluster for good
boot a kept disk (lab/kept.py). What needs several nodes shares one cluster that grew (growing.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab.node import Lab, Node
from tests.node import growing
from tests.node.installing import install, lab_iso, pods, repository_files, shell


@dataclass(frozen=True)
class Cluster:
    """A node on which ``bootstrap.sh`` ended well, at ``ready_at`` of the monotonic clock.

    ``pods_when_ready``: namespace/name -> uid.
    """

    lab: Lab
    node: Node
    output: str
    repository_files_before: str
    ready_at: float
    pods_when_ready: dict[str, str]

    def kubectl(self, *arguments: str) -> Any:
        """Run kubectl in the node; return its JSON answer."""
        text = self.kubectl_text(*arguments, "--output", "json")
        return json.loads(text)

    def kubectl_text(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the node; return what it printed."""
        command = ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", *arguments]
        return self.node.run(command, timeout_s=60, check=check).stdout

    def shell(self, script: str, timeout_s: float = 60, *, check: bool = True) -> str:
        """Run a shell script in the node; return what it printed."""
        return self.node.run(
            ["bash", "-euo", "pipefail", "-c", script], timeout_s=timeout_s, check=check
        ).stdout


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Yield a lab; the tests add nodes, which are removed at the end."""
    with Lab() as instance:
        yield instance


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """Return the shared cluster of one node."""
    node = lab.start_node("node1", iso=lab_iso())
    before = repository_files(node)
    output = install(node).output
    return Cluster(lab, node, output, before, time.monotonic(), pods(node))


@pytest.fixture(scope="session")
def site() -> Iterator[growing.Site]:
    """Yield the shared cluster of three nodes; tests that take one out add it again."""
    yield from growing.grown(growing.THREE)


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Node:
    """Return the shared node with its media attached and mounted, whatever tests before did about it."""
    node = cluster.node
    if not any(node.places.media_dir.iterdir()):
        node.attach_iso(lab_iso())
    # A node has no udev: a start of what was mounted at its boot would wait for the unit of its loop device.
    shell(
        node,
        "unit=$(systemctl list-unit-files --no-legend 'srv-caisson-*.mount' | cut -d ' ' -f 1); "
        'systemctl is-active --quiet "$unit" || systemctl start "$unit"',
    )
    return node
