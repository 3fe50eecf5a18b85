# SPDX-License-Identifier: Apache-2.0
"""Say what a further node is told: its pillar, and how its Salt is configured.

The master gives it to that node alone (pillartop.py). The same text lies on the node itself, for the jobs that run
there without the bus. No secret is in it but what the operator's own overrides hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.config.facts import Facts
from installer.config.nodes import NodeEntry, Role
from installer.engine import controlplanes, mediaservers, pillartop, saltcall
from installer.engine.context import Context
from installer.engine.controlplanes import ControlPlane
from installer.engine.pillartop import canonical, render, top
from installer.media import repository

KUBELET_PATCHES = "kubeletconfiguration"
"""kubeadm reads no other patch on a worker. Source: kubeadm 1.36, util/patches, and cmd/phases/join/kubelet.go."""
CA_FILE = "/etc/caisson/ca.crt"
NODE_CACHE_DIR = "/var/cache/caisson/salt-local"


def pillar(
    context: Context, entry: NodeEntry, facts: Facts, *, media_port: int, cluster_ca_sha256: str
) -> dict[str, Any]:
    """Return the pillar of a further node: the cluster's part of the bootstrap node's, and what is its own.

    ``context`` is the bootstrap node's, ``facts`` are the new node's. ``cluster_ca_sha256`` tells this cluster from
    others, should the host be a node already.
    """
    of_cluster = saltcall.pillar(context)
    own_dir = of_cluster["self_dir"]
    node = {
        **_node(facts),
        "role": entry.role.value,
        "labels": dict(entry.labels),
        "taints": [vars(taint) for taint in entry.taints],
    }
    media = f"https://{of_cluster['media_name']}:{media_port}"
    caisson = {
        **{
            key: of_cluster[key]
            for key in ("version", "product", "networks", "versions", "images", "media_name", "containerd")
        },
        "cluster": {**of_cluster["cluster"], "ca_sha256": cluster_ca_sha256},
        "self_dir": own_dir,
        # The keys of the packages lie there, and Salt's tree; packages and images are asked for by name.
        "media_dir": own_dir,
        "repository": {"url": f"{media}/{repository.REPOSITORY}", "ca_file": CA_FILE},
        "media_servers": [{"address": of_cluster["media_name"]}],
        "node": node,
        "overrides": _overrides(of_cluster["overrides"], entry.role),
    }
    return told_again(context, caisson)


def told_again(context: Context, caisson: Mapping[str, Any], *, serves: bool = False) -> dict[str, Any]:
    """Return the pillar of a node as it is with the control planes that are known now.

    ``serves``: it is a control plane that has joined. One that once has stays so.
    """
    node, known = dict(caisson["node"]), controlplanes.known(context)
    name, members, listed = str(node["name"]), known, []
    if node["role"] == controlplanes.ROLE:
        node["serves"] = serves or any(entry.name == name and entry.serves for entry in known)
        # A control plane to which the ISOs were copied goes on to serve them, also when it is added again.
        builds = pillartop.read(context.paths, name).get("node", {}).get("media")
        if builds and "media" not in node:
            node["media"] = builds
        own = ControlPlane(name, str(node["control_plane_address"]), node["serves"])
        others = (entry for entry in known if entry.name != name)
        members = tuple(sorted((own, *others), key=lambda entry: entry.name))
        # Whom etcd lets in: a worker has none.
        listed = controlplanes.listed(members)
    vip = context.config.networks.vip
    names = {
        context.config.endpoint: [str(vip)] if vip else controlplanes.endpoint_addresses(members, name),
        context.config.media_name: [str(context.facts.control_plane_address)],
    }
    told = {**caisson, "node": node, "elsewhere": names, "control_planes": listed}
    return mediaservers.told_again(context, told) if "repository" in told else told


def digest(caisson: Mapping[str, Any]) -> str:
    """Return the digest of what of a node's pillar changes with the control planes, and with who serves. Pure."""
    said = {key: caisson.get(key) for key in ("control_planes", "elsewhere", "media_servers", "repository")}
    return hashlib.sha256(canonical(said).encode()).hexdigest()


def _node(facts: Facts) -> dict[str, Any]:
    return {
        "name": facts.node_name,
        "control_plane_address": facts.control_plane_address,
        "control_plane_interface": facts.control_plane_interface,
        "workload_plane_address": facts.workload_plane_address,
        "workload_plane_interface": facts.workload_plane_interface,
    }


def _overrides(given: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """Return what of the operator's overrides a node reads; of kubeadm's patches a worker only the kubelet's."""
    patches = {
        name: text
        for name, text in given["kubeadm_patches"].items()
        if role is Role.CONTROL_PLANE or name.startswith(KUBELET_PATCHES)
    }
    kept = {key: given[key] for key in ("containerd", "kubelet", "ignore_preflights")}
    return {**kept, "kubeadm_patches": patches}


# ---- Salt on the node ----------------------------------------------------------------------------------------


def local_files(caisson: Mapping[str, Any]) -> dict[str, str]:
    """Return path -> text of what lets Salt work on the node without its master. Pure."""
    name, tree = str(caisson["node"]["name"]), Path(caisson["media_dir"]) / "salt"
    configuration = {
        "id": name,
        "file_client": "local",
        "file_roots": {"base": [str(tree)]},
        "pillar_roots": {"base": ["/etc/caisson/pillar"]},
        **_modules(tree),
        "cachedir": NODE_CACHE_DIR,
    }
    return {
        "/etc/caisson/pillar/top.sls": render(top(name, ())),
        "/etc/caisson/pillar/caisson.sls": render({"caisson": caisson}),
        "/etc/caisson/salt/local/minion": canonical(configuration),
    }


def minion_configuration(caisson: Mapping[str, Any], master_address: str) -> str:
    """Return the configuration of the node's minion, as ``salt_minion.connected`` writes that of the bootstrap node."""
    said = {
        "master": master_address,
        "id": str(caisson["node"]["name"]),
        **_modules(Path(caisson["media_dir"]) / "salt"),
        "encryption_algorithm": "OAEP-SHA224",
        "signing_algorithm": "PKCS1v15-SHA224",
        "retry_dns": 0,
        "acceptance_wait_time": 2,
        "random_reauth_delay": 5,
    }
    return "# Managed by Caisson.\n" + canonical(said)


def _modules(tree: Path) -> dict[str, Any]:
    dirs: Mapping[str, Sequence[str]] = {
        "module_dirs": [str(tree / "_modules")],
        "states_dirs": [str(tree / "_states")],
    }
    settings = {"enable_fqdns_grains": False, "enable_gpu_grains": False, "lazy_loader_strict_matching": True}
    return {**dirs, **settings}
