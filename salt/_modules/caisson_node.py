# SPDX-License-Identifier: Apache-2.0
"""Say how this further node is, and whether it is still fit to be one; change nothing. The bus asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __pillar__: dict[str, Any] = {}


def look() -> dict[str, Any]:
    """Return what this node says of itself: its services, disks, certificates, the names of the cluster."""
    paths = __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
    tree_dir = __salt__["caisson_installer.tree_dir"]()
    said: dict[str, Any] = __salt__["caisson_installer.call"](
        "installer.operations.own_state", "look", paths, tree_dir=tree_dir
    )
    return said


def check(request: str) -> dict[str, Any]:
    """Return what the preflights find on this node, by its name and role in the pillar.

    ``request`` is JSON: the question of ``caisson node check``, without name and role.
    """
    node = __pillar__["caisson"]["node"]
    asked = {**json.loads(request), "name": node["name"], "role": node["role"]}
    found = __salt__["caisson_installer.call"]("installer.checks.agent", "look", asked)
    return {"report": found["report"]}
