# SPDX-License-Identifier: Apache-2.0
"""A further control plane joins: kubeadm's phases, each noted when it has come to its end, and the authorities' keys.

The keys came over SSH into memory. Neither an argument nor the pillar nor what is returned here holds one.

etcd joins before the API server is placed: an API server that finds no etcd ends, and is started again later and later.
Source: kubeadm 1.36, cmd/join.go, which places it first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

log = logging.getLogger(__name__)

JOIN_FILE = "/etc/caisson/kubeadm/join.yaml"
DISCOVERY_FILE = "/run/caisson-join/discovery.conf"
KEYS_DIR = "/run/caisson-join/pki"
KUBERNETES_DIR = "/etc/kubernetes"
STAMPS_DIR = "/var/lib/caisson/kubeadm"
FRESH_FILE = "/run/caisson-join/fresh-etcd"
"""Where it is there, this host is no member of etcd, and what it has of it is of one that was removed."""
ETCD_DIR = "/var/lib/etcd"
KEYS = {
    "ca.crt": 0o644,
    "ca.key": 0o600,
    "front-proxy-ca.crt": 0o644,
    "front-proxy-ca.key": 0o600,
    "etcd/ca.crt": 0o644,
    "etcd/ca.key": 0o600,
    "sa.pub": 0o600,
    "sa.key": 0o600,
}
"""What all control planes share, with the modes that kubeadm gives. Source: kubeadm 1.36, pkiutil, WriteKey."""
CERTIFICATES, KUBECONFIGS = "control-plane-prepare certs", "control-plane-prepare kubeconfig"
KUBELET, ETCD = "kubelet-start", "etcd-join"
PLACED, MARKED = "control-plane-prepare control-plane", "control-plane-join mark-control-plane"
PHASES = ("preflight", CERTIFICATES, KUBECONFIGS, KUBELET, ETCD, PLACED, MARKED)
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
CONFS = ("admin.conf", "controller-manager.conf", "scheduler.conf")
KUBELET_FILE, BOOTSTRAP_FILE = "kubelet.conf", "bootstrap-kubelet.conf"
CLIENT_CERTIFICATE_FILE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
"""A kubelet writes kubelet.conf when it starts, naming this file, which is there once its API server has signed it.

That of a control plane asks its own, which is placed two phases later: until then the other file has to hold a token.
Source: kubernetes 1.36, pkg/kubelet/certificate/bootstrap, LoadClientConfig; kubeadm, cmd/phases/join/kubelet.go.
"""
PRODUCES: dict[str, tuple[str, ...]] = {
    CERTIFICATES: ("pki/apiserver.crt", "pki/etcd/peer.crt", "pki/sa.key"),
    KUBECONFIGS: CONFS,
    ETCD: ("manifests/etcd.yaml",),
    PLACED: tuple(f"manifests/{name}.yaml" for name in CONTROL_PLANE),
}
"""Without the authorities' keys, which are given: a site may take them away afterwards.

The driver sends keys where one of these files is not there, or a note: ``node_add`` has them too.
"""


def pending() -> list[str]:
    """Return the phases that have not come to their end for this cluster, and all after the first of them.

    But for the kubelet's where it has its certificate: kubeadm refuses to start another while its Node is Ready.
    Source: kubeadm 1.36, cmd/phases/join/kubelet.go.
    """
    complete = [phase for phase in PHASES if _is_complete(phase)]
    first = next((place for place, phase in enumerate(PHASES) if phase not in complete), len(PHASES))
    return [phase for phase in PHASES[first:] if phase != KUBELET or phase not in complete]


def _is_complete(phase: str) -> bool:
    try:
        noted = json.loads(_stamp_file(phase).read_text())
    except (OSError, ValueError):
        return False
    if (phase == KUBELET and not _has_identity()) or (phase == ETCD and Path(FRESH_FILE).exists()):
        return False
    files = [Path(KUBERNETES_DIR) / name for name in PRODUCES.get(phase, ())]
    return bool(noted == _stamp()) and all(map(_is_there, files))


def _has_identity() -> bool:
    return _is_there(Path(KUBERNETES_DIR) / KUBELET_FILE) and _is_there(Path(CLIENT_CERTIFICATE_FILE))


def _is_there(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _stamp() -> dict[str, str]:
    return {"cluster": __pillar__["caisson"]["cluster"]["ca_sha256"]}


def _stamp_file(phase: str) -> Path:
    return Path(STAMPS_DIR) / f"join-{phase.replace(' ', '-')}.json"


def place_keys() -> None:
    """Copy the authorities' keys from memory to where kubeadm looks for them. Raises RuntimeError."""
    source, target = Path(KEYS_DIR), Path(KUBERNETES_DIR) / "pki"
    absent = [name for name in KEYS if not (source / name).is_file()]
    if absent or not Path(DISCOVERY_FILE).is_file():
        raise RuntimeError(
            f"in {source.parent} is not what a control plane joins with: run the same 'caisson node add' again, "
            "it sends that another time"
        )
    authority = hashlib.sha256((source / "ca.crt").read_bytes()).hexdigest()
    if authority != __pillar__["caisson"]["cluster"]["ca_sha256"]:
        raise RuntimeError(f"{source}/ca.crt is not of this cluster: run the same 'caisson node add' again")
    for name, mode in KEYS.items():
        _write(target / name, (source / name).read_bytes(), mode)


def _write(file: Path, content: bytes, mode: int) -> None:
    __salt__["caisson_installer.call"]("installer.base.files", "write_file", file, content, mode=mode)


def complete(phase: str) -> None:
    """Run one phase of ``kubeadm join``, after what a run of it that was cut off has left. Raises RuntimeError."""
    _make_way(phase)
    log.info("caisson waits: kubeadm join phase %s", phase)
    command = ["kubeadm", "join", "phase", *phase.split(), "--config", JOIN_FILE]
    outcome = __salt__["cmd.run_all"](command, python_shell=False, timeout=300)
    if outcome["retcode"] != 0:
        lines = (outcome["stdout"] + "\n" + outcome["stderr"]).strip().splitlines()[-20:]
        raise RuntimeError(f"{' '.join(command)} exited with {outcome['retcode']}:\n" + "\n".join(lines))
    os.sync()  # a stamp is on the disk after everything that it speaks for
    _write(_stamp_file(phase), (json.dumps(_stamp()) + "\n").encode(), 0o600)


def _make_way(phase: str) -> None:
    """Remove what kubeadm would refuse, or take although it is a half: it writes the key before the certificate."""
    root = Path(KUBERNETES_DIR)
    made: list[Path] = []
    if phase == CERTIFICATES:
        made = [Path(file) for file in __salt__["caisson_kubeadm.certificate_files"]()]
        made = [file for file in made if str(file.relative_to(root / "pki")) not in KEYS]
    elif phase == KUBECONFIGS:
        made = [root / name for name in CONFS]
    elif phase == KUBELET and _is_there(Path(CLIENT_CERTIFICATE_FILE)):
        _systemctl("stop")
        made = [root / KUBELET_FILE]
    elif phase == ETCD:
        if Path(FRESH_FILE).exists():
            _forget_etcd()
        _systemctl("start")  # kubeadm waits for the pod, and starts no kubelet that has its certificate
    for file in made:
        file.unlink(missing_ok=True)


def _forget_etcd() -> None:
    """Remove the data of a member that was removed: etcd does not start with it.

    The kubelet is away meanwhile, or it would start the pod once more. First go the notes of this phase and of those
    after it, for the Node has gone too; last the word that this host is no member: from then on it may be one, and a
    run that was cut off goes on with its data. Raises RuntimeError, OSError.
    """
    manifest, data_dir = Path(KUBERNETES_DIR) / "manifests/etcd.yaml", Path(ETCD_DIR) / "member"
    for phase in PHASES[PHASES.index(ETCD) :]:
        _stamp_file(phase).unlink(missing_ok=True)
    if manifest.exists() or data_dir.exists():
        _systemctl("stop")
        manifest.unlink(missing_ok=True)
        __salt__["caisson_kubeadm.restart_container"]("etcd")
        if data_dir.exists():
            shutil.rmtree(data_dir)
    os.sync()
    Path(FRESH_FILE).unlink(missing_ok=True)


def _systemctl(verb: str) -> None:
    __salt__["cmd.run_all"](["systemctl", verb, "kubelet.service"], python_shell=False, timeout=120)


def awaited(phase: str) -> str:
    """Return what has to be before a phase, "" when it is: the node is marked once its own API server knows it."""
    if phase != MARKED:
        return ""
    address, ca_file = __pillar__["caisson"]["node"]["control_plane_address"], f"{KUBERNETES_DIR}/pki/ca.crt"
    for path in ("livez", "readyz"):
        fault: str = __salt__["caisson_wait.probe_url"](f"https://{address}:6443/{path}", ca_file)
        if fault:
            return fault
    joined: str = __salt__["caisson_join.has_joined"]()
    return joined


def forget_secrets() -> bool:
    """Remove what only the join needs, from memory and the token; return whether it was there."""
    place = Path(DISCOVERY_FILE).parent
    found = place.exists()
    shutil.rmtree(place, ignore_errors=True)
    return _forget_token() or found


def _forget_token() -> bool:
    """Remove the file with the token; of a kubelet that has no certificate only the token.

    With neither it ends when it starts, and the pods of its directory stay away: etcd, which may have a vote already.
    With a file that names nobody it starts, and is refused its certificate until another token comes.
    Source: kubernetes 1.36, pkg/kubelet/certificate/bootstrap, LoadClientConfig; tried with its kubelet.
    """
    file = Path(KUBERNETES_DIR) / BOOTSTRAP_FILE
    if not file.exists():
        return False
    before = file.read_bytes()
    after = b"" if _has_identity() else _without_token(before)
    if after:
        _write(file, after, 0o600)
    else:
        file.unlink()
    return before != after


def _without_token(text: bytes) -> bytes:
    """Return a kubeconfig whose users have no credentials; nothing when it is none. Pure."""
    try:
        said = yaml.safe_load(text)
        for entry in said["users"]:
            entry["user"] = {}
    except (yaml.YAMLError, LookupError, TypeError):
        return b""
    return (json.dumps(said) + "\n").encode()
