# SPDX-License-Identifier: Apache-2.0
"""The role of a worker, compiled by the real Salt with the pillar of a worker: it has no media, and no secret."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sls.compiler import Chunk, Compiler

TREE_DIR = Path(__file__).parents[2] / "salt"
ROLE = "roles.worker"


@pytest.fixture
def chunks(compiler: Compiler, worker_pillar: dict[str, Any]) -> tuple[Chunk, ...]:
    compiled = compiler.compile(ROLE, worker_pillar)
    assert list(compiled.faults) == []
    return compiled.chunks


def written(chunks: tuple[Chunk, ...]) -> dict[str, Chunk]:
    """Return path -> state of each file that is written as a whole."""
    return {chunk["name"]: chunk for chunk in chunks if (chunk["state"], chunk["fun"]) == ("file", "managed")}


def rendered(compiler: Compiler, chunk: Chunk, pillar: dict[str, Any]) -> str:
    return compiler.render(chunk["source"], chunk["context"], pillar)


def test_the_top_file_goes_by_the_role(
    compiler: Compiler, pillar: dict[str, Any], worker_pillar: dict[str, Any]
) -> None:
    for given, role in ((pillar, "roles.bootstrap"), (worker_pillar, ROLE)):
        assert yaml.safe_load(compiler.render("salt://top.sls", {}, given)) == {"base": {"*": [role]}}


def test_it_reads_nothing_of_mounted_media(chunks: tuple[Chunk, ...]) -> None:
    """Nor does it run a static pod, make a certificate, import an image or apply anything to the cluster."""
    text = json.dumps(chunks, default=str)
    assert "/srv/caisson" not in text
    states = {chunk["state"] for chunk in chunks}
    assert states & {"caisson_static_pod", "x509", "caisson_kubernetes", "caisson_kubeadm"} == set()
    assert "imported" not in {chunk["fun"] for chunk in chunks if chunk["state"] == "caisson_image"}


def test_the_cluster_s_ca_is_all_that_images_are_trusted_by(
    compiler: Compiler, chunks: tuple[Chunk, ...], worker_pillar: dict[str, Any]
) -> None:
    """A name, so that who serves may change; a second for one that is away, at the mirror and at ``server``."""
    chunk = written(chunks)["/etc/containerd/certs.d/_default/hosts.toml"]
    said = tomllib.loads(rendered(compiler, chunk, worker_pillar))
    url = f"https://media.{worker_pillar['caisson']['cluster']['name']}.internal:8443"
    assert (said["server"], said["dial_timeout"]) == (url, "1s")
    host = {"capabilities": ["pull", "resolve"], "ca": "/etc/caisson/ca.crt", "dial_timeout": "1s"}
    assert said["host"] == {url: host}


def test_every_image_of_a_node_is_pulled(chunks: tuple[Chunk, ...], worker_pillar: dict[str, Any]) -> None:
    (chunk,) = (chunk for chunk in chunks if chunk["state"] == "caisson_image")
    images = worker_pillar["caisson"]["images"]
    wanted = {images[name]["reference"] for name in ("pause", "kube-proxy", "calico-cni", "calico-node")}
    assert chunk["fun"] == "pulled"
    assert set(chunk["images"]) == wanted


def test_the_firewall_opens_a_worker_s_ports_only(
    compiler: Compiler, chunks: tuple[Chunk, ...], worker_pillar: dict[str, Any]
) -> None:
    chunk = written(chunks)["/etc/firewalld/policies/caisson-nodes.xml"]
    text = rendered(compiler, chunk, worker_pillar)
    assert set(re.findall(r'<port port="(\d+)"', text)) == {"10250", "4789"}


def test_the_join_holds_no_secret(chunks: tuple[Chunk, ...]) -> None:
    chunk = written(chunks)["/etc/caisson/kubeadm/join.yaml"]
    said = json.loads(chunk["contents"])
    assert said["discovery"] == {"file": {"kubeConfigPath": "/run/caisson-join/discovery.conf"}}
    assert said["nodeRegistration"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    assert said["nodeRegistration"]["kubeletExtraArgs"] == [{"name": "node-ip", "value": "192.0.2.12"}]
    assert "controlPlane" not in said
    assert not re.search(r"token|[a-z0-9]{6}\.[a-z0-9]{16}", json.dumps(chunks, default=str))


def test_what_a_join_needs_comes_before_it(chunks: tuple[Chunk, ...]) -> None:
    order = [chunk["__id__"] for chunk in sorted(chunks, key=lambda chunk: chunk["order"])]
    join = order.index("Join the cluster")
    for before in (
        "Load the port table into firewalld",
        "Wait for the container runtime",
        "Pull images of the node",
        "Account for the kubelet's processor and memory use",
        "Write kubeadm's configuration of the join",
        "Write kubeadm patch kubeletconfiguration0+strategic.json",
        "Start the kubelet at each boot",
    ):
        assert order.index(before) < join, before


@pytest.mark.parametrize("name", ["10023", "0777", "true", "null", "1e3", "2024-01-15"])
def test_names_that_yaml_misreads(compiler: Compiler, worker_pillar: dict[str, Any], name: str) -> None:
    changed = copy.deepcopy(worker_pillar)
    changed["caisson"]["node"]["name"] = name
    compiled = compiler.compile(ROLE, changed)
    assert list(compiled.faults) == []
    said = json.loads(written(compiled.chunks)["/etc/caisson/kubeadm/join.yaml"]["contents"])
    assert said["nodeRegistration"]["name"] == name


def test_a_site_s_overrides_are_root_s_alone(compiler: Compiler, worker_pillar: dict[str, Any]) -> None:
    secret = "the-secret-of-a-site"
    changed = copy.deepcopy(worker_pillar)
    overrides = changed["caisson"]["overrides"]
    overrides["containerd"] = f'version = 3\n[x]\n  password = "{secret}"\n'
    overrides["kubeadm_patches"]["kubeletconfiguration1+merge.yaml"] = f"x: {secret}"
    found = [
        chunk for chunk in compiler.compile(ROLE, changed).chunks if secret in str(chunk.get("contents"))
    ]
    assert len(found) == 2
    for chunk in found:
        assert (chunk["mode"], chunk.get("show_changes")) == ("0600", False), chunk["__id__"]
