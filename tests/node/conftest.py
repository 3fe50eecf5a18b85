# SPDX-License-Identifier: Apache-2.0
"""One bootstrap, shared by all tests that need a cluster and put back what they do to it.

They run first, and then its node goes: a control plane that nobody asks takes a fifth of two processors. Tests whose
subject is the bootstrap have nodes of their own, in labs of their own; those that change a cluster for good boot a kept
disk (lab/kept.py). What needs several nodes shares one cluster that grew (growing.py), which goes, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab.node import Lab, Node
from tests.node import growing
from tests.node.installing import (
    footprint,
    install,
    lab_iso,
    packages,
    phase_seconds,
    pods,
    repository_files,
    shell,
)

#: Fixture -> the files whose tests need what it makes, in their order. After the last of them it is taken away.
SHARED = {
    "cluster": (
        "test_bootstrap.py",
        "test_firewall.py",
        "test_like_kubeadm.py",
        "test_when_wrong.py",
        "test_console.py",
        "test_console_browser.py",
    ),
    "site": ("test_node_add.py", "test_control_planes.py", "test_remove.py"),
}
_ENDS: dict[str, ExitStack] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that share a cluster follow each other, before those that have nodes of their own."""
    order = {name: place for place, name in enumerate(name for names in SHARED.values() for name in names)}
    own = [place for place, item in enumerate(items) if item.path.parent.name == "node"]
    ordered = sorted((items[place] for place in own), key=lambda item: order.get(item.path.name, len(order)))
    for place, item in zip(own, ordered, strict=True):
        items[place] = item


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Take a shared cluster away behind the last test that needs it; at the end of all it goes by its fixture."""
    for fixture, files in SHARED.items():
        if item.path.name in files and nextitem is not None and nextitem.path.name not in files:
            _ENDS.get(fixture, ExitStack()).close()


@contextmanager
def ended_early(fixture: str) -> Iterator[ExitStack]:
    """Yield a stack for what a shared fixture makes: it is closed when no further test needs it."""
    with ExitStack() as stack:
        _ENDS[fixture] = stack
        yield stack


@dataclass(frozen=True)
class Calm:
    """What an installation without trouble leaves, as ``tests.node.installing`` describes each."""

    footprint: list[str]
    phase_seconds: dict[str, float]
    packages: set[str]


@dataclass(frozen=True)
class Cluster:
    """A node on which ``bootstrap.sh`` ended well, at ``ready_at`` of the monotonic clock.

    ``pods_when_ready``: namespace/name -> uid; ``calm``: what it had left by then.
    """

    lab: Lab
    node: Node
    output: str
    repository_files_before: str
    ready_at: float
    pods_when_ready: dict[str, str]
    calm: Calm

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
def cluster() -> Iterator[Cluster]:
    """Yield the shared cluster of one node; its node is there for the tests of the files that share it."""
    with ended_early("cluster") as stack:
        lab = stack.enter_context(Lab())
        node = lab.start_node("node1", iso=lab_iso())
        before = repository_files(node)
        output, ready_at, ready = install(node).output, time.monotonic(), pods(node)
        calm = Calm(footprint(node), phase_seconds(node), packages(node))
        yield Cluster(lab, node, output, before, ready_at, ready, calm)


@pytest.fixture(scope="session")
def calm(cluster: Cluster) -> Calm:
    """Return what the bootstrap of the shared cluster left; its node may have gone."""
    return cluster.calm


@pytest.fixture(scope="session")
def site() -> Iterator[growing.Site]:
    """Yield the shared cluster of three nodes; tests that take one out add it again."""
    with ended_early("site") as stack:
        yield stack.enter_context(contextmanager(growing.grown)(growing.THREE))


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
