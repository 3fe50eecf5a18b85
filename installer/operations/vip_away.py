# SPDX-License-Identifier: Apache-2.0
"""Send the control plane's virtual address away from this node for planned work, and let it come again.

keepalived looks at a file: one that says 1 makes this node unfit for the address, at once. The file is in memory: after
a boot a node is fit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from installer.base import files
from installer.base.errors import ClusterError, HostError, UsageError
from installer.base.paths import Paths
from installer.config import changes
from installer.operations import containers, vip_state
from installer.operations.endpoints import Endpoint, ask

AWAY_FILE = "/run/caisson-vip/away"
CLUSTER_CA_FILE = "/etc/kubernetes/pki/ca.crt"
AWAY, FIT = "1\n", "0\n"
MOVE_LIMIT_S = 15.0
POLL_S = 0.1


def send_away(paths: Paths, port: int, *, say: Callable[[str], None]) -> bool:
    """Make this node unfit for the address, and wait until another has it; return whether it had to move.

    Raises:
        UsageError: the cluster has no virtual address.
        HostError: this node is none that could have it.
        ClusterError: no other control plane is ready to take it, or none took it in time.
    """
    known = _known(paths)
    address, own = str(known["networks"]["vip"]), str(known["node"]["name"])
    fit = [name for name, place in _others(known).items() if _is_ready(paths, place, port)]
    if not fit:
        others = ", ".join(_others(known)) or "there is none"
        raise ClusterError(
            f"no other control plane can take the virtual address {address}",
            details=f"others: {others}; none of them is ready",
            resolution="wait until another control plane is ready ('caisson status' there), or leave the address here: "
            "work on this node then interrupts the API",
        )
    was_here = vip_state.is_here(address)
    write(paths, AWAY)
    ends_at = time.monotonic() + MOVE_LIMIT_S
    while time.monotonic() < ends_at:
        if not vip_state.is_here(address) and vip_state.certificate(address, port):
            return was_here
        say(f"{address} to be taken by {' or '.join(fit)}")
        time.sleep(POLL_S)
    write(paths, FIT)
    raise ClusterError(
        f"no other control plane took the virtual address {address} within {MOVE_LIMIT_S:g} s",
        details=f"{own} is fit for it again",
        resolution=f"see on each control plane: {containers.log('keepalived')}",
    )


def take_back(paths: Paths) -> bool:
    """Make this node fit for the address again; who has it keeps it. Return whether it was away.

    Raises:
        UsageError: the cluster has no virtual address.
        HostError: this node is none that could have it.
    """
    _known(paths)
    return write(paths, FIT)


def is_away(paths: Paths) -> bool:
    """Tell whether this node is unfit for the address because somebody sent it away."""
    try:
        return paths.at(AWAY_FILE).read_text(encoding="ascii").strip() not in ("", "0")
    except (OSError, UnicodeDecodeError):
        return False


def write(paths: Paths, text: str) -> bool:
    """Write what keepalived reads; return whether it said something else."""
    was_away, file = is_away(paths), paths.at(AWAY_FILE)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    files.write_file(file, text)
    return was_away != (text == AWAY)


def _known(paths: Paths) -> Mapping[str, Any]:
    """Return what Salt was given last, on a node that shares a virtual address.

    Raises:
        UsageError: the cluster has none.
        HostError: this node is none that could have it.
    """
    known = changes.recorded(paths) or {}
    if not known.get("networks", {}).get("vip"):
        raise UsageError(
            "this cluster has no virtual address",
            resolution="one is given by networks.controlPlane.vip in bootstrap.yaml and a run of the bootstrap",
        )
    if str(known["node"]["name"]) not in vip_state.control_planes(known):
        raise HostError(
            "this node is no control plane: the virtual address is never here",
            resolution="run it on the node that has the address: 'caisson status' names it",
        )
    return known


def _others(known: Mapping[str, Any]) -> dict[str, str]:
    own = str(known["node"]["name"])
    return {name: place for name, place in vip_state.control_planes(known).items() if name != own}


def _is_ready(paths: Paths, address: str, port: int) -> bool:
    url = f"https://{address}:{port}/readyz"
    return ask(Endpoint("API", url, (200,), "kube-apiserver"), Path(paths.at(CLUSTER_CA_FILE))).fault is None
