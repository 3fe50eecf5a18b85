# SPDX-License-Identifier: Apache-2.0
"""Carry what the phases of one node's removal share: who leaves, how, and the connection to its host."""

from __future__ import annotations

from dataclasses import dataclass

from installer.base.errors import HostError, InstallerError, ReachError
from installer.config import changes
from installer.config.nodes import NodeEntry
from installer.engine import sshfaults
from installer.engine.context import Context
from installer.engine.ssh import Connection

DRAIN_TIMEOUT_S = 300
ASK_LIMIT_S = 30.0
PILLAR_FILE = "/etc/caisson/pillar/caisson.sls"
"""What a host was told last, and what it is, on that host."""
IF_OFF = "where the host is switched off, and only then (its pods are started elsewhere): give --dead"


@dataclass(frozen=True)
class Leaving:
    """One node on its way out. ``is_dead``: its host is gone, and nobody asks it anything."""

    entry: NodeEntry
    connected: Connection | InstallerError | None = None
    is_dead: bool = False
    is_forced: bool = False
    drain_timeout_s: int = DRAIN_TIMEOUT_S

    @property
    def name(self) -> str:
        """The name of the node."""
        return self.entry.name

    @property
    def title(self) -> str:
        """What people call it."""
        return self.entry.title

    @property
    def host(self) -> Connection:
        """The connection.

        Raises:
            InstallerError: why there is none.
        """
        if isinstance(self.connected, InstallerError):
            raise _with_way_out(self.connected)
        if self.connected is None:
            raise ReachError(f"{self.title} was not connected to", resolution="report this")
        return self.connected


def _with_way_out(error: InstallerError) -> InstallerError:
    """Return why there is no connection, with what to do where the host is off. One that answered is not off."""
    if not isinstance(error, ReachError) or sshfaults.REFUSED.search(error.details):
        return error
    return ReachError(
        error.message, details=error.details, resolution=f"{error.resolution}\n{IF_OFF}".strip()
    )


def refuse_other_host(host: Connection, name: str) -> None:
    """Refuse a host that says it is another node: by then its address is all that speaks for it.

    The address comes from the Node, which its kubelet writes: who broke into a node could name another host there,
    and have that reset in its place.

    Raises:
        HostError: it is another node.
        InstallerError: it could not be asked.
    """
    words = ["/bin/sh", "-c", 'if test -e "$1"; then cat "$1"; fi', "sh", PILLAR_FILE]
    caisson = changes.read_pillar_text(host.run(words, timeout_s=ASK_LIMIT_S).stdout) or {}
    told = str((caisson.get("node") or {}).get("name") or name)
    if told != name:
        raise HostError(
            f"the host at {host.entry.address} is {told}, not {name}: it is left alone",
            details=f"its {PILLAR_FILE} says so",
            resolution=f"find the host of {name} and give its address with --address; where it never comes "
            "back: --dead",
        )


@dataclass(frozen=True)
class LeavingContext(Context):
    """What the phases of a removal work with: the bootstrap node's context, and who leaves."""

    leaving: Leaving | None = None


def of(context: Context) -> Leaving:
    """Return who leaves. Raises ValueError where the operation is about nobody."""
    leaving = context.leaving if isinstance(context, LeavingContext) else None
    if leaving is None:
        raise ValueError("this phase is about a node that leaves, and the operation has none")
    return leaving
