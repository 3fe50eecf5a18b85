# SPDX-License-Identifier: Apache-2.0
"""A control plane by plain ``kubeadm init``, from the ISO's packages and images; and what a node looks like then."""

from __future__ import annotations

import json
from typing import Any

from lab.node import Lab, Node
from tests.node.installing import lab_iso, shell

CONFIGURATION_FILE = "/root/kubeadm.yaml"
SAME_FILES = ("/etc/containerd/config.toml", "/etc/containerd/conf.d/90-overrides.toml")
"""The runtime is set up the same way; it is no work of kubeadm's."""

PREPARE = """
set -euo pipefail
dnf --assumeyes --quiet --nogpgcheck --repofrompath=media,file:///mnt/caisson/repo/el9 --repo=media install \
  containerd.io cri-tools kubelet kubeadm kubectl kubernetes-cni conntrack-tools ebtables ethtool iproute-tc \
  nftables socat
sysctl --quiet --write net.ipv4.ip_forward=1
mkdir -p /etc/containerd/conf.d
install -d -m 0700 /etc/kubernetes/patches
"""
IMPORT = """
import json, sys
sys.path.insert(0, "/mnt/caisson/salt/_modules")
sys.dont_write_bytecode = True
import caisson_image
images = json.load(open("/mnt/caisson/product.json"))["images"]
for name in sys.argv[1:]:
    image = images[name]
    caisson_image.import_from_layout(image["reference"], image["platform_digest"], "/mnt/caisson/oci")
"""
IMAGES = (
    "pause",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
)

#: Prints what ``lab.likeness.normalise`` reads. Of certificates in kubeconfigs only what openssl says of them leaves
#: the node; of keys only that they are there.
COLLECT = r"""
import base64, json, pathlib, re, subprocess

def told(*words, given=None):
    return subprocess.run(words, input=given, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout

def described(pem):
    return told("openssl", "x509", "-noout", "-text", "-nameopt", "RFC2253", given=pem)

KINDS = "configmaps,serviceaccounts,roles,rolebindings,secrets,services,daemonsets,deployments"
WIDE = "clusterroles,clusterrolebindings,nodes,namespaces,priorityclasses,csidrivers,apiservices"
kubectl = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "--output", "json")
objects = [item for kinds in (KINDS, WIDE)
           for item in json.loads(told(*kubectl, "--all-namespaces", kinds))["items"]]
for item in objects:
    if item["kind"] == "Secret":
        item["data"] = {key: base64.b64decode(value).decode(errors="replace")
                        for key, value in item.get("data", {}).items()}

root = pathlib.Path("/etc/kubernetes")
certificates = {str(file): described(file.read_text())
                for file in [*root.glob("pki/**/*.crt"), *pathlib.Path("/var/lib/kubelet/pki").glob("*.crt"),
                             pathlib.Path("/var/lib/kubelet/pki/kubelet-client-current.pem")]}
kubeconfigs = {}
for file in root.glob("*.conf"):
    kubeconfigs[file.name] = file.read_text()
    for key, value in re.findall(r"(\S+-certificate-data|certificate-authority-data): (\S+)", file.read_text()):
        certificates[f"{file}: {key}"] = described(base64.b64decode(value).decode())

pid = told("systemctl", "show", "--property", "MainPID", "--value", "kubelet").strip()
words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
units = told("systemctl", "show", "--property", "FragmentPath,DropInPaths,ActiveState,UnitFileState", "kubelet")
kubelet = {
    "config.yaml": pathlib.Path("/var/lib/kubelet/config.yaml").read_text(),
    "command line": json.dumps(words),
    "flags": json.dumps(pathlib.Path("/var/lib/kubelet/kubeadm-flags.env").read_text().strip().split('"')[1].split()),
    "unit": json.dumps(dict(line.split("=", 1) for line in units.splitlines())),
}
listing = told("find", "/etc/kubernetes", "/var/lib/kubelet", "-xdev",
               "-path", "/var/lib/kubelet/pods/*", "-prune", "-o",
               "-type", "l", "-printf", "%m %u:%g %p -> %l\n", "-o", "-printf", "%m %u:%g %p\n")
print(json.dumps({"objects": objects, "certificates": certificates, "kubeconfigs": kubeconfigs, "kubelet": kubelet,
                  "manifests": {file.name: file.read_text() for file in root.glob("manifests/*.yaml")},
                  "listing": listing}))
"""


def prepare(lab: Lab, name: str, files: dict[str, str], endpoint: str) -> Node:
    """Make a node that has the packages, the images and the given files, and no cluster yet."""
    node = lab.start_node(name, iso=lab_iso())
    node.mount_iso()
    shell(node, PREPARE, timeout_s=300)
    for path, text in files.items():
        node.write_file(path, text, 0o600)
    address = node.control_plane_address
    shell(node, f"echo '{address} {endpoint}' >> /etc/hosts; systemctl restart containerd", timeout_s=60)
    node.run(["python3", "-c", IMPORT, *IMAGES], timeout_s=300)
    return node


def files_of(node: Node) -> dict[str, str]:
    """Return the configuration of a bootstrapped node: kubeadm's, with its patches, and the runtime's.

    But for those of etcd: with them it only starts with data that is there.
    """
    found = {CONFIGURATION_FILE: node.read_file("/etc/caisson/kubeadm/init.yaml")}
    patches = shell(node, "ls /etc/kubernetes/patches/* | grep -v /etcd0").split()
    return {**found, **{path: node.read_file(path) for path in (*patches, *SAME_FILES)}}


def initialise(node: Node) -> None:
    """Run ``kubeadm init``, all phases in one."""
    node.run(["kubeadm", "init", "--config", CONFIGURATION_FILE], timeout_s=300)


def collect(node: Node) -> dict[str, Any]:
    """Read what kubeadm and the API have on a node."""
    found: dict[str, Any] = json.loads(node.run(["python3", "-c", COLLECT], timeout_s=120).stdout)
    return found
