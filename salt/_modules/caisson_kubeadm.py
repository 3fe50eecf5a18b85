# SPDX-License-Identifier: Apache-2.0
"""kubeadm's configuration from the pillar, and the run of single phases of ``kubeadm init``.

``configuration`` and ``standalone_kubelet`` are pure: same pillar, same documents. They hold Caisson's few
decisions; everything else is kubeadm's default. Source: kubeadm v1beta4 API, KubeletConfiguration v1beta1.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CONFIGURATION_FILE = "/etc/caisson/kubeadm/init.yaml"
PATCHES_DIR = "/etc/kubernetes/patches"
STAMPS_DIR = "/var/lib/caisson/kubeadm"
CERTIFICATE_VALIDITY = "43800h0m0s"  # five years
# Found on every host that Caisson prepared; each is named, never "all".
EXPECTED_PREFLIGHTS = ("Firewalld",)


def configuration(caisson: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the documents of the file given to ``kubeadm init phase ... --config``."""
    node, networks, cluster = caisson["node"], caisson["networks"], caisson["cluster"]
    address = node["control_plane_address"]
    ignored = sorted(
        {*EXPECTED_PREFLIGHTS, *(entry["id"] for entry in caisson["overrides"]["ignore_preflights"])}
    )
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
        "nodeRegistration": {
            "name": node["name"],
            "criSocket": CRI_SOCKET,
            "imagePullPolicy": "IfNotPresent",
            "ignorePreflightErrors": ignored,
            "kubeletExtraArgs": [{"name": "node-ip", "value": address}],
            # One node must be able to run everything; dedicated control planes are a later choice of the operator.
            "taints": [],
        },
        "patches": {"directory": PATCHES_DIR},
    }
    sans = [*caisson["api_server"]["extra_sans"], *([networks["vip"]] if networks["vip"] else [])]
    cluster_configuration = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster["name"],
        "kubernetesVersion": "v" + caisson["versions"]["kubernetes"],
        "controlPlaneEndpoint": f"{cluster['endpoint']}:6443",
        # An air-gapped cluster may go without an upgrade, which is what renews kubeadm's year, for longer than that.
        "certificateValidityPeriod": CERTIFICATE_VALIDITY,
        "networking": {"podSubnet": networks["pods"], "serviceSubnet": networks["services"]},
        **({"apiServer": {"certSANs": sans}} if sans else {}),
    }
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        **caisson["overrides"]["kubelet"],
    }
    kube_proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        **caisson["overrides"]["kube_proxy"],
    }
    return [init, cluster_configuration, kubelet, kube_proxy]


def patches(caisson: dict[str, Any]) -> dict[str, str]:
    """Return file name -> text of the kubeadm patches of this node: Caisson's, then the operator's own.

    API server and kubelet listen on the control-plane address only. These are patches, not the cluster's
    configuration, because the address is a fact of one node.
    """
    address = caisson["node"]["control_plane_address"]
    bind = [
        {"op": "add", "path": "/spec/containers/0/command/-", "value": f"--bind-address={address}"},
    ]
    files = {
        "kube-apiserver0+json.json": json.dumps(bind),
        "kubeletconfiguration0+strategic.json": json.dumps({"address": address}),
    }
    files.update(caisson["overrides"]["kubeadm_patches"])
    return files


def standalone_kubelet(caisson: dict[str, Any]) -> dict[str, Any]:
    """Return the KubeletConfiguration for the time before there is an API server.

    It serves no port and asks nobody. What is kept over the hand-over (cgroup driver, node name, runtime) is the
    same data as in ``configuration``, or the running pods would not survive it.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "enableServer": False,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "staticPodPath": "/etc/kubernetes/manifests",
        "containerRuntimeEndpoint": CRI_SOCKET,
        "cgroupDriver": "systemd",
        **caisson["overrides"]["kubelet"],
    }


def stamp_file(phase: str) -> Path:
    """Return the file that records what ``phase`` was last completed with."""
    return Path(STAMPS_DIR) / (phase.replace(" ", "-").replace("/", "-") + ".json")


def expected_stamp() -> dict[str, str]:
    """Return what a completed phase records: the digest of the configuration and the version of kubeadm."""
    digest = hashlib.sha256(Path(CONFIGURATION_FILE).read_bytes())
    for patch in sorted(Path(PATCHES_DIR).iterdir()):
        digest.update(patch.name.encode() + b"\0" + patch.read_bytes())
    version = __salt__["cmd.run_stdout"](["kubeadm", "version", "--output", "short"], python_shell=False)
    return {"configuration_sha256": digest.hexdigest(), "kubeadm": version.strip()}


def run_phase(phase: str) -> dict[str, Any]:
    """Run ``kubeadm init phase PHASE``; return the result of ``cmd.run_all``."""
    command = ["kubeadm", "init", "phase", *phase.split(), "--config", CONFIGURATION_FILE]
    environment = {"KUBECONFIG": "/etc/kubernetes/admin.conf"}
    result: dict[str, Any] = __salt__["cmd.run_all"](
        command, python_shell=False, timeout=300, env=environment
    )
    return result
