# SPDX-License-Identifier: Apache-2.0
"""Compare a control plane that Caisson did not make with the configuration: of the same cluster, or of another origin.

Nothing is remembered and no API server is asked, since it may be down: kubeadm's own files say whose control plane it
is. Source: kubeadm 1.36, phases/controlplane/manifests.go, phases/etcd/local.go, phases/kubeconfig/kubeconfig.go.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from installer.base.errors import PreflightError
from installer.base.paths import Paths
from installer.config import changes
from installer.config.bootstrap import Config
from installer.config.facts import Facts

MANIFESTS_DIR = "/etc/kubernetes/manifests"
LIVING_FILES = (f"{MANIFESTS_DIR}/kube-apiserver.yaml", f"{MANIFESTS_DIR}/etcd.yaml")
"""One of these is there: this host has a control plane."""
JOIN_STAMP = "/var/lib/caisson/kubeadm/join-preflight.json"
"""As the state has it: ``caisson_member``."""
ADMIN_FILE = "/etc/kubernetes/admin.conf"
AUTHORITY_FILE = "/etc/kubernetes/pki/ca.crt"
KUBELET_FILE = "/var/lib/kubelet/config.yaml"
NETWORKS_DIR = "/etc/cni/net.d"
NETWORK_SUFFIXES = (".conf", ".conflist", ".json")
"""What a runtime reads there. Source: containerd, go-cni, opts.go."""
OWN_NETWORK = "10-calico.conflist"
API_PORT = 6443
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
UNKNOWN = "unknown"


def is_living(root: Path) -> bool:
    """Tell whether this host has a control plane, whoever made it."""
    return any((root / file.lstrip("/")).exists() for file in LIVING_FILES)


def is_of_others(root: Path) -> bool:
    """Tell whether there is a control plane that no phase of Caisson has made, or of which it has no record.

    The first stamp is on the disk before there is a manifest.
    """
    return is_living(root) and not (root / changes.FIRST_STAMP.lstrip("/")).exists()


def has_joined(root: Path) -> bool:
    """Tell whether a phase of Caisson has let this host join as a further control plane.

    The first stamp is on the disk before there is a manifest; kubeadm's preflight refuses a host that has one.
    """
    return (root / JOIN_STAMP.lstrip("/")).exists()


def found(root: Path) -> dict[str, str]:
    """Return what kubeadm's files say of the cluster; what they do not say is ``unknown``."""
    server, manager, etcd = (
        _flags(root, component) for component in ("kube-apiserver", "kube-controller-manager", "etcd")
    )
    kubelet = _document(root, KUBELET_FILE)
    return {
        "cluster name": manager.get("--cluster-name", UNKNOWN),
        "endpoint": _endpoint(root),
        "pod CIDR": _network(manager.get("--cluster-cidr", UNKNOWN)),
        "service CIDR": _network(server.get("--service-cluster-ip-range", UNKNOWN)),
        "node name": etcd.get("--name", UNKNOWN),
        "address": server.get("--advertise-address", UNKNOWN),
        "port of the API server": server.get("--secure-port", str(API_PORT)) if server else UNKNOWN,
        "version of Kubernetes": _tag(server.get("image", "")),
        "authority that admin.conf trusts": _trusted(root),
        "authority": _digest(_text(root, AUTHORITY_FILE)),
        "kubelet's cgroupDriver": str(kubelet.get("cgroupDriver", UNKNOWN)),
        "kubelet's staticPodPath": str(kubelet.get("staticPodPath", UNKNOWN)),
        "pod network": ", ".join(_foreign_networks(root)) or OWN_NETWORK,
    }


def wanted(values: Mapping[str, Any], kubernetes: str, authority: str, here: str) -> dict[str, str]:
    """Return what a control plane of the configured cluster says; ``values`` as in ``changes.values``. Pure.

    ``authority``: the digest of the site's own certificate, empty when it brings none; ``here``: that of the host.
    """
    kubelet, networks = values["overrides"]["kubelet"], values["networks"]
    return {
        "cluster name": str(values["cluster"]["name"]),
        "endpoint": f"https://{values['cluster']['endpoint']}:{API_PORT}",
        "pod CIDR": _network(networks["pods"]),
        "service CIDR": _network(networks["services"]),
        "node name": str(values["node"]["name"]),
        "address": str(values["node"]["control_plane_address"]),
        "port of the API server": str(API_PORT),
        "version of Kubernetes": f"v{kubernetes}",
        "authority that admin.conf trusts": here,
        "authority": authority or here,
        "kubelet's cgroupDriver": str(kubelet.get("cgroupDriver", "systemd")),
        "kubelet's staticPodPath": str(kubelet.get("staticPodPath", MANIFESTS_DIR)),
        "pod network": OWN_NETWORK,
    }


def differences(root: Path, values: Mapping[str, Any], kubernetes: str) -> list[str]:
    """Return why the control plane of this host is not one of the configured cluster; empty when it is."""
    here = found(root)
    given = values["authorities"]["cluster"]
    authority = _digest(_text(root, given["certificate_file"])) if given else ""
    there = wanted(values, kubernetes, authority, here["authority"])
    lines = [
        f"{key}: {here[key]} on this host, {there[key]} wanted" for key in here if here[key] != there[key]
    ]
    return lines + ([f"authority: {AUTHORITY_FILE} cannot be read"] if here["authority"] == UNKNOWN else [])


def check(paths: Paths, config: Config, facts: Facts, kubernetes: str) -> None:
    """Refuse a control plane of another origin, before anything is touched.

    Raises:
        PreflightError: there is one; ``details`` has each difference.
    """
    if not is_of_others(paths.root):
        return
    lines = differences(paths.root, changes.values(config, facts), kubernetes)
    if lines:
        raise PreflightError(
            "this host has a control plane of another origin",
            details="\n".join([*lines, "nothing was changed"]),
            resolution="use a fresh host, or remove that control plane with its own tool ('kubeadm reset', reboot); "
            f"if it is the cluster that is meant, correct {config.file}",
        )


def _text(root: Path, absolute: str) -> str:
    try:
        return (root / absolute.lstrip("/")).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _document(root: Path, absolute: str) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(_text(root, absolute))
    except (yaml.YAMLError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _flags(root: Path, component: str) -> dict[str, str]:
    """Return the flags of a static pod, and its image; of a flag that is given twice the last one counts."""
    try:
        container = _document(root, f"{MANIFESTS_DIR}/{component}.yaml")["spec"]["containers"][0]
        words = [str(word) for word in (*container.get("command", ()), *container.get("args", ()))]
        pairs = [word.partition("=") for word in words if word.startswith("--")]
        return {**{name: value for name, _, value in pairs}, "image": str(container["image"])}
    except (KeyError, IndexError, TypeError, AttributeError):
        return {}


def _tag(image: str) -> str:
    """Return the tag of an image, which may be pinned by its digest as well.

    >>> _tag("registry.example:5555/kube-apiserver:v1.36.4@sha256:ab"), _tag("registry.example:5555/kube-apiserver")
    ('v1.36.4', 'unknown')
    """
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] or UNKNOWN


def _cluster(root: Path) -> Mapping[str, Any]:
    """Return the cluster of admin.conf that its current context is about; without one, the only cluster."""
    document = _document(root, ADMIN_FILE)
    clusters = _named(document, "clusters", "cluster")
    current = document.get("current-context")
    if current:
        context = _named(document, "contexts", "context").get(str(current), {})
        return clusters.get(str(context.get("cluster")), {})
    return next(iter(clusters.values())) if len(clusters) == 1 else {}


def _named(document: Mapping[str, Any], key: str, inner: str) -> dict[str, Mapping[str, Any]]:
    """Return one of a kubeconfig's lists by the names of its entries; of two with one name the first counts."""
    entries = document.get(key)
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get(inner), dict):
            found.setdefault(str(entry.get("name")), entry[inner])
    return found


def _endpoint(root: Path) -> str:
    return str(_cluster(root).get("server", UNKNOWN))


def _trusted(root: Path) -> str:
    """Return the authority that admin.conf holds, or whose file it names, from its own directory if relative."""
    cluster = _cluster(root)
    if not cluster.get("certificate-authority-data"):
        file = str(cluster.get("certificate-authority") or "")
        return _digest(_text(root, str(Path(ADMIN_FILE).parent / file)) if file else "")
    try:
        return _digest(base64.b64decode(str(cluster["certificate-authority-data"])).decode())
    except ValueError:
        return UNKNOWN


def _digest(text: str) -> str:
    """Return the fingerprint of the first certificate in a text, as it is known: whatever stands around it."""
    match = CERTIFICATE.search(text)
    if match is None:
        return UNKNOWN
    try:
        return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(match[0])).hexdigest()
    except ValueError:
        return UNKNOWN


def _network(text: str) -> str:
    """Return networks in one spelling.

    >>> _network("10.96.0.1/12"), _network("10.0.0.0/8,fd00::/108"), _network("unknown")
    ('10.96.0.0/12', '10.0.0.0/8,fd00::/108', 'unknown')
    """
    try:
        return ",".join(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(","))
    except ValueError:
        return text


def _foreign_networks(root: Path) -> Sequence[str]:
    """Return the files of pod networks that Caisson does not bring: it would add a second one."""
    files = sorted((root / NETWORKS_DIR.lstrip("/")).glob("*"))
    read = [file for file in files if file.suffix in NETWORK_SUFFIXES and file.name != OWN_NETWORK]
    return [file.name for file in read if not _is_loopback(file)]


def _is_loopback(file: Path) -> bool:
    """Tell whether a file brings the loopback interface and nothing else. Source: CNI specification 1.1, section 1."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        plugins = data.get("plugins", [data])
        return bool(plugins) and all(plugin["type"] == "loopback" for plugin in plugins)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
