# SPDX-License-Identifier: Apache-2.0
"""``caisson node remove``: a worker leaves without a trace and comes back; one whose host is gone leaves, too.

It is the last node, of which it was taken down what it is before it joined.
"""

from __future__ import annotations

import time

import pytest

from tests.node import snapshot
from tests.node.growing import (
    ADD_TIMEOUT_S,
    KILL_DRIVER,
    THREE,
    Site,
    all_ready,
    assert_no_secret_is_left,
    cut,
    until,
)
from tests.node.installing import KUBECTL, shell

pytestmark = pytest.mark.lab

NAME = tuple(THREE)[-1]
OTHERS = tuple(THREE)[:-1]
#: The goal is 30 s, with the machine to itself.
DEAD_LIMIT_S = 90.0
NOT_READY_LIMIT_S = 120.0
COMES_BACK_S = 20.0
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
      nodeSelector: {kubernetes.io/hostname: NAME}
      terminationGracePeriodSeconds: 1
      containers: [{name: pause, image: "IMAGE"}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: hold-it, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: held}}}
"""

OF_LOGIN = (
    r"/run/user",
    r"^in memory: .* /run/(motd\.dynamic|agetty\.reload|systemd/(transient|sessions|users|seats))$",
)


def login(site: Site) -> tuple[str, ...]:
    """Return how the host is logged in to."""
    return site.words[NAME][3:7]


def differences(site: Site) -> str:
    """Return what of the host is not as it was before it joined, in lines; a log-in leaves some in memory."""
    return "\n".join(snapshot.differences(site.before, snapshot.take(site.nodes[NAME]), *OF_LOGIN))


def test_who_may_not_be_removed_is_refused_and_nothing_is_changed(site: Site) -> None:
    assert "is the bootstrap node" in site.caisson("node", "remove", "node1", *login(site), code=2)
    assert "has no node 'nobody'" in site.caisson("node", "remove", "nobody", *login(site), code=2)
    assert f"{NAME} is Ready: it is not gone" in site.caisson("node", "remove", NAME, "--dead", code=11)
    assert site.is_whole()
    said = site.nodes[NAME].run(["caisson", "reset", "--yes"], timeout_s=120, check=False)
    assert (said.returncode, f"caisson node remove {NAME}" in said.stderr) == (11, True), said.stderr
    said = site.driver.run(["caisson", "reset", "--yes"], timeout_s=120, check=False)
    assert (said.returncode, NAME in said.stderr) == (11, True), said.stderr


def test_what_holds_its_pods_is_named(site: Site) -> None:
    pause = shell(
        site.driver, "crictl images -o json | grep -o 'registry.k8s.io/pause:[^\"]*' | head -1"
    ).strip()
    site.driver.write_file("/root/held.yaml", BLOCKED.replace("IMAGE", pause).replace("NAME", NAME), 0o600)
    kubectl = " ".join(KUBECTL)
    shell(
        site.driver,
        f"{kubectl} apply -f /root/held.yaml && {kubectl} rollout status deployment/held",
        timeout_s=120,
    )
    try:
        said = site.caisson("node", "remove", NAME, "--drain-timeout", "5", *login(site), code=11)
    finally:
        shell(site.driver, f"{kubectl} delete -f /root/held.yaml", timeout_s=120)
    assert "default/hold-it" in said
    assert f"kubectl --kubeconfig /etc/kubernetes/admin.conf uncordon {NAME}" in said
    assert site.is_whole()


def test_it_leaves_without_a_trace(site: Site) -> None:
    print(site.caisson("node", "remove", NAME, *login(site)))
    assert site.ready() == all_ready(*OTHERS)
    left = shell(
        site.driver,
        "find /etc/caisson/salt/pki/master /etc/caisson/pillar /var/cache/caisson/salt-master "
        f"-path '*/jobs/*' -prune -o -name '*{NAME}*' -print; grep -c {NAME} /etc/caisson/pillar/top.sls || true",
    )
    assert left.split() == ["0"]
    assert differences(site) == ""


def test_a_second_time_there_is_no_such_node(site: Site) -> None:
    assert f"has no node '{NAME}'" in site.caisson("node", "remove", NAME, *login(site), code=2)


def test_it_is_added_again_though_the_driver_was_killed(site: Site) -> None:
    """By SIGKILL, when the token has just been made; the job on the host goes on and is waited for."""
    assert cut(site, NAME, "join", lambda: shell(site.driver, KILL_DRIVER), after_s=2.0)
    assert "succeeded" in site.add(NAME)
    assert site.is_whole()
    assert_no_secret_is_left(site)


def test_a_host_that_is_gone_leaves_quickly_and_does_not_come_back(site: Site) -> None:
    """Its kubelet has a certificate that is good for a year, and its minion a key."""
    site.nodes[NAME].cut_power()
    until(lambda: site.ready()[NAME] != "True", NOT_READY_LIMIT_S)
    began = time.monotonic()
    site.caisson("node", "remove", NAME, "--dead")
    took = time.monotonic() - began
    site.nodes[NAME].boot(degraded_ok=True)
    assert took <= DEAD_LIMIT_S
    ends_at = time.monotonic() + COMES_BACK_S
    while time.monotonic() < ends_at:
        assert site.ready() == all_ready(*OTHERS)
        time.sleep(3)
    refused = shell(
        site.nodes[NAME], "journalctl -u kubelet --no-pager | grep -c 'this node was removed' || true"
    )
    assert int(refused) > 0
    keys = shell(site.driver, "ls /etc/caisson/salt/pki/master/minions").split()
    assert NAME not in keys


def test_it_is_reset_by_itself(site: Site) -> None:
    site.nodes[NAME].run(["caisson", "reset", "--yes"], timeout_s=ADD_TIMEOUT_S)
    assert differences(site) == ""


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
