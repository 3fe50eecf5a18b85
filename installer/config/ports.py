# SPDX-License-Identifier: Apache-2.0
"""The port table of the media: what a node of each role listens on, where, and who may connect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from installer.base.errors import MediaError

PORTS_FILE = "salt/parameters/ports.yaml"
BOOTSTRAP_ROLE = "bootstrap"


@dataclass(frozen=True)
class Port:
    """One line of the port table. ``roles``: the nodes that listen there."""

    name: str
    port: int
    protocol: str
    bind: str
    component: str
    roles: tuple[str, ...] = (BOOTSTRAP_ROLE,)


def read_ports(file: Path) -> tuple[Port, ...]:
    """Read the port table.

    Raises:
        MediaError: it is missing or of another shape.
    """
    try:
        table: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        return tuple(
            Port(
                str(row["name"]),
                int(row["port"]),
                str(row["protocol"]),
                str(row["bind"]),
                str(row["component"]),
                tuple(map(str, row["roles"])),
            )
            for row in table["ports"]
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as exc:
        raise MediaError(
            f"the port table {file} cannot be read",
            details=f"{type(exc).__name__}: {exc}",
            resolution="the media is damaged: copy the ISO again and compare its checksum",
        ) from exc


def of_role(ports: Iterable[Port], role: str) -> tuple[Port, ...]:
    """Return the ports on which a node of this role listens."""
    return tuple(port for port in ports if role in port.roles)
