# SPDX-License-Identifier: Apache-2.0
"""Carry what the phases of one node's removal share: who leaves, how, and the connection to its host."""

from __future__ import annotations

from dataclasses import dataclass

from installer.base.errors import InstallerError, ReachError
from installer.config.nodes import NodeEntry
from installer.engine.context import Context
from installer.engine.ssh import Connection

DRAIN_TIMEOUT_S = 300


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
            again = f"{self.connected.resolution}\nif the host is gone: give --dead".strip()
            raise type(self.connected)(
                self.connected.message, details=self.connected.details, resolution=again
            )
        if self.connected is None:
            raise ReachError(f"{self.title} was not connected to", resolution="report this")
        return self.connected


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
