# SPDX-License-Identifier: Apache-2.0
"""A site that brings its own authorities, more names for the API and a virtual address: they reach the node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from lab.node import Lab, Node
from tests.authorities import make_authority

from .conftest import BOOTSTRAP_TIMEOUT_S, lab_iso

pytestmark = pytest.mark.lab

MORE = """\
apiServer: {extraSans: [k8s.example.com, 203.0.113.7]}
authorities:
  services: {certificateFile: /root/services/ca.crt, keyFile: /root/services/ca.key}
  cluster: {certificateFile: /root/cluster/ca.crt, keyFile: /root/cluster/ca.key}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Bootstrap a node of a lab of its own with the site's files; then take these off the host."""
    with Lab() as lab:
        node = lab.start_node("node1", iso=lab_iso())
        for name in ("services", "cluster"):
            for file in make_authority(tmp_path_factory.mktemp(name)):
                node.write_file(f"/root/{name}/{file.name}", file.read_text(), 0o600)
        text = lab.bootstrap_config(node)
        text = text.replace(
            "cidrs: [192.0.2.0/24, 10.77.1.0/24]", "cidrs: [192.0.2.0/24, 10.77.1.0/24]\n    vip: 10.77.1.200"
        )
        node.write_file("/root/bootstrap.yaml", text + MORE, 0o600)
        lines: list[str] = []
        command = [
            f"{node.mount_iso()}/bootstrap.sh",
            "--accept-lab-bundle",
            "--config",
            "/root/bootstrap.yaml",
        ]
        assert node.stream(command, lines.append, timeout_s=BOOTSTRAP_TIMEOUT_S) == 0, "\n".join(lines)[
            -6000:
        ]
        node.run(["bash", "-c", "cp /root/services/ca.crt /root/s.crt; cp /root/cluster/ca.crt /root/c.crt"])
        node.run(["rm", "-r", "/root/services", "/root/cluster"])
        yield node


def certificate(node: Node, file: str) -> str:
    """Return a certificate as text."""
    return node.run(["openssl", "x509", "-noout", "-text", "-in", file], timeout_s=30).stdout


def test_the_cluster_is_signed_by_the_sites_authority(node: Node) -> None:
    pki = PurePosixPath("/etc/kubernetes/pki")
    assert node.read_file(pki / "ca.crt") == node.read_file("/root/c.crt")
    verified = ["openssl", "verify", "-CAfile", "/root/c.crt", f"{pki}/apiserver.crt"]
    assert node.run(verified, timeout_s=30).stdout.endswith(": OK\n")
    assert node.run(["stat", "-c", "%a", f"{pki}/ca.key"], timeout_s=30).stdout == "600\n"


def test_the_api_servers_certificate_has_the_names_and_addresses(node: Node) -> None:
    text = certificate(node, "/etc/kubernetes/pki/apiserver.crt")
    names = set(re.findall(r"(?:DNS|IP Address):([^,\s]+)", text))
    assert {"k8s.example.com", "203.0.113.7", "10.77.1.200", "api.lab.internal", "10.77.1.11"} <= names


def test_nginx_is_signed_by_the_sites_authority(node: Node) -> None:
    assert node.read_file("/etc/caisson/ca.crt") == node.read_file("/root/s.crt")
    asked = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--cacert",
        "/root/s.crt",
        "https://10.77.1.11:8443/",
    ]
    node.run([*asked, "--output", "/dev/null"], timeout_s=30)


def test_check_still_takes_the_configuration_when_the_files_are_gone(node: Node) -> None:
    done = node.run(["caisson", "config", "check"], timeout_s=60, check=False)
    assert done.returncode == 0, done.stderr
