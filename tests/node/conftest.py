# SPDX-License-Identifier: Apache-2.0
"""One bootstrap, shared by all node tests: a lab node, the ISO, ``bootstrap.sh`` run once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.node import Lab, Node

OUT_DIR = Path(__file__).parents[2] / "_out"
BOOTSTRAP_TIMEOUT_S = 600.0


def lab_iso() -> Path:
    """Return the lab bundle that ``./doit.sh iso upstream=lab`` built."""
    found = sorted(OUT_DIR.glob("caisson-*-lab.iso"))
    assert len(found) == 1, (
        f"one lab ISO is wanted in {OUT_DIR}, found {found}: run ./doit.sh iso upstream=lab"
    )
    return found[0]


@dataclass(frozen=True)
class Cluster:
    """A node on which ``bootstrap.sh`` ended well."""

    lab: Lab
    node: Node
    output: str
    repository_files_before: str

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


def repository_files(node: Node) -> str:
    """Return digest and name of each of the host's own repository files."""
    return node.run(
        ["bash", "-c", "sha256sum /etc/yum.repos.d/* /etc/dnf/dnf.conf"], timeout_s=30, check=False
    ).stdout


def bootstrap(lab: Lab, node: Node, timeout_s: float = BOOTSTRAP_TIMEOUT_S) -> tuple[int, str]:
    """Mount the ISO in ``node`` and run ``bootstrap.sh`` with the lab's configuration; return exit code and output."""
    node.write_file("/root/bootstrap.yaml", lab.bootstrap_config(node), 0o600)
    media_dir = node.mount_iso()
    lines: list[str] = []
    command = [f"{media_dir}/bootstrap.sh", "--config", "/root/bootstrap.yaml", "--accept-lab-bundle"]
    returncode = node.stream(command, lines.append, timeout_s=timeout_s)
    return returncode, "\n".join(lines)


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
    returncode, output = bootstrap(lab, node)
    assert returncode == 0, output[-6000:]
    return Cluster(lab, node, output, before)
