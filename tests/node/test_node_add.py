# SPDX-License-Identifier: Apache-2.0
"""``caisson node add`` on a bootstrap node: a worker joins, a second time changes nothing, no token and no media stay.

node1 boots from a kept disk; node2 is a bare host that is logged in to by a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node
from tests.node.installing import KUBECTL, lab_iso, shell

pytestmark = pytest.mark.lab

#: More than the goal of 45 s: beside other labs a node takes longer. The bench measures.
ADD_TIMEOUT_S = 600.0
TOKENS = "--namespace kube-system get secrets --field-selector=type=bootstrap.kubernetes.io/token"


@dataclass(frozen=True)
class Site:
    """A cluster of one node, and a host that is to join it; ``words`` name it on the command line."""

    lab: Lab
    driver: Node
    host: Node
    words: tuple[str, ...]

    def caisson(self, *words: str) -> str:
        """Run caisson on the bootstrap node; return what it printed."""
        return self.driver.run(["caisson", *words], timeout_s=ADD_TIMEOUT_S).stdout

    def kubectl(self, *words: str) -> Any:
        """Return the JSON answer of kubectl."""
        return json.loads(self.driver.run([*KUBECTL, *words, "--output=json"], timeout_s=60).stdout)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a lab of this module's own, with node2 added; at its end nothing of it is left."""
    with Lab() as lab:
        driver = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        host = lab.start_node("node2")
        fingerprint = host.authorize(driver.read_file("/root/id.pub"))
        words: tuple[str, ...] = (host.control_plane_address, "--name", "node2", "--identity", "/root/id")
        words += ("--host-key", fingerprint, "--labels", "rack=r1", "--taints", "gpu=yes:PreferNoSchedule")
        lab.switch.reset()
        found = Site(lab, driver, host, words)
        print(found.caisson("node", "add", *words))
        yield found
    assert cleanup.leftovers(lab.name) == []


def test_it_is_a_node_with_its_pods(site: Site) -> None:
    node = site.kubectl("get", "node", "node2")
    assert {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}["Ready"] == "True"
    assert node["metadata"]["labels"]["rack"] == "r1"
    assert {"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    addresses = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
    assert addresses["InternalIP"] == site.host.control_plane_address
    pods = site.kubectl("--namespace", "kube-system", "get", "pods", "--field-selector=spec.nodeName=node2")
    names = {pod["metadata"]["name"].rsplit("-", 1)[0] for pod in pods["items"]}
    assert {"calico-node", "kube-proxy"} <= names


def test_a_second_time_changes_nothing(site: Site) -> None:
    assert "0 changes" in site.caisson("node", "add", *site.words)


def test_no_token_is_left(site: Site) -> None:
    """Neither in the cluster nor on the host; nor does Salt's job cache name a secret."""
    for secret in site.kubectl(*TOKENS.split())["items"]:
        assert "caisson node add" not in json.dumps(secret)
    left = shell(site.host, "ls /run/caisson-join /etc/kubernetes/bootstrap-kubelet.conf 2>/dev/null || true")
    assert "conf" not in left
    found = shell(
        site.driver,
        "grep -rlE 'PRIVATE KEY|[a-z0-9]{6}\\.[a-z0-9]{16}\\b' /var/cache/caisson/salt-master/jobs "
        "/var/lib/caisson/jobs /etc/caisson/pillar 2>/dev/null || true",
    )
    assert found.split() == []


def test_a_worker_opens_its_own_ports_only(site: Site) -> None:
    rules = shell(site.host, "firewall-cmd --policy caisson-nodes --list-rich-rules")
    assert 'port="10250"' in rules
    for port in ("6443", "2379", "4505", "8443"):
        assert f'port="{port}"' not in rules, rules


def test_it_has_no_media_and_asks_by_name(site: Site) -> None:
    assert shell(site.host, "findmnt --types iso9660 --noheadings || true").strip() == ""
    assert "https://media.lab.internal:8443" in site.host.read_file(
        "/etc/containerd/certs.d/_default/hosts.toml"
    )
    assert "server: https://api.lab.internal:6443" in site.host.read_file("/etc/kubernetes/kubelet.conf")


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
