# SPDX-License-Identifier: Apache-2.0
"""kubeadm's configuration from the pillar, and the run of single phases of ``kubeadm init``.

``configuration`` and ``standalone_kubelet`` are pure: same pillar, same documents. They hold Caisson's few
decisions; everything else is kubeadm's default. Source: kubeadm v1beta4 API, KubeletConfiguration v1beta1.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}
    __context__: dict[str, Any] = {}

log = logging.getLogger(__name__)

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CONFIGURATION_FILE = "/etc/caisson/kubeadm/init.yaml"
DISCOVERY_FILE = "/run/caisson-join/discovery.conf"
"""In memory, root's alone, written over SSH by the node that adds this one."""
PATCHES_DIR = "/etc/kubernetes/patches"
STAMPS_DIR = "/var/lib/caisson/kubeadm"
CERTIFICATE_VALIDITY = "43800h0m0s"  # five years
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBERNETES_DIR = "/etc/kubernetes"
ETCD_VOLUME = {"name": "etcd-data", "hostPath": {"path": "/var/lib/etcd", "type": "Directory"}}
"""kubeadm says DirectoryOrCreate. Source: kubeadm 1.36, phases/etcd/local.go, which makes the directory before."""
ETCD_EXISTING = "--initial-cluster-state=existing"
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
ROOT_DIR = "/"
MANIFESTS_DIR = "/etc/kubernetes/manifests"
KUBEADM_FILE = "/usr/bin/kubeadm"
STATIC_PODS = {"etcd local": ("etcd",), "control-plane all": CONTROL_PLANE}
HASH_ANNOTATION = "kubernetes.io/config.hash"
# What of an addon somebody may have deleted. Source: kubeadm 1.36, phases/addons.
ADDONS = {
    "addon kube-proxy": ("daemonset.apps/kube-proxy", "configmap/kube-proxy", "serviceaccount/kube-proxy"),
    "addon coredns": (
        "deployment.apps/coredns",
        "configmap/coredns",
        "service/kube-dns",
        "serviceaccount/coredns",
    ),
}
ADDONS_SEEN = "caisson_kubeadm.addons"
KUBELET_LOOKS_S = 30.0
"""How long after a manifest was written the kubelet may still show the pod of before as Ready.

It sees a changed file at once, at the latest after fileCheckFrequency, 20 s; then that pod ends.
"""


def configuration(caisson: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the documents of the file given to ``kubeadm init phase ... --config``."""
    node, networks, cluster = caisson["node"], caisson["networks"], caisson["cluster"]
    address = node["control_plane_address"]
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
        # One node must be able to run everything; dedicated control planes are a later choice of the operator.
        "nodeRegistration": _registration(caisson, taints=[]),
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


def _registration(caisson: dict[str, Any], *, taints: list[dict[str, str]]) -> dict[str, Any]:
    """Return how a node is registered."""
    accepted = [entry["id"] for entry in caisson["overrides"]["ignore_preflights"]]
    ignored = sorted({*EXPECTED_PREFLIGHTS, *(name for name in accepted if not OWN_CODE.match(name))})
    return {
        "name": caisson["node"]["name"],
        "criSocket": CRI_SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "ignorePreflightErrors": ignored,
        "kubeletExtraArgs": [{"name": "node-ip", "value": caisson["node"]["control_plane_address"]}],
        "taints": taints,
    }


def join_configuration(caisson: dict[str, Any]) -> dict[str, Any]:
    """Return the file given to ``kubeadm join phase ... --config`` on a further node.

    The token is in the discovery file, as the credentials of its user: so this file holds no secret.
    Source: kubeadm 1.36, discovery.For; validation.go, ValidateDiscovery: a file needs no tlsBootstrapToken.
    """
    node = caisson["node"]
    endpoint = {"advertiseAddress": node["control_plane_address"], "bindPort": 6443}
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        **({"controlPlane": {"localAPIEndpoint": endpoint}} if is_control_plane(caisson) else {}),
        "discovery": {"file": {"kubeConfigPath": DISCOVERY_FILE}},
        "nodeRegistration": _registration(caisson, taints=node.get("taints", [])),
        "patches": {"directory": PATCHES_DIR},
        "timeouts": {"discovery": "1m0s"},
    }


def is_control_plane(caisson: dict[str, Any]) -> bool:
    """Tell whether a further node is a control plane."""
    return bool(caisson["node"].get("role") == "control-plane")


def node_patches(caisson: dict[str, Any]) -> dict[str, str]:
    """Return the patches of a further node: all on a control plane, elsewhere those that are read there."""
    if is_control_plane(caisson):
        return patches(caisson)
    return {name: text for name, text in patches(caisson).items() if name.startswith("kubeletconfiguration")}


def patches(caisson: dict[str, Any]) -> dict[str, str]:
    """Return file name -> text of the kubeadm patches of this node: Caisson's, then the operator's own.

    API server and kubelet listen on the control-plane address only. etcd starts with the data that it has, and never
    founds a cluster (caisson_etcd; a further one is told so by kubeadm itself): a disk that was replaced, or is not
    mounted, is not taken for a new beginning. These are patches, not the cluster's configuration, because the address
    is a fact of one node. With a virtual address the API server listens on every one, as kubeadm has it: what is not on
    the node when it starts can be bound only so. firewalld limits it.
    """
    address = caisson["node"]["control_plane_address"]
    bind = [
        {"op": "add", "path": "/spec/containers/0/command/-", "value": f"--bind-address={address}"},
    ]
    files = {
        "kubeletconfiguration0+strategic.json": json.dumps({"address": address}),
        "etcd0+strategic.json": json.dumps({"spec": {"volumes": [ETCD_VOLUME]}}),
    }
    if not caisson["networks"]["vip"]:
        files["kube-apiserver0+json.json"] = json.dumps(bind)
    if not is_control_plane(caisson):
        existing = {"op": "add", "path": "/spec/containers/0/command/-", "value": ETCD_EXISTING}
        files["etcd0+json.json"] = json.dumps([existing])
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
    return {"inputs_sha256": hashlib.sha256(text.encode()).hexdigest(), "kubeadm": _version()}


def _version() -> str:
    """Return the version of kubeadm, which is asked once as long as its file is the same one."""
    status = Path(KUBEADM_FILE).stat()
    key = f"caisson_kubeadm.version {status.st_ino} {status.st_mtime_ns} {status.st_size}"
    if key not in __context__:
        command = [KUBEADM_FILE, "version", "--output", "short"]
        __context__[key] = __salt__["cmd.run_stdout"](command, python_shell=False).strip()
    return str(__context__[key])


def has_living_control_plane() -> bool:
    """Tell whether the manifests of a control plane are there already."""
    return bool(_control_plane().is_living(Path(ROOT_DIR)))


def certificate_files() -> list[str]:
    """Return what ``certs all`` makes, without the authorities' keys: a site may keep those elsewhere."""
    root = Path(KUBERNETES_DIR) / "pki"
    files = [root / "sa.pub", root / "sa.key"]
    for authority, leaves in CERTIFICATES.items():
        files += [_pair(root, authority)[0], *(file for leaf in leaves for file in _pair(root, leaf))]
    return [str(file) for file in files]


def is_left_alone() -> bool:
    """Tell whether there is a control plane that no phase of ours has made: nothing of it is touched."""
    return bool(_control_plane().is_of_others(Path(ROOT_DIR)))


def _control_plane() -> Any:
    return __salt__["caisson_installer.load"]("installer.config.control_plane")


def waits_for(path: str) -> bool:
    """Tell whether the site's authority ``path`` has still to be placed: before kubeadm has signed anything with it.

    Afterwards a file that is not there was taken off the host on purpose, and its source may be gone too.
    """
    if has_living_control_plane() or stamp_file("certs all").exists():
        return False
    file = Path(path)
    return not file.exists() or not file.stat().st_size


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


def cannot_sign(phase: str) -> str:
    """Say why ``phase`` cannot make again what it would have to sign; "" when it can."""
    pair = _pair(Path(KUBERNETES_DIR) / "pki", "ca")
    if phase != "certs all" or all(map(_is_whole, pair)):
        return ""
    return f"{pair[1]} is not there: without it no certificate can be signed"


def unsigned_names(phase: str) -> str:
    """Say which names the API server's certificate lacks where ``phase`` cannot sign another; "" when none.

    kubeadm only asks whether the authority has signed it, and keeps it: what the site had signed may be for the names
    of before. A certificate that is not there is told by kubeadm.
    Source: kubeadm 1.36, phases/certs, UsingExternalCA; pkiutil, GetAPIServerAltNames.
    """
    why, file = cannot_sign(phase), Path(KUBERNETES_DIR) / "pki" / "apiserver.crt"
    if not why or not _is_whole(file):
        return ""
    try:
        signed = __salt__["caisson_installer.load"]("installer.config.x509").names(file)
    except ValueError as error:
        return str(error)
    lacking = [name for name in api_server_names(__pillar__["caisson"]) if not _is_signed(name, signed)]
    return f"{file} is not signed for {', '.join(lacking)}; {why}" if lacking else ""


def api_server_names(caisson: dict[str, Any]) -> list[str]:
    """Return the names and addresses that kubeadm has the API server's certificate signed for. Pure."""
    init, cluster, *_ = configuration(caisson)
    services = ipaddress.ip_network(cluster["networking"]["serviceSubnet"])
    own = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    where = [init["nodeRegistration"]["name"], init["localAPIEndpoint"]["advertiseAddress"], str(services[1])]
    given = cluster.get("apiServer", {}).get("certSANs", [])
    return [*own, *where, caisson["cluster"]["endpoint"], *given]


def _is_signed(name: str, signed: frozenset[str]) -> bool:
    """Tell whether a certificate for the names ``signed`` is good for one of them; an asterisk is for one label."""
    try:
        return str(ipaddress.ip_address(name)) in signed
    except ValueError:
        known = {entry.lower() for entry in signed}
        return name.lower() in known or f"*.{name.lower().partition('.')[2]}" in known


def lacks_objects(phase: str) -> str:
    """Say which objects of an addon are not in the cluster, "" when all are. Raises RuntimeError.

    One question for all addons: what the first phase has heard serves the next one, once.
    """
    if phase not in ADDONS:
        return ""
    seen = __context__.pop(ADDONS_SEEN, None)
    if seen is None:
        wanted = [name for names in ADDONS.values() for name in names]
        words = ("--namespace", "kube-system", "get", *wanted, "--ignore-not-found", "--output", "name")
        seen = __salt__["caisson_kubernetes.kubectl"](*words).split()
        __context__[ADDONS_SEEN] = seen
    return ", ".join(name for name in ADDONS[phase] if name not in seen)


def static_pods(phase: str) -> dict[str, dict[str, str]]:
    """Return for each static pod that ``phase`` writes what its manifest says, and which pod the kubelet runs.

    None as long as the API server has not been there: nobody could say whether they are Ready. A static pod's uid is
    the kubelet's hash of its manifest with the defaults of the API.
    Source: kubernetes 1.36, pkg/kubelet/config/common.go, applyDefaults.
    """
    if not stamp_file("control-plane all").exists():
        return {}
    names = STATIC_PODS.get(phase, ())
    return {name: {"manifest": _digest(_manifest(name)), "uid": _running_uid(name)} for name in names}


def unsettled(before: dict[str, dict[str, str]]) -> list[str]:
    """Return which static pods are not yet those that their manifests describe, and Ready; and why.

    ``before``: what ``static_pods`` said before the manifests were written.
    """
    return [
        f"{name}: {fault}"
        for name, was in sorted(before.items())
        for fault in [_pod_fault(name, was)]
        if fault
    ]


def _pod_fault(name: str, was: dict[str, str]) -> str:
    node = __pillar__["caisson"]["node"]["name"]
    words = ("--namespace", "kube-system", "get", "pod", f"{name}-{node}", "--output", "json")
    try:
        pod = json.loads(__salt__["caisson_kubernetes.kubectl"](*words))
    except (RuntimeError, ValueError) as error:
        return str(error)
    is_changed = was["manifest"] != _digest(_manifest(name))
    is_same_pod = pod["metadata"].get("annotations", {}).get(HASH_ANNOTATION) == was["uid"]
    if was["uid"] and is_changed == is_same_pod and not _is_taken(name, pod):
        return "the pod of before is still there"
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
    return "" if conditions.get("Ready") == "True" else "not Ready yet"


def _is_taken(name: str, pod: dict[str, Any]) -> bool:
    """Tell whether a pod is that of its manifest although its uid does not say so.

    A default that is written out, or taken out, changes the manifest and not the uid. A pod that came late, after a
    run that failed, changes the uid and not the manifest. What is taken out and is no default shows in lists, else
    only in time.
    """
    file = Path(MANIFESTS_DIR) / f"{name}.yaml"
    try:
        age_s = abs(time.time() - file.stat().st_mtime)
    except OSError:
        return False
    return age_s > KUBELET_LOOKS_S and holds(_told(pod), _told(_manifest(name)))


def _told(pod: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of its pod: labels and annotations belong to it as its spec does."""
    metadata = pod.get("metadata") or {}
    return {**{key: metadata.get(key) for key in ("labels", "annotations")}, "spec": pod.get("spec")}


def holds(found: Any, wanted: Any) -> bool:
    """Tell whether what the API says of a pod has each field of a manifest. Pure.

    The API adds fields and leaves out empty ones; to lists it adds nothing, but for tolerations.

    >>> holds({"a": {"b": 1, "c": 2}, "l": ["x"]}, {"a": {"b": 1, "d": {}}, "l": ["x"]})
    True
    >>> holds({"l": ["x", "y"]}, {"l": ["x"]}), holds({"l": ["x"]}, {"l": ["y"]}), holds({}, {"a": 1})
    (False, False, False)
    """
    if wanted is None:
        return True
    if isinstance(wanted, dict):
        there = found or {}
        return isinstance(there, dict) and all(
            all(entry in (there.get(key) or []) for entry in value or [])
            if key == "tolerations"
            else holds(there.get(key), value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        there = found or []
        return isinstance(there, list) and len(there) == len(wanted) and all(map(holds, there, wanted))
    return bool(found == wanted or not (found or wanted))


def _manifest(name: str) -> dict[str, Any]:
    """Return what a manifest says, nothing when there is none."""
    try:
        data = yaml.safe_load((Path(MANIFESTS_DIR) / f"{name}.yaml").read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def _digest(manifest: dict[str, Any]) -> str:
    """Return the digest of what a manifest says, "" when there is none."""
    if not manifest:
        return ""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode()).hexdigest()


def _running_uid(name: str) -> str:
    """Return the uid of the static pod that runs, as the runtime knows it: the API server may be what is changed."""
    node = __pillar__["caisson"]["node"]["name"]
    named = ("--namespace", "^kube-system$", "--name", f"^{re.escape(name)}-{re.escape(node)}$")
    command = ["crictl", "pods", "--state", "ready", "--latest", *named, "--output", "json"]
    listed = __salt__["cmd.run_all"](command, python_shell=False, timeout=30)
    try:
        return str(json.loads(listed["stdout"])["items"][0]["metadata"]["uid"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


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
