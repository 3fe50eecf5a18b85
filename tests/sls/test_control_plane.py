# SPDX-License-Identifier: Apache-2.0
"""The role of a further control plane, compiled by the real Salt with its pillar: no media, and no key in it."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from tests.sls.compiler import Chunk, Compiler
from tests.sls.test_worker import rendered, written

ROLE = "roles.control_plane"
PATCHES_DIR = "/etc/kubernetes/patches"


CONSOLE_KEY = "/etc/caisson/console/tls.key"
"""Made on the node, by which it stays."""


@pytest.fixture
def chunks(compiler: Compiler, control_plane_pillar: dict[str, Any]) -> tuple[Chunk, ...]:
    compiled = compiler.compile(ROLE, control_plane_pillar)
    assert list(compiled.faults) == []
    return compiled.chunks


def test_it_joins_as_a_member(chunks: tuple[Chunk, ...]) -> None:
    joins = [chunk["is_control_plane"] for chunk in chunks if chunk["state"] == "caisson_join"]
    assert joins == [True]
    said = json.loads(written(chunks)["/etc/caisson/kubeadm/join.yaml"]["contents"])
    assert said["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "192.0.2.12"
    assert said["nodeRegistration"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]


def test_nothing_of_it_is_a_key_and_no_file_comes_from_memory(chunks: tuple[Chunk, ...]) -> None:
    """Salt keeps a copy of what file.managed takes from elsewhere."""
    text = json.dumps(chunks, default=str).replace(CONSOLE_KEY, "")
    for word in ("PRIVATE KEY", "/run/caisson-join/pki", ".key"):
        assert word not in text


def test_its_pods_get_the_patches_of_the_first_one_s_and_the_site_s(
    chunks: tuple[Chunk, ...], control_plane_pillar: dict[str, Any]
) -> None:
    """But for one: kubeadm itself tells a further member of etcd that its cluster exists.

    With a virtual address the API server listens on every one.
    """
    has_vip = bool(control_plane_pillar["caisson"]["networks"]["vip"])
    found = {path.rpartition("/")[2] for path in written(chunks) if path.startswith(PATCHES_DIR)}
    site = set(control_plane_pillar["caisson"]["overrides"]["kubeadm_patches"])
    bound = set() if has_vip else {"kube-apiserver0+json.json"}
    assert found - site == {"kubeletconfiguration0+strategic.json", "etcd0+strategic.json", *bound}
    assert site <= found
    if has_vip:
        return
    bind = json.loads(written(chunks)[f"{PATCHES_DIR}/kube-apiserver0+json.json"]["contents"])
    assert bind[0]["value"] == "--bind-address=192.0.2.12"


def test_every_image_that_kubeadm_asks_for_is_pulled_before(
    chunks: tuple[Chunk, ...], control_plane_pillar: dict[str, Any]
) -> None:
    images = control_plane_pillar["caisson"]["images"]
    names: tuple[str, ...] = (
        "pause",
        "kube-proxy",
        "calico-cni",
        "calico-node",
        "etcd",
        "coredns",
        "kube-apiserver",
    )
    names += ("kube-controller-manager", "kube-scheduler")
    chunk, *later = (
        chunk for chunk in chunks if (chunk["state"], chunk["fun"]) == ("caisson_image", "pulled")
    )
    assert set(chunk["images"]) == {images[name]["reference"] for name in names}
    has_vip = bool(control_plane_pillar["caisson"]["networks"]["vip"])
    assert [set(one["images"]) for one in later] == [{images["keepalived"]["reference"]}] * has_vip


def openings(compiler: Compiler, chunks: tuple[Chunk, ...], pillar: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what firewalld lets in: source and port."""
    chunk = written(chunks)["/etc/firewalld/policies/caisson-nodes.xml"]
    text = rendered(compiler, chunk, pillar)
    return set(re.findall(r'<source address="([^"]+)"/>\s*<port port="(\d+)"', text))


def test_etcd_is_open_to_the_other_control_planes_alone(
    compiler: Compiler, chunks: tuple[Chunk, ...], control_plane_pillar: dict[str, Any]
) -> None:
    found = openings(compiler, chunks, control_plane_pillar)
    assert {source for source, port in found if port in ("2379", "2380")} == {"192.0.2.11/32"}
    assert {port for _, port in found} == {"6443", "2379", "2380", "10250", "4789", "8443", "8444", "9443"}


def test_a_cluster_of_one_opens_etcd_to_nobody(compiler: Compiler, pillar: dict[str, Any]) -> None:
    found = openings(compiler, compiler.compile("firewall", pillar).chunks, pillar)
    assert {port for _, port in found} & {"2379", "2380"} == set()
    changed = copy.deepcopy(pillar)
    changed["caisson"]["control_planes"].append({"name": "node2", "address": "192.0.2.12"})
    found = openings(compiler, compiler.compile("firewall", changed).chunks, changed)
    assert {source for source, port in found if port in ("2379", "2380")} == {"192.0.2.12/32"}


@pytest.mark.parametrize("role", ["bootstrap", "control-plane", "worker"])
def test_what_is_told_is_acted_upon_before_it_is_noted(
    compiler: Compiler, pillar: dict[str, Any], control_plane_pillar: dict[str, Any], role: str
) -> None:
    changed = copy.deepcopy(pillar if role == "bootstrap" else control_plane_pillar)
    changed["caisson"]["node"]["role"] = role
    compiled = compiler.compile("cluster.told", changed)
    assert list(compiled.faults) == []
    names = [chunk["__id__"] for chunk in compiled.chunks]
    assert names[-1] == "Note what this node was told"
    assert ("Load the port table into firewalld" in names) is (role != "worker")


@pytest.mark.parametrize("sls", ["cluster.told", "roles.control_plane", "roles.worker"])
def test_kube_proxy_finds_the_control_planes_before_that_is_noted(
    compiler: Compiler, control_plane_pillar: dict[str, Any], sls: str
) -> None:
    """Who asks for the note would take a node for told whose kube-proxy has the names of before."""
    changed = copy.deepcopy(control_plane_pillar)
    changed["caisson"]["node"]["role"] = "worker" if "worker" in sls else "control-plane"
    compiled = compiler.compile(sls, changed)
    assert list(compiled.faults) == []
    found = {chunk["__id__"]: chunk for chunk in compiled.chunks}
    wanted = {"caisson_names": "Let kube-proxy find them too"}
    assert wanted in found["Note what this node was told"]["require"]
    chunk = found[wanted["caisson_names"]]
    assert (chunk["fun"], chunk["app"]) == ("known_to_pods", "kube-proxy")
    names = [*found]
    before = "Find the control planes behind the endpoint's name" if "told" in sls else "Join the cluster"
    assert names.index(before) < names.index(wanted["caisson_names"])
