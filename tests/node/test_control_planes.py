# SPDX-License-Identifier: Apache-2.0
"""Several control planes: what each of them is, and who reaches which. That one may be lost is tested with three."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.node.growing import Site, assert_no_secret_is_left
from tests.node.installing import shell

pytestmark = pytest.mark.lab

ETCDCTL = (
    "crictl exec $(crictl ps -q --name '^etcd$') etcdctl --endpoints https://127.0.0.1:2379 "
    "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt "
    "--key /etc/kubernetes/pki/etcd/server.key "
)


def members(site: Site, at: str = "node1") -> list[dict[str, Any]]:
    """Return the members of etcd, as one of them knows them."""
    text = shell(site.nodes[at], ETCDCTL + "member list --write-out=json")
    found: list[dict[str, Any]] = json.loads(text)["members"]
    return found


def voters(site: Site, at: str = "node1") -> list[str]:
    """Return the names of the members that vote."""
    return sorted(member["name"] for member in members(site, at) if not member.get("isLearner"))


def test_all_are_voters_and_their_pods_ready(site: Site) -> None:
    assert len(members(site)) == len(site.control_planes)
    assert voters(site) == list(site.control_planes)
    for node in site.kubectl("get", "nodes")["items"]:
        is_marked = "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
        assert is_marked is (node["metadata"]["name"] in site.control_planes)
    pods = site.kubectl("--namespace", "kube-system", "get", "pods")["items"]
    for name in site.control_planes:
        own = [pod for pod in pods if pod["metadata"]["name"].endswith(f"-{name}")]
        assert len([pod for pod in own if pod["metadata"]["name"].startswith(("etcd-", "kube-"))]) == 4


def test_no_etcd_would_found_another_cluster(site: Site) -> None:
    for name in site.control_planes:
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
        for name in site.control_planes[1:]:
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
        for target in site.control_planes:
            others = [name for name in site.control_planes if name != target]
            assert all(reaches(name, target, port) for name in others), (target, port)
            assert not reaches(site.worker_name, target, port), (target, port)
    assert reaches(site.worker_name, "node2", 6443)


def test_every_node_finds_all_of_them(site: Site) -> None:
    """So does kube-proxy, which has a copy of the names of its start."""
    addresses = sorted(site.nodes[name].control_plane_address for name in site.control_planes)
    for name, node in site.nodes.items():
        pods = shell(node, "crictl pods --state ready --label k8s-app=kube-proxy --output json")
        (uid,) = (pod["metadata"]["uid"] for pod in json.loads(pods)["items"])
        files = ("/etc/hosts", f"/var/lib/kubelet/pods/{uid}/etc-hosts")
        own, copied = (shell(node, f"grep api.lab.internal {file}") for file in files)
        assert own == copied, name
        found = [line.split()[0] for line in own.splitlines()]
        assert sorted(found) == addresses, name
        assert name not in site.control_planes or found[0] == node.control_plane_address


def test_nothing_left_the_networks_of_the_lab(site: Site) -> None:
    counts = site.lab.switch.counts()
    assert (counts.packets, counts.dns_queries) == (0, 0), counts
    assert set(site.nodes) == set(site.names)
