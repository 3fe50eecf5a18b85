# SPDX-License-Identifier: Apache-2.0
"""``caisson node remove``: a worker leaves without a trace and comes back; one whose host is gone leaves, too.

node1 boots from a kept disk; node2 is a bare host, of which it is taken down what it is before it joins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lab import cleanup, kept
from lab.node import Lab, Node
from tests.node import snapshot
from tests.node.installing import KUBECTL, lab_iso, shell

pytestmark = pytest.mark.lab

LIMIT_S = 600.0
DEAD_LIMIT_S = 30.0
NOT_READY_LIMIT_S = 120.0
COMES_BACK_S = 45.0
"""So long a host that was removed is watched for coming back by itself: its kubelet asks each few seconds."""
BLOCKED = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: held, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: held}}
  template:
    metadata: {labels: {app: held}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node2}
      terminationGracePeriodSeconds: 1
      containers: [{name: pause, image: "IMAGE"}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: hold-it, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: held}}}
"""

OF_LOGIN = (r"/run/user", r"^in memory: .* /run/(motd\.dynamic|systemd/(transient|sessions|users|seats))$")


@dataclass(frozen=True)
class Site:
    """A cluster of two nodes; ``before``: what node2 was before it joined."""

    lab: Lab
    driver: Node
    host: Node
    login: tuple[str, ...]
    before: list[str]

    def caisson(self, *words: str, code: int = 0) -> str:
        """Run caisson on the bootstrap node; it must end with this code."""
        done = self.driver.run(["caisson", *words], timeout_s=LIMIT_S, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def add(self) -> str:
        """Add node2."""
        return self.caisson("node", "add", self.host.control_plane_address, "--name", "node2", *self.login)

    def kubectl(self, *words: str) -> Any:
        """Return the JSON answer of kubectl."""
        return json.loads(self.driver.run([*KUBECTL, *words, "--output=json"], timeout_s=60).stdout)

    def nodes(self) -> dict[str, str]:
        """Return name -> whether it is Ready."""
        return {
            item["metadata"]["name"]: next(
                e["status"] for e in item["status"]["conditions"] if e["type"] == "Ready"
            )
            for item in self.kubectl("get", "nodes")["items"]
        }


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a lab of this module's own, with node2 added; at its end nothing of it is left."""
    with Lab() as lab:
        driver = kept.start_bootstrapped_node(lab, "node1", iso=lab_iso())
        driver.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/id"], timeout_s=60)
        host = lab.start_node("node2")
        fingerprint = host.authorize(driver.read_file("/root/id.pub"))
        found = Site(
            lab, driver, host, ("--identity", "/root/id", "--host-key", fingerprint), snapshot.take(host)
        )
        lab.switch.reset()
        found.add()
        yield found
    assert cleanup.leftovers(lab.name) == []


def differences(site: Site) -> str:
    """Return what of node2 is not as it was before it joined, in lines; a log-in leaves some in memory."""
    return "\n".join(snapshot.differences(site.before, snapshot.take(site.host), *OF_LOGIN))


def test_who_may_not_be_removed_is_refused_and_nothing_is_changed(site: Site) -> None:
    assert "is the last control plane" in site.caisson("node", "remove", "node1", *site.login, code=11)
    assert "has no node 'nobody'" in site.caisson("node", "remove", "nobody", *site.login, code=2)
    assert "node2 is Ready: it is not gone" in site.caisson("node", "remove", "node2", "--dead", code=11)
    assert site.nodes() == {"node1": "True", "node2": "True"}
    said = site.host.run(["caisson", "reset", "--yes"], timeout_s=120, check=False)
    assert (said.returncode, "caisson node remove node2" in said.stderr) == (11, True), said.stderr
    said = site.driver.run(["caisson", "reset", "--yes"], timeout_s=120, check=False)
    assert (said.returncode, "node2" in said.stderr) == (11, True), said.stderr


def test_what_holds_its_pods_is_named(site: Site) -> None:
    pause = shell(
        site.driver, "crictl images -o json | grep -o 'registry.k8s.io/pause:[^\"]*' | head -1"
    ).strip()
    site.driver.write_file("/root/held.yaml", BLOCKED.replace("IMAGE", pause), 0o600)
    kubectl = " ".join(KUBECTL)
    shell(
        site.driver,
        f"{kubectl} apply -f /root/held.yaml && {kubectl} rollout status deployment/held",
        timeout_s=120,
    )
    said = site.caisson("node", "remove", "node2", "--drain-timeout", "5", *site.login, code=11)
    assert "default/hold-it" in said
    assert "kubectl uncordon node2" in said
    assert site.nodes()["node2"] == "True"
    shell(site.driver, f"{kubectl} delete -f /root/held.yaml", timeout_s=120)


def test_it_leaves_without_a_trace(site: Site) -> None:
    print(site.caisson("node", "remove", "node2", *site.login))
    assert list(site.nodes()) == ["node1"]
    left = shell(
        site.driver,
        "find /etc/caisson/salt/pki/master /etc/caisson/pillar /var/cache/caisson/salt-master "
        "-path '*/jobs/*' -prune -o -name '*node2*' -print; grep -c node2 /etc/caisson/pillar/top.sls || true",
    )
    assert left.split() == ["0"]
    assert differences(site) == ""


def test_a_second_time_there_is_no_such_node(site: Site) -> None:
    assert "has no node 'node2'" in site.caisson("node", "remove", "node2", *site.login, code=2)


def test_it_is_added_again(site: Site) -> None:
    assert "succeeded" in site.add()
    assert site.nodes() == {"node1": "True", "node2": "True"}


def test_a_host_that_is_gone_leaves_quickly_and_does_not_come_back(site: Site) -> None:
    """Its kubelet has a certificate that is good for a year, and its minion a key."""
    site.host.cut_power()
    ends_at = time.monotonic() + NOT_READY_LIMIT_S
    while site.nodes()["node2"] == "True" and time.monotonic() < ends_at:
        time.sleep(1)
    began = time.monotonic()
    site.caisson("node", "remove", "node2", "--dead")
    assert time.monotonic() - began <= DEAD_LIMIT_S
    site.host.boot(degraded_ok=True)
    ends_at = time.monotonic() + COMES_BACK_S
    while time.monotonic() < ends_at:
        assert list(site.nodes()) == ["node1"]
        time.sleep(3)
    assert not shell(site.driver, "ls /etc/caisson/salt/pki/master/minions | grep node2 || true").strip()


def test_it_is_reset_by_itself(site: Site) -> None:
    site.host.run(["caisson", "reset", "--yes"], timeout_s=LIMIT_S)
    assert differences(site) == ""


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
