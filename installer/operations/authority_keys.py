# SPDX-License-Identifier: Apache-2.0
"""Send the keys that all control planes share to the one that joins: over SSH, into its memory, and away at the end."""

from __future__ import annotations

from installer.base.errors import HostError
from installer.engine import remotefiles
from installer.engine.context import Context
from installer.engine.remotefiles import RemoteFile
from installer.operations.joining import Joining

PKI_DIR = "/etc/kubernetes/pki"
FILES = (
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "sa.pub",
    "sa.key",
)
JOIN_DIR = "/run/caisson-join"
"""In memory, root's alone. As the states have it: ``caisson_member``."""
FRESH_FILE = f"{JOIN_DIR}/fresh-etcd"
"""Where it is there, that host is no member of etcd: what it has of one is of a member that was removed."""
FORGET_UNIT = "caisson-join-forget"
FORGET_AFTER = "30min"
"""Should this host be lost in the middle of a join, the other one removes what came for it."""
TIMEOUT_S = 60.0


def expire(node: Joining) -> None:
    """Let the other host remove what comes for the join by itself, half an hour from now.

    Raises:
        CommandError, ReachError: nobody can say whether it will.
    """
    _stop_timer(node)
    timer = ["systemd-run", "--quiet", f"--on-active={FORGET_AFTER}", f"--unit={FORGET_UNIT}"]
    node.host.run([*timer, "rm", "-rf", JOIN_DIR], timeout_s=TIMEOUT_S)


def send(context: Context, node: Joining) -> None:
    """Write the keys into the memory of the other host, each 0600.

    What a run that was killed has said of its member of etcd is taken back: it may be one by now.

    Raises:
        HostError: one is not on this host.
        CommandError, ReachError: they did not arrive.
    """
    place = context.paths.at(PKI_DIR)
    absent = [name for name in FILES if not (place / name).is_file()]
    if absent:
        raise HostError(
            f"{node.name} cannot become a control plane: not on this host: {', '.join(absent)}",
            details=f"looked in {place}; every control plane signs with them",
            resolution="put each there for this run; where the site keeps them elsewhere, take them away again after",
        )
    sent = [RemoteFile(f"{JOIN_DIR}/pki/{name}", (place / name).read_bytes(), 0o600) for name in FILES]
    node.host.run(["rm", "-f", FRESH_FILE], timeout_s=TIMEOUT_S)
    remotefiles.put(node.host, sent, is_secret=True)


def forget(node: Joining) -> None:
    """Remove what came for the join, keys and token, from the memory of the other host.

    Raises:
        CommandError, ReachError: nobody can say whether it is gone; the host removes it in half an hour.
    """
    node.host.run(["rm", "-rf", JOIN_DIR], timeout_s=TIMEOUT_S)
    _stop_timer(node)


def _stop_timer(node: Joining) -> None:
    node.host.run(["systemctl", "stop", f"{FORGET_UNIT}.timer"], timeout_s=TIMEOUT_S, check=False)
