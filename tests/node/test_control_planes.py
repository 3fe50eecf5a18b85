# SPDX-License-Identifier: Apache-2.0
"""Three control planes: what each of them is, who reaches which, and that any may be lost."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.node.growing import (
    BACK_TIMEOUT_S,
    CONTROL_PLANES,
    NODES,
    WORKERS,
    Site,
    all_ready,
    assert_no_secret_is_left,
    running,
    until,
)
from tests.node.installing import KUBECTL, shell

pytestmark = pytest.mark.lab

GAP_TIMEOUT_S = 60.0
NOT_READY_TIMEOUT_S = 120.0
WORKER = WORKERS[0]
ETCDCTL = (
    "crictl exec $(crictl ps -q --name '^etcd$') etcdctl --endpoints https://127.0.0.1:2379 "
    "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt "
    "--key /etc/kubernetes/pki/etcd/server.key "
)
#: A pod on the worker that nothing but its kubelet keeps alive.
WORKLOAD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: node4
  containers: [{name: pause, image: IMAGE}]
"""


def members(site: Site, at: str = "node1") -> list[dict[str, Any]]:
    """Return the members of etcd, as one of them knows them."""
    text = shell(site.nodes[at], ETCDCTL + "member list --write-out=json")
    found: list[dict[str, Any]] = json.loads(text)["members"]
    return found


def voters(site: Site, at: str = "node1") -> list[str]:
    """Return the names of the members that vote."""
    return sorted(member["name"] for member in members(site, at) if not member.get("isLearner"))


def test_all_are_voters_and_their_pods_ready(site: Site) -> None:
    assert len(members(site)) == len(CONTROL_PLANES)
    assert voters(site) == list(CONTROL_PLANES)
    for node in site.kubectl("get", "nodes")["items"]:
        is_marked = "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
        assert is_marked is (node["metadata"]["name"] in CONTROL_PLANES)
    pods = site.kubectl("--namespace", "kube-system", "get", "pods")["items"]
    for name in CONTROL_PLANES:
        own = [pod for pod in pods if pod["metadata"]["name"].endswith(f"-{name}")]
        assert len([pod for pod in own if pod["metadata"]["name"].startswith(("etcd-", "kube-"))]) == 4


def test_no_etcd_would_found_another_cluster(site: Site) -> None:
    for name in CONTROL_PLANES:
        manifest = site.nodes[name].read_file("/etc/kubernetes/manifests/etcd.yaml")
        assert manifest.count("--initial-cluster-state=existing") == 1, name
        assert "path: /var/lib/etcd\n      type: Directory\n" in manifest, name


def test_the_pods_are_as_the_first_one_s(site: Site) -> None:
    """But for names and addresses, and the members of etcd of the moment."""

    def manifest(name: str, component: str) -> str:
        text = site.nodes[name].read_file(f"/etc/kubernetes/manifests/{component}.yaml")
        text = re.sub(r"--initial-cluster=\S+", "--initial-cluster=M", text)
        text = text.replace(site.nodes[name].control_plane_address, "ADDRESS").replace(name, "NAME")
        return "\n".join(sorted(text.splitlines()))

    for component in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        for name in CONTROL_PLANES[1:]:
            assert manifest(name, component) == manifest("node1", component), component


def test_a_second_time_changes_nothing(site: Site) -> None:
    assert "0 changes" in site.add("node2")


def test_no_key_and_no_token_is_left(site: Site) -> None:
    assert_no_secret_is_left(site)


def test_etcd_is_open_to_control_planes_alone(site: Site) -> None:
    def reaches(name: str, target: str, port: int) -> bool:
        address = site.nodes[target].control_plane_address
        script = f"timeout 3 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo yes || echo no"
        return shell(site.nodes[name], script).strip() == "yes"

    for port in (2379, 2380):
        for target in CONTROL_PLANES:
            others = [name for name in CONTROL_PLANES if name != target]
            assert all(reaches(name, target, port) for name in others), (target, port)
            assert not reaches(WORKER, target, port), (target, port)
    assert reaches(WORKER, "node2", 6443)


def test_every_node_finds_all_of_them(site: Site) -> None:
    """So does kube-proxy, which has a copy of the names of its start."""
    addresses = sorted(site.nodes[name].control_plane_address for name in CONTROL_PLANES)
    for name, node in site.nodes.items():
        pods = shell(node, "crictl pods --state ready --label k8s-app=kube-proxy --output json")
        (uid,) = (pod["metadata"]["uid"] for pod in json.loads(pods)["items"])
        files = ("/etc/hosts", f"/var/lib/kubelet/pods/{uid}/etc-hosts")
        own, copied = (shell(node, f"grep api.lab.internal {file}") for file in files)
        assert own == copied, name
        found = [line.split()[0] for line in own.splitlines()]
        assert sorted(found) == addresses, name
        assert name not in CONTROL_PLANES or found[0] == node.control_plane_address


def test_no_control_plane_joins_while_a_member_is_down(site: Site) -> None:
    """Nor is a key sent: etcd 3.6 before 3.6.11 would take the learner and not promote it."""
    manifest = "/etc/kubernetes/manifests/etcd.yaml"
    asked = "crictl ps -q --name '^etcd$'"
    node = site.nodes["node3"]
    shell(site.nodes["node2"], "rm /var/lib/caisson/kubeadm/join-control-plane-join-mark-control-plane.json")
    shell(node, f"mv {manifest} /root/")
    try:
        until(lambda: not shell(node, asked).strip(), GAP_TIMEOUT_S)
        done = site.driver.run(
            ["caisson", "node", "add", *site.words["node2"]], timeout_s=BACK_TIMEOUT_S, check=False
        )
        assert done.returncode != 0
        assert "member node3 of etcd does not answer" in done.stdout + done.stderr
        assert shell(site.nodes["node2"], "ls -d /run/caisson-join 2>/dev/null || true") == ""
    finally:
        shell(node, f"mv /root/etcd.yaml {manifest}")
    until(lambda: voters(site, "node3") == list(CONTROL_PLANES), BACK_TIMEOUT_S)
    until(lambda: site.ready() == all_ready(), BACK_TIMEOUT_S)
    assert "succeeded" in site.add("node2")


def apply(site: Site, name: str, at: str) -> None:
    """Start a pod on the worker."""
    images = shell(site.nodes[WORKER], "crictl images --output json")
    tags = [tag for image in json.loads(images)["images"] for tag in image["repoTags"] if "/pause:" in tag]
    text = WORKLOAD.replace("NAME", name).replace("IMAGE", tags[0])
    site.nodes[at].write_file(f"/root/{name}.yaml", text)
    site.nodes[at].run([*KUBECTL, "apply", "--filename", f"/root/{name}.yaml"], timeout_s=60)


def is_ready(site: Site, name: str, at: str) -> bool:
    """Tell whether a pod is Ready, as a control plane says."""
    conditions = site.kubectl("get", "pod", name, at=at)["status"]["conditions"]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def lose(site: Site, off: str) -> dict[str, float]:
    """Power a control plane off and on again; return how many seconds what took that others wait for."""
    at = next(name for name in CONTROL_PLANES if name != off)
    before, after = f"before-{off}", f"after-{off}"
    apply(site, before, at)
    # What is Ready was seen by its kubelet, which on a busy host may start a container a second time.
    until(lambda: is_ready(site, before, at), GAP_TIMEOUT_S)
    kept_id = running(site.nodes[WORKER], before)
    asked = "curl -sS --max-time 10 --cacert /etc/kubernetes/pki/ca.crt https://api.lab.internal:6443/livez"
    site.nodes[off].cut_power()
    took = {"kubectl": until(lambda: site.kubectl("get", "nodes", at=at), GAP_TIMEOUT_S)}
    took["by name"] = until(lambda: shell(site.nodes[WORKER], asked) == "ok", GAP_TIMEOUT_S)
    apply(site, after, at)
    took["pod"] = until(lambda: running(site.nodes[WORKER], after), GAP_TIMEOUT_S)
    until(lambda: site.ready(at) == {**all_ready(), off: "Unknown"}, NOT_READY_TIMEOUT_S)
    assert running(site.nodes[WORKER], before) == kept_id
    site.nodes[off].boot()
    took["Ready again"] = until(lambda: site.ready(at) == all_ready(), BACK_TIMEOUT_S)
    until(lambda: voters(site, off) == list(CONTROL_PLANES), BACK_TIMEOUT_S)
    site.nodes[at].run([*KUBECTL, "delete", "pod", before, after, "--grace-period=1"], timeout_s=60)
    return took


def test_the_first_may_be_powered_off(site: Site) -> None:
    """Of the others ./doit.sh soak says it."""
    took = lose(site, CONTROL_PLANES[0])
    print("node1 off: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()))


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert set(site.nodes) == set(NODES)
