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
WORKER_ROLE = "worker"
OF_PEOPLE = ("registry-push", "console")
"""Ports that no node connects to."""
CONTROL_PLANES = "control_planes"
"""The source of a port that a control plane opens to the others alone, each by its address."""


@dataclass(frozen=True)
class Port:
    """One line of the port table.

    ``roles``: the nodes that listen there; ``source``: who may connect; ``bind_with_vip``: where the
    listener is bound when the control plane has a virtual address, empty where that changes nothing.
    """

    name: str
    port: int
    protocol: str
    bind: str
    component: str
    roles: tuple[str, ...] = (BOOTSTRAP_ROLE,)
    source: str = "local"
    bind_with_vip: str = ""


def read_ports(file: Path) -> tuple[Port, ...]:
    """Read the port table.

    Raises:
        MediaError: it is missing or of another shape.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(str(file), exc) from exc
    return parse_ports(text, origin=str(file))


def parse_ports(text: str, *, origin: str = PORTS_FILE) -> tuple[Port, ...]:
    """Parse the text of the port table.

    Raises:
        MediaError: it is of another shape.
    """
    try:
        table: Any = yaml.safe_load(text)
        return tuple(
            Port(
                str(row["name"]),
                int(row["port"]),
                str(row["protocol"]),
                str(row["bind"]),
                str(row["component"]),
                tuple(map(str, row["roles"])),
                str(row["source"]),
                str(row.get("bind_with_vip", "")),
            )
            for row in table["ports"]
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as exc:
        raise _unreadable(origin, exc) from exc


def _unreadable(origin: str, exc: Exception) -> MediaError:
    return MediaError(
        f"the port table {origin} cannot be read",
        details=f"{type(exc).__name__}: {exc}",
        resolution="the media is damaged: copy the ISO again and compare its checksum",
    )


def of_role(ports: Iterable[Port], role: str) -> tuple[Port, ...]:
    """Return the ports on which a node of this role listens."""
    return tuple(port for port in ports if role in port.roles)


def needed(ports: Iterable[Port], source_role: str, target_role: str) -> tuple[Port, ...]:
    """Return the ports of one node that another has to reach, by their roles. Pure.

    Only control planes talk to etcd and to kubelets; images are pushed, and the console is opened, by people.
    """
    is_control_plane = source_role != WORKER_ROLE
    return tuple(
        port
        for port in of_role(ports, target_role)
        if port.source != "local"
        and port.name not in OF_PEOPLE
        and (is_control_plane or port.component not in ("etcd", "kubelet"))
    )
