# SPDX-License-Identifier: Apache-2.0
"""bootstrap.yaml is changed once the cluster is there: what may change is applied, the rest is refused untouched.

On a copy of a kept disk, which is looked at first: it is the same node with the same cluster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ConfigError
from lab import kept
from lab.node import Lab, Node, bootstrap_config
from lab.run import run

from .installing import install, lab_iso, pods, shell, start, unready, wait_ready

pytestmark = pytest.mark.lab

KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
SCHEDULER = f"{KUBECTL} -n kube-system get pod kube-scheduler-node1"
SERVED = (
    "echo | openssl s_client -connect 10.77.1.11:6443 2>/dev/null | openssl x509 -noout -ext subjectAltName"
)
PLACES = "find /etc/kubernetes /etc/caisson /etc/containerd /etc/salt /var/lib/kubelet/config.yaml -type f"
BROKEN_PODS = f"""
{KUBECTL} create deployment nginx --image=registry.example.com/none:1
image=$({KUBECTL} -n kube-system get daemonset kube-proxy -o jsonpath='{{.spec.template.spec.containers[0].image}}')
{KUBECTL} run crashing --image=$image --command -- /none
{KUBECTL} run waiting --image=registry.example.com/none:1 --overrides='{{"spec":{{"nodeSelector":{{"no":"where"}}}}}}'
"""


def changed(*, patched: bool = True) -> str:
    """Return the lab's usual configuration with one more name, one more ignored check, one field of the kubelet."""
    text = bootstrap_config("node1")
    more = "apiServer: {extraSans: [k8s.example.com]}\n"
    text = text.replace("  kubelet:\n", "  kubelet:\n    maxPods: 77\n")
    text = text.replace("  ignorePreflights:", "  ignorePreflights:\n    - {id: CSN117, reason: a test}")
    if patched:
        patch = 'kube-scheduler+merge.yaml: "metadata: {annotations: {example.com/of: test}}"'
        text = text.replace("  kubelet:\n", f"  kubeadmPatches:\n    {patch}\n  kubelet:\n")
    return text + more


@pytest.fixture(scope="module")
def changed_lab() -> Iterator[Lab]:
    """Return a lab of its own: its node has the name and the addresses of the shared one."""
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def node(changed_lab: Lab) -> Node:
    """Return a node that was installed with the lab's usual configuration, some time ago."""
    return kept.start_bootstrapped_node(changed_lab, "node1", iso=lab_iso())


def test_a_copy_of_a_kept_disk_is_the_same_node_with_its_cluster(
    node: Node, changed_lab: Lab, tmp_path: Path
) -> None:
    identity = "/etc/machine-id /etc/kubernetes/pki/ca.crt /etc/ssh/ssh_host_ed25519_key.pub"
    recipe = kept.Recipe(name="node1", iso=lab_iso(), root_image=changed_lab.root_image)
    run(["mount", "-o", "loop,ro,nouuid,norecovery", recipe.disk_file, tmp_path])
    try:
        kept_identity = "".join((tmp_path / name.lstrip("/")).read_text() for name in identity.split())
    finally:
        run(["umount", tmp_path])
    assert shell(node, f"cat {identity}") == kept_identity
    assert unready(node) == []
    machine_id = shell(node, f"{KUBECTL} get node node1 -o jsonpath='{{.status.nodeInfo.machineID}}'")
    assert machine_id == node.read_file("/etc/machine-id").strip()
    node.run(["caisson", "status"], timeout_s=60)
    counts = changed_lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts


def test_what_may_change_is_applied(node: Node) -> None:
    assert "k8s.example.com" not in shell(node, SERVED)
    install(node, changed())
    assert "k8s.example.com" in shell(node, SERVED)
    limit = f"{KUBECTL} get node node1 -o jsonpath='{{.status.allocatable.pods}}'"
    deadline = time.monotonic() + 60
    while shell(node, limit) != "77" and time.monotonic() < deadline:
        time.sleep(1)
    assert shell(node, limit) == "77"
    assert "example.com/of" in shell(node, "cat /etc/kubernetes/manifests/kube-scheduler.yaml")
    # What runs is what was written, and nothing of the note of what ran before is left.
    assert "example.com/of" in shell(node, f"{SCHEDULER} -o jsonpath='{{.metadata.annotations}}'")
    assert shell(node, "ls /var/lib/caisson/kubeadm/*.before", check=False) == ""
    assert wait_ready(node, 90) == []
    assert "0 changes" in install(node, changed()).output


def test_a_patch_that_is_taken_out_goes(node: Node) -> None:
    install(node, changed(patched=False))
    assert "example.com/of" not in shell(node, "cat /etc/kubernetes/manifests/kube-scheduler.yaml")
    assert "example.com/of" not in shell(node, f"{SCHEDULER} -o jsonpath='{{.metadata.annotations}}'")
    log = shell(node, "cat /var/log/caisson/*.log*")
    assert "kube-scheduler: the pod of before is still there" in log


def test_what_cannot_change_is_refused_and_nothing_is_touched(node: Node) -> None:
    before = shell(node, f"{PLACES} | sort | xargs sha256sum"), pods(node)
    text = changed(patched=False).replace("clusterName: lab", "clusterName: other")
    ended = start(node, node.prepare_bootstrap(text))
    assert ended.returncode == ConfigError.exit_code, ended.output
    assert ended.phase == ""
    assert "clusterName: installed with lab, now other" in ended.output
    assert (shell(node, f"{PLACES} | sort | xargs sha256sum"), pods(node)) == before


def pods_of_status(node: Node) -> dict[str, Any]:
    """Return what 'caisson status', which must end with 0, says of pods."""
    found: dict[str, Any] = json.loads(node.run(["caisson", "status", "--json"], timeout_s=60).stdout)["pods"]
    return found


def test_broken_pods_of_a_site_change_no_exit_code(node: Node) -> None:
    shell(node, BROKEN_PODS)
    deadline = time.monotonic() + 60
    while len(pods_of_status(node)["site_not_ready"]) < 3 and time.monotonic() < deadline:
        time.sleep(1)
    ended = install(node, changed(patched=False))
    assert "0 changes" in ended.output
    found = pods_of_status(node)
    assert found["not_ready"] == []
    assert {entry["name"].split("-")[0] for entry in found["site_not_ready"]} == {
        "nginx",
        "crashing",
        "waiting",
    }
