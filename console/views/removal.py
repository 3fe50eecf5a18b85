# SPDX-License-Identifier: Apache-2.0
"""Know what was typed to take a node out of the cluster, and what is wrong with it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from console.views.hosts import USER, Faults

KEPT = ("address", "user", "port", "dead", "force")
"""What an address of the page may carry: neither a secret nor the name that confirms."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was typed; ``confirm`` is the node's name once more, ``dead`` and ``force`` are "1" or empty."""

    name: str
    confirm: str = ""
    address: str = ""
    user: str = ""
    port: str = ""
    dead: str = ""
    force: str = ""

    def to_query(self) -> str:
        """Return what may be kept as part of an address of a page: so nothing is lost by a log-in."""
        return urlencode({key: getattr(self, key) for key in KEPT if getattr(self, key)})

    def parameters(self) -> dict[str, Any]:
        """Return it as the door takes a node that leaves; what was left empty the door knows better."""
        found: dict[str, Any] = {"name": self.name, "dead": self.dead == "1", "force": self.force == "1"}
        found |= {key: value for key in ("address", "user") if (value := getattr(self, key))}
        return {**found, "port": int(self.port)} if self.port else found


def removal_of(name: str, values: Mapping[str, str]) -> Removal:
    """Return what was typed about a node."""
    return Removal(name=name, **{key: values[key].strip() for key in ("confirm", *KEPT) if key in values})


def check(removal: Removal) -> Faults:
    """Return all that is wrong with what was typed."""
    faults = {}
    if removal.confirm != removal.name:
        faults["confirm"] = f"Type the name of the node, {removal.name}: nothing was done yet."
    if removal.address:
        try:
            ipaddress.IPv4Address(removal.address)
        except ValueError:
            faults["address"] = "This is no IPv4 address. Leave it empty for the one that is known."
    if removal.user and (not USER.fullmatch(removal.user) or len(removal.user) > 64):
        faults["user"] = "A user's name has letters, digits and _ . @ - and does not begin with a dash."
    port = removal.port
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        faults["port"] = "A port is a number from 1 to 65535."
    return Faults(faults)
