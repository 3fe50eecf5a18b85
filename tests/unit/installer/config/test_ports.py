# SPDX-License-Identifier: Apache-2.0
"""The port table as the installer reads it: what a node of each role listens on."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.config.ports import PORTS_FILE, Port, of_role, read_ports

KUBELET = Port("kubelet", 10250, "tcp", "control_plane", "kubelet", ("bootstrap", "worker"))
REGISTRY = Port("registry", 5000, "tcp", "loopback", "registry")


def test_a_role_has_its_ports_only() -> None:
    assert of_role((KUBELET, REGISTRY), "worker") == (KUBELET,)
    assert of_role((KUBELET, REGISTRY), "bootstrap") == (KUBELET, REGISTRY)


def names_of(repository_dir: Path, role: str) -> set[str]:
    """Return the names of the product's ports for a role."""
    return {port.name for port in of_role(read_ports(repository_dir / PORTS_FILE), role)}


def test_a_bootstrap_node_has_every_port_of_the_product(repository_dir: Path) -> None:
    table = read_ports(repository_dir / PORTS_FILE)
    assert of_role(table, "bootstrap") == table
    assert {role for port in table for role in port.roles} == {"bootstrap", "control-plane", "worker"}


def test_a_control_plane_has_no_port_of_what_is_there_once(repository_dir: Path) -> None:
    missing = names_of(repository_dir, "bootstrap") - names_of(repository_dir, "control-plane")
    assert missing == {"salt-publish", "salt-return"}


def test_a_worker_has_the_ports_of_kubelet_kube_proxy_and_calico(repository_dir: Path) -> None:
    found = {port.component for port in read_ports(repository_dir / PORTS_FILE) if "worker" in port.roles}
    assert found == {"kubelet", "kube-proxy", "calico-node"}
    assert names_of(repository_dir, "worker") < names_of(repository_dir, "control-plane")


@pytest.mark.parametrize(
    "text",
    [
        "ports: [{name: x, port: 1, protocol: tcp, bind: any, component: x}]",
        "ports: [{name: x, port: y, protocol: tcp, bind: any, component: x, roles: [worker]}]",
        "ports: 5",
        "- 5",
    ],
)
def test_a_table_of_another_shape_is_damaged_media(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ports.yaml"
    file.write_text(text)
    with pytest.raises(MediaError, match="the port table"):
        read_ports(file)
