# SPDX-License-Identifier: Apache-2.0
"""kubeadm's configuration from the pillar, and the run of single phases of ``kubeadm init``.

``configuration`` and ``standalone_kubelet`` are pure: same pillar, same documents. They hold Caisson's few
decisions; everything else is kubeadm's default. Source: kubeadm v1beta4 API, KubeletConfiguration v1beta1.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

log = logging.getLogger(__name__)

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CONFIGURATION_FILE = "/etc/caisson/kubeadm/init.yaml"
PATCHES_DIR = "/etc/kubernetes/patches"
STAMPS_DIR = "/var/lib/caisson/kubeadm"
CERTIFICATE_VALIDITY = "43800h0m0s"  # five years
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBERNETES_DIR = "/etc/kubernetes"
# What kubeadm makes there. Source: kubeadm 1.36, phases/certs, certlist.go; constants.go.
CERTIFICATES = {
    "ca": ("apiserver", "apiserver-kubelet-client"),
    "front-proxy-ca": ("front-proxy-client",),
    "etcd/ca": ("etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"),
}
KUBECONFIGS = tuple(
    f"{name}.conf" for name in ("admin", "super-admin", "kubelet", "controller-manager", "scheduler")
)
# Found on every host that Caisson prepared; each is named, never "all". A disk of its own for etcd has a lost+found;
# anything else in there is looked for by Caisson's own check CSN403.
EXPECTED_PREFLIGHTS = ("DirAvailable--var-lib-etcd", "Firewalld")
OWN_CODE = re.compile(r"CSN\d")
# Once one of these is there kubeadm's preflight has nothing left to say: it is about a host without a control plane.
LIVING_FILES = ("/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/manifests/etcd.yaml")


def configuration(caisson: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the documents of the file given to ``kubeadm init phase ... --config``."""
    node, networks, cluster = caisson["node"], caisson["networks"], caisson["cluster"]
    address = node["control_plane_address"]
    accepted = [entry["id"] for entry in caisson["overrides"]["ignore_preflights"]]
    ignored = sorted({*EXPECTED_PREFLIGHTS, *(name for name in accepted if not OWN_CODE.match(name))})
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


def reads(caisson: dict[str, Any]) -> dict[str, Any]:
    """Return phase -> all that its result depends on: a phase is run again when this has changed, and only then.

    Source: kubeadm 1.36, app/cmd/phases/init. What kubeadm's own preflight reads is left out: it is run once.
    """
    init, cluster, kubelet, kube_proxy = configuration(caisson)
    registration, networking = init["nodeRegistration"], cluster["networking"]
    given = patches(caisson)
    where = [registration["name"], init["localAPIEndpoint"], cluster["controlPlaneEndpoint"]]

    def patched(*targets: str) -> dict[str, str]:
        # As kubeadm reads a name: a target, any suffix up to "+" or ".". No target begins with another one.
        return {name: text for name, text in sorted(given.items()) if name.startswith(targets)}

    components = [{**cluster, "apiServer": {}}, patched(*CONTROL_PLANE)]
    return {
        "preflight": [],
        "certs all": [where, networking["serviceSubnet"], cluster.get("apiServer")],
        "kubeconfig all": [where, cluster["clusterName"]],
        "kubelet-start": [
            kubelet,
            {key: value for key, value in registration.items() if key != "ignorePreflightErrors"},
            networking,
            patched("kubeletconfiguration"),
        ],
        "etcd local": [where, patched("etcd")],
        "control-plane all": [where, components],
        "upload-config all": [cluster, kubelet],
        "mark-control-plane": [registration["name"], registration["taints"]],
        "bootstrap-token": [cluster["controlPlaneEndpoint"]],
        "kubelet-finalize all": [registration["name"]],
        "addon kube-proxy": [kube_proxy, networking, cluster["controlPlaneEndpoint"]],
        "addon coredns": [networking, patched("corednsdeployment")],
    }


def expected_stamp(phase: str) -> dict[str, str]:
    """Return what a completed phase records: the digest of what it read, and the version of kubeadm."""
    text = json.dumps(reads(__pillar__["caisson"])[phase], sort_keys=True)
    version = __salt__["cmd.run_stdout"](["kubeadm", "version", "--output", "short"], python_shell=False)
    return {"inputs_sha256": hashlib.sha256(text.encode()).hexdigest(), "kubeadm": version.strip()}


def has_living_control_plane() -> bool:
    """Tell whether the manifests of a control plane are there already."""
    return any(Path(file).exists() for file in LIVING_FILES)


def remove_unfinished(phase: str) -> list[str]:
    """Remove what a first run of ``phase`` that was cut off may have left; return the paths.

    Only what kubeadm itself makes, by name: other files are the site's. Nothing is removed once a control plane is
    there. Authorities and the pair ``sa`` stay when they are whole; so does an authority outside, a certificate
    without its key, with all that it signed. The rest was made for the inputs of that run. kubeadm writes the key
    before the certificate, and refuses (or takes) the half that a kill leaves.
    Source: kubeadm 1.36, phases/certs, pkiutil, WriteCertAndKey, CertOrKeyExist.
    """
    if has_living_control_plane():
        return []
    root = Path(KUBERNETES_DIR) / "pki"
    files = _unfinished_certificates(root) if phase == "certs all" else []
    if phase == "kubeconfig all" and not _is_outside(root, "ca"):
        files = [Path(KUBERNETES_DIR) / name for name in KUBECONFIGS]
    removed = [file for file in files if file.is_file()]
    for file in removed:
        file.unlink()
    return [str(file) for file in removed]


def _unfinished_certificates(root: Path) -> list[Path]:
    """Return the pairs that a first run may have left: authorities that are not whole, and what they all signed."""
    found: list[Path] = []
    for authority, leaves in CERTIFICATES.items():
        if not _is_outside(root, authority):
            found += [] if all(map(_is_whole, _pair(root, authority))) else _pair(root, authority)
            found += [file for leaf in leaves for file in _pair(root, leaf)]
    accounts = (root / "sa.key", root / "sa.pub")
    return found if all(map(_is_whole, accounts)) else [*found, *accounts]


def _is_outside(root: Path, authority: str) -> bool:
    """Tell whether the key of an authority is kept elsewhere: the site gives what it has signed as well."""
    certificate, key = _pair(root, authority)
    return _is_whole(certificate) and not key.exists()


def _pair(root: Path, stem: str) -> tuple[Path, Path]:
    return root / f"{stem}.crt", root / f"{stem}.key"


def _is_whole(pem_file: Path) -> bool:
    return pem_file.is_file() and b"-----END " in pem_file.read_bytes()


def restart_container(name: str) -> None:
    """Stop the containers of kube-system called ``name``; the kubelet starts them again. Raises RuntimeError."""
    namespace = "io.kubernetes.pod.namespace=kube-system"
    words = ["crictl", "ps", "--quiet", "--name", f"^{name}$", "--label", namespace]
    listed = __salt__["cmd.run_stdout"](words, python_shell=False)
    for container in listed.split():
        command = ["crictl", "stop", "--timeout", "30", container]
        outcome = __salt__["cmd.run_all"](command, python_shell=False, timeout=60)
        if outcome["retcode"] != 0:
            raise RuntimeError(f"crictl cannot stop {name}: {outcome['stderr'].strip()[-500:]}")


def run_phase(phase: str) -> dict[str, Any]:
    """Run ``kubeadm init phase PHASE``; return the result of ``cmd.run_all``."""
    command = ["kubeadm", "init", "phase", *phase.split(), "--config", CONFIGURATION_FILE]
    environment = {"KUBECONFIG": "/etc/kubernetes/admin.conf"}
    log.info("caisson waits: kubeadm init phase %s", phase)
    result: dict[str, Any] = __salt__["cmd.run_all"](
        command, python_shell=False, timeout=300, env=environment
    )
    return result
