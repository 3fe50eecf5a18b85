# SPDX-License-Identifier: Apache-2.0
"""Carry what the phases of one node's addition share: the other host, what was found there, what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from installer.base.errors import InstallerError
from installer.config.facts import Facts
from installer.config.nodes import NodeEntry
from installer.engine.context import Context
from installer.engine.ssh import Connection
from installer.operations.probe import Material, Probe


@dataclass
class Joining:
    """One host on its way to be a node. ``found`` is what a look at all hosts together has found, if there was one.

    ``facts``, ``caisson`` (its pillar), ``public_key`` (its minion's) and ``earlier`` (its pillar of before) are what
    earlier phases of this run leave for later ones: each run begins at the first phase, for each only looks where all
    is as it should be.
    """

    entry: NodeEntry
    connected: Connection | InstallerError
    material: Material
    found: Probe | None = None
    facts: Facts | None = None
    caisson: dict[str, Any] = field(default_factory=dict)
    public_key: str = ""
    must_restart_minion: bool = False
    earlier: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> Connection:
        """The connection.

        Raises:
            InstallerError: why there is none.
        """
        if isinstance(self.connected, InstallerError):
            raise self.connected
        return self.connected

    @property
    def name(self) -> str:
        """The name of the node, once it was looked at."""
        return str(self.caisson["node"]["name"])

    @property
    def known_name(self) -> str:
        """The name of the node as far as it is known; empty when nobody gave one and the host was not looked at."""
        return str(self.caisson["node"]["name"]) if self.caisson else self.entry.name

    @property
    def address(self) -> str:
        """The address of the node in the control plane's network, once it was looked at."""
        return str(self.caisson["node"]["control_plane_address"])


@dataclass(frozen=True)
class NodeContext(Context):
    """What the phases of an addition work with: the bootstrap node's context, and the other host."""

    joining: Joining | None = None


def of(context: Context) -> Joining:
    """Return the other host of a context. Raises ValueError where the operation has none."""
    joining = context.joining if isinstance(context, NodeContext) else None
    if joining is None:
        raise ValueError("this phase is about another host, and the operation has none")
    return joining
