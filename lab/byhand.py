# SPDX-License-Identifier: Apache-2.0
"""Make a cluster on a node by hand, as an expert with the ISO would: dnf, ctr, kubeadm, kubectl, one after the other.

What this machine forces (control groups v1, see ``lab.node.bootstrap_config``) stands in the files here too, in
kubeadm's and containerd's own words, so that both ways have the same settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError
from lab.node import ISO_MOUNT_DIR, Node

#: What a bootstrap installs by name; a test compares it with the installer's own list.
PACKAGES = (
    "salt-minion", "container-selinux", "containerd.io", "cri-tools", "kubelet", "kubeadm", "kubectl",
    "kubernetes-cni", "conntrack-tools", "ebtables", "ethtool", "iproute-tc", "nftables", "socat", "tar", "xz",
)  # fmt: skip
KUBECONFIG = ("--kubeconfig", "/etc/kubernetes/admin.conf")
PODS = 9  # four of the control plane, kube-proxy, two of CoreDNS, two of Calico
READY_TIMEOUT_S = 300.0
POLL_S = 0.5

REPOSITORY = f"""[caisson]
name=the ISO
baseurl=file://{ISO_MOUNT_DIR}/repo/el9
gpgcheck=1
gpgkey={{keys}}
"""
SYSCTLS = """net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
"""
CONTAINERD = """version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""
KUBEADM = """apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration:
  imagePullPolicy: IfNotPresent
  ignorePreflightErrors: [SystemVerification]
  taints: []
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v{version}
networking: {{podSubnet: 10.233.0.0/16, serviceSubnet: 10.96.0.0/12}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {{maxPerCore: 0}}
"""


@dataclass(frozen=True)
class Work:
    """One step by hand: what people call it, and what it does on the node."""

    name: str
    do: Callable[[], object]


class ByHand:
    """The steps on one node, whose ISO is mounted."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._product: Mapping[str, Any] = json.loads(node.read_file(f"{ISO_MOUNT_DIR}/product.json"))

    def write_files(self) -> None:
        """Write what an expert has written before: configurations. It takes no time of the measurement."""
        node, product = self._node, self._product
        keys = " ".join(f"file://{ISO_MOUNT_DIR}/{key}" for key in product["rpm_keys"])
        pause = product["images"]["pause"]["reference"]
        node.write_file("/root/repos/iso.repo", REPOSITORY.format(keys=keys))
        node.write_file("/etc/sysctl.d/90-kubernetes.conf", SYSCTLS)
        node.write_file("/etc/containerd/config.toml", CONTAINERD.format(pause=pause))
        node.write_file(
            "/root/kubeadm.yaml",
            KUBEADM.format(address=node.control_plane_address, version=product["versions"]["kubernetes"]),
        )

    def packages(self) -> Iterator[Work]:
        """Yield what ends with the packages installed and the services running.

        firewalld is stopped, as Calico's documentation says: by hand nobody writes its rules.
        """
        yield Work("host", self._prepare_host)
        yield Work("packages", self._install)
        yield Work("services", self._start_services)

    def images(self) -> Iterator[Work]:
        """Yield the import of all images of the ISO's layout, as one stream."""
        words = f"tar --create --directory {ISO_MOUNT_DIR}/oci . | ctr --namespace k8s.io images import -"
        yield Work("images", lambda: self._run("bash", "-c", words))

    def cluster(self) -> Iterator[Work]:
        """Yield what ends with all pods Ready."""
        yield Work("kubeadm init", lambda: self._run("kubeadm", "init", "--config", "/root/kubeadm.yaml"))
        yield Work("Calico", self._apply_calico)
        yield Work("until all is Ready", self._wait_ready)

    def _run(self, *words: str, check: bool = True) -> str:
        return self._node.run(words, timeout_s=900, check=check).stdout

    def _prepare_host(self) -> None:
        self._run("systemctl", "disable", "--now", "firewalld")
        self._run("swapoff", "--all")
        self._run("modprobe", "--all", "overlay", "br_netfilter", check=False)  # may be built in
        self._run("sysctl", "--quiet", "--load", "/etc/sysctl.d/90-kubernetes.conf")

    def _install(self) -> None:
        options = ("--setopt=reposdir=/root/repos", "--setopt=install_weak_deps=0", "--assumeyes")
        self._run("dnf", *options, "install", *PACKAGES)

    def _start_services(self) -> None:
        self._run("systemctl", "disable", "--now", "salt-minion")  # its package starts it, without a master
        self._run("systemctl", "enable", "--now", "containerd", "kubelet")

    def _apply_calico(self) -> None:
        manifest = f"{ISO_MOUNT_DIR}/{self._product['manifests']['calico']['path']}"
        self._run("kubectl", *KUBECONFIG, "apply", "--filename", manifest)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            told = self._run("kubectl", *KUBECONFIG, "get", "pods", "--all-namespaces", "--output", "json")
            late = unready(json.loads(told)["items"])
            if late is not None and not late:
                return
            if time.monotonic() > deadline:
                raise LabError(
                    f"the cluster by hand is not Ready after {READY_TIMEOUT_S:.0f} s",
                    details=", ".join(late or ["pods are missing"]),
                )
            time.sleep(POLL_S)


def unready(pods: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the names of the pods that are not Ready; None when not all of them are there yet."""
    if len(pods) < PODS:
        return None
    return [pod["metadata"]["name"] for pod in pods if not _is_ready(pod)]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
