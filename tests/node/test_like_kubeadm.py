# SPDX-License-Identifier: Apache-2.0
"""A bootstrapped node is like one by plain ``kubeadm init``, but for a short list; that one is left alone or refused.

One node without bootstrap serves all: first it is compared, then bootstrapped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.base.errors import PreflightError
from lab.likeness import Difference, Things, differ, judge, normalise, read_allowed
from lab.node import Lab, Node, bootstrap_config
from tests.node import plain_kubeadm
from tests.node.conftest import Cluster
from tests.node.installing import KUBECTL, install, pods, shell, start, wait_ready

pytestmark = pytest.mark.lab

ALLOWED = read_allowed((Path(__file__).parent / "like_kubeadm.yaml").read_text())
SETTLED_S = 90.0
"""How long a controller may take to write what it writes into a new cluster."""
OTHERS_FILES = (
    "sha256sum /etc/kubernetes/*.conf /etc/kubernetes/pki/* /etc/kubernetes/pki/etcd/* "
    "/etc/kubernetes/patches/* /etc/kubernetes/manifests/{etcd,kube-*}.yaml "
    "/var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env 2>/dev/null"
)
EVERYTHING = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/lib \
-o -path /var/log -o -path /mnt -o -path /dev -o -path /root \\) -prune -o -newer /root/before -type f -print"


@pytest.fixture(scope="module")
def other_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def bootstrapped(cluster: Cluster) -> Things:
    return normalise(plain_kubeadm.collect(cluster.node))


@pytest.fixture(scope="module")
def plain(cluster: Cluster, other_lab: Lab) -> Node:
    """Return a node with a control plane by plain ``kubeadm init``, of the configuration that the bootstrap wrote."""
    node = plain_kubeadm.prepare(other_lab, "node1", plain_kubeadm.files_of(cluster.node), "api.lab.internal")
    plain_kubeadm.initialise(node)
    return node


def unknown_differences(bootstrapped: Things, node: Node) -> tuple[Difference, ...]:
    """Return what differs and is not listed, once the controllers have written what they write."""
    ends_at = time.monotonic() + SETTLED_S
    while True:
        differences = differ(bootstrapped, normalise(plain_kubeadm.collect(node)))
        unknown, unused = judge(differences, ALLOWED)
        if not unknown or time.monotonic() > ends_at:
            assert not unused, "listed, yet there is no such difference: " + "\n".join(
                e.place for e in unused
            )
            return unknown
        time.sleep(3)


def test_a_bootstrapped_node_is_like_kubeadm_s(bootstrapped: Things, plain: Node) -> None:
    unknown = unknown_differences(bootstrapped, plain)
    assert not unknown, "\n".join(map(str, unknown))


def test_an_added_flag_is_seen(bootstrapped: Things, plain: Node) -> None:
    raw = plain_kubeadm.collect(plain)
    text = raw["manifests"]["kube-scheduler.yaml"]
    raw["manifests"]["kube-scheduler.yaml"] = text.replace(
        "    - kube-scheduler\n", "    - kube-scheduler\n    - --v=4\n"
    )
    unknown, _ = judge(differ(bootstrapped, normalise(raw)), ALLOWED)
    place = "manifest kube-scheduler.yaml: spec.containers.kube-scheduler.command.--v"
    assert [(one.place, one.kubeadm) for one in unknown] == [(place, "4")]


def test_a_control_plane_of_another_origin_is_refused_untouched(plain: Node) -> None:
    shell(plain, "touch /root/before")
    before = shell(plain, OTHERS_FILES, check=False), pods(plain)
    ended = start(plain, plain.prepare_bootstrap(bootstrap_config("node1", cluster_name="other")))
    assert ended.returncode == PreflightError.exit_code, ended.output
    assert ended.phase == ""
    assert "this host has a control plane of another origin" in ended.output
    assert "cluster name: lab on this host, other wanted" in ended.output
    assert "endpoint: https://api.lab.internal:6443 on this host" in ended.output
    assert "pod CIDR" not in ended.output
    assert (shell(plain, OTHERS_FILES, check=False), pods(plain)) == before
    assert shell(plain, EVERYTHING).split() == []
    checked = plain.run(
        ["/mnt/caisson/bootstrap.sh", "check", "--config", "/root/bootstrap.yaml"], check=False, timeout_s=120
    )
    assert checked.returncode == PreflightError.exit_code
    assert "CSN403" in checked.stdout
    assert "a control plane of another origin: cluster name: lab on this host" in checked.stdout


def test_a_control_plane_of_the_same_cluster_is_left_alone(plain: Node) -> None:
    """Everything else is brought to it: the services of Caisson, and a pod network."""
    before = shell(plain, OTHERS_FILES, check=False), pods(plain)
    token = [*KUBECTL, "--namespace", "kube-system", "get", "secrets,configmaps", "--output", "name"]
    objects = set(plain.run(token, timeout_s=60).stdout.split())
    install(plain)
    assert shell(plain, OTHERS_FILES, check=False) == before[0]
    after = pods(plain)
    kept = {name: uid for name, uid in before[1].items() if "coredns" not in name}
    assert {name: after.get(name) for name in kept} == kept
    assert set(plain.run(token, timeout_s=60).stdout.split()) - objects == {"configmap/calico-config"}
    assert wait_ready(plain, 60) == []
    assert "0 changes" in install(plain).output
