# SPDX-License-Identifier: Apache-2.0
"""A further node joins the cluster: kubeadm's phases, what a join that was cut off has left, where the token lies.

The token came over SSH into a file in memory. Neither an argument nor the pillar nor what is returned here holds it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

log = logging.getLogger(__name__)

JOIN_FILE = "/etc/caisson/kubeadm/join.yaml"
DISCOVERY_FILE = "/run/caisson-join/discovery.conf"
KUBERNETES_DIR = "/etc/kubernetes"
JOIN_PHASES = ("preflight", "kubelet-start")
# Those of a worker; what else kubeadm lists wants an admin.conf. Source: kubeadm 1.36, cmd/join.go.
JOINED_FILES = ("kubelet.conf", "pki/ca.crt")
CLIENT_CERTIFICATE_FILE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
CONFIG_FILE = "/var/lib/kubelet/config.yaml"
BOOTSTRAP_FILE = "bootstrap-kubelet.conf"


def is_joined() -> bool:
    """Tell whether this host is a node of the cluster in the pillar.

    It is once the cluster has given the kubelet a certificate, whatever came after; kubelet.conf alone says nothing.
    Raises RuntimeError when it is a node of another cluster.
    """
    root = Path(KUBERNETES_DIR)
    files = [*(root / name for name in JOINED_FILES), Path(CLIENT_CERTIFICATE_FILE), Path(CONFIG_FILE)]
    if not all(file.is_file() and file.stat().st_size for file in files):
        return False
    expected = __pillar__["caisson"]["cluster"]["ca_sha256"]
    if hashlib.sha256((root / "pki/ca.crt").read_bytes()).hexdigest() != expected:
        raise RuntimeError(
            f"this host is a node of another cluster: {root}/pki/ca.crt is not of this one; "
            "take it out of that cluster first"
        )
    return True


def remove_unfinished_join() -> list[str]:
    """Remove what a join that was cut off has left, which kubeadm would refuse; return the paths.

    Only on a host that is no node, and only what kubeadm itself makes there, by name.
    """
    root = Path(KUBERNETES_DIR)
    files = [root / BOOTSTRAP_FILE, *(root / name for name in JOINED_FILES)]
    removed = [file for file in files if file.exists()]
    if removed:  # it may run with the file of that join, and hold the port that kubeadm looks at
        __salt__["cmd.run_all"](["systemctl", "stop", "kubelet.service"], python_shell=False, timeout=120)
    for file in removed:
        file.unlink()
    return [str(file) for file in removed]


def join() -> None:
    """Join the cluster: kubeadm's phases, then wait until the kubelet has its certificate. Raises RuntimeError."""
    if not Path(DISCOVERY_FILE).is_file():
        raise RuntimeError(
            f"{DISCOVERY_FILE} is not there: run the same 'caisson node add' again, it sends another"
        )
    remove_unfinished_join()
    for phase in JOIN_PHASES:
        log.info("caisson waits: kubeadm join phase %s", phase)
        command = ["kubeadm", "join", "phase", phase, "--config", JOIN_FILE]
        outcome = __salt__["cmd.run_all"](command, python_shell=False, timeout=300)
        if outcome["retcode"] != 0:
            lines = (outcome["stdout"] + "\n" + outcome["stderr"]).strip().splitlines()[-20:]
            raise RuntimeError(f"{' '.join(command)} exited with {outcome['retcode']}:\n" + "\n".join(lines))


def has_joined() -> str:
    """Return "" once the cluster has taken this node, else what is waited for."""
    return "" if is_joined() else "the cluster to sign the kubelet's certificate"


def forget_token() -> bool:
    """Remove the files that hold the token of the join; return whether there was one."""
    files = [Path(DISCOVERY_FILE), Path(KUBERNETES_DIR) / BOOTSTRAP_FILE]
    found = any(file.exists() for file in files)
    # With its directory: a run that comes later and finds nothing to do leaves nothing of one that was killed.
    shutil.rmtree(files[0].parent, ignore_errors=True)
    files[1].unlink(missing_ok=True)
    return found
