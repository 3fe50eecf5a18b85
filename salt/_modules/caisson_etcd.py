# SPDX-License-Identifier: Apache-2.0
"""Found the cluster's etcd once, before its static pod is placed: that pod then never founds one.

kubeadm's manifest of the first control plane founds a cluster wherever it finds no data. On a host whose disk was
replaced, or whose mount failed, that is a second and empty cluster, which looks healthy. So the pod says
``--initial-cluster-state=existing`` from its first start (patches), and without data it does not start. The data is
made here, by the same program with the same name and address, on loopback, and moved into place when it is whole.
Source: kubeadm 1.36, phases/etcd/local.go; etcd 3.6, server/etcdserver/bootstrap.go.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}

log = logging.getLogger(__name__)

DATA_DIR = "/var/lib/etcd"
PKI_DIR = "/etc/kubernetes/pki/etcd"
MANIFEST_FILE = "/etc/kubernetes/manifests/etcd.yaml"
UNFINISHED = ".founding"
CONTAINER = "caisson-etcd-founding"
CTR = ("ctr", "--namespace", "k8s.io")
LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60


def is_founded() -> bool:
    """Tell whether there is data of etcd on this host, or a pod that has had some: then nothing is founded."""
    if Path(MANIFEST_FILE).exists() or __salt__["caisson_kubeadm.is_left_alone"]():
        return True
    return any((Path(DATA_DIR) / "member" / "wal").glob("*.wal"))


def found() -> None:
    """Found it. Raises RuntimeError."""
    place = Path(DATA_DIR) / UNFINISHED
    _clear(place)
    Path(DATA_DIR).mkdir(parents=True, exist_ok=True, mode=0o700)
    place.mkdir(mode=0o700)
    port = _free_port()
    try:
        _run(
            [*CTR, "run", "--detach", "--net-host", *_mounts(place), _reference(), CONTAINER, *command(port)]
        )
        log.info("caisson waits: etcd to found its cluster")
        __salt__["caisson_result.until"](lambda: _fault(port), READY_TIMEOUT_S)
        _run([*CTR, "task", "kill", "--signal", "SIGTERM", CONTAINER])
        __salt__["caisson_result.until"](_still_runs, READY_TIMEOUT_S)
        os.sync()  # the name that counts is given to what is on the disk
        (place / "member").rename(Path(DATA_DIR) / "member")
    finally:
        _clear(place)


def command(port: int) -> list[str]:
    """Return the command of etcd: what a member is, as kubeadm says it, and loopback to listen on."""
    node = __pillar__["caisson"]["node"]
    name, address = node["name"], node["control_plane_address"]
    given = {
        "name": name,
        "data-dir": DATA_DIR,
        "initial-cluster": f"{name}=https://{address}:2380",
        "initial-advertise-peer-urls": f"https://{address}:2380",
        "advertise-client-urls": f"https://{address}:2379",
        "listen-client-urls": f"https://{LOOPBACK}:{port}",
        "listen-peer-urls": f"https://{LOOPBACK}:0",
        "cert-file": f"{PKI_DIR}/server.crt",
        "key-file": f"{PKI_DIR}/server.key",
        "trusted-ca-file": f"{PKI_DIR}/ca.crt",
        "client-cert-auth": "true",
        "peer-cert-file": f"{PKI_DIR}/peer.crt",
        "peer-key-file": f"{PKI_DIR}/peer.key",
        "peer-trusted-ca-file": f"{PKI_DIR}/ca.crt",
        "peer-client-cert-auth": "true",
    }
    return ["etcd", *(f"--{key}={value}" for key, value in given.items())]


def _mounts(place: Path) -> list[str]:
    return [
        "--mount",
        f"type=bind,src={PKI_DIR},dst={PKI_DIR},options=rbind:ro",
        "--mount",
        f"type=bind,src={place},dst={DATA_DIR},options=rbind:rw",
    ]


def _reference() -> str:
    return str(__pillar__["caisson"]["images"]["etcd"]["reference"])


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


def _fault(port: int) -> str:
    """Return "" once the member leads its cluster of one, else what is waited for."""
    state = __salt__["caisson_installer.load"]("installer.operations.etcd_state")
    paths = __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
    try:
        (status,) = state.call(paths, port, state.QUESTIONS[0])
    except state.FAULTS as error:
        return f"etcd to answer: {error}"
    return "" if int(status.get("leader", 0)) else "etcd to lead its cluster"


def _still_runs() -> str:
    listed = _run([*CTR, "task", "list"])
    states = [line.split()[2] for line in listed.splitlines() if line.startswith(f"{CONTAINER} ")]
    return "etcd to stop" if "RUNNING" in states else ""


def _clear(place: Path) -> None:
    """Remove what is left of a founding: its container, and data that is not whole."""
    for words in (["task", "kill", "--signal", "SIGKILL"], ["task", "rm", "--force"], ["container", "rm"]):
        __salt__["cmd.run_all"](
            [*CTR, *words, CONTAINER], python_shell=False, timeout=COMMAND_TIMEOUT_S, ignore_retcode=True
        )
    shutil.rmtree(place, ignore_errors=True)


def _run(words: list[str]) -> str:
    outcome = __salt__["cmd.run_all"](words, python_shell=False, timeout=COMMAND_TIMEOUT_S)
    if outcome["retcode"] != 0:
        said = (outcome["stderr"] or outcome["stdout"]).strip()[-1000:]
        raise RuntimeError(f"{' '.join(words[:5])} exited with {outcome['retcode']}: {said}")
    return str(outcome["stdout"])
