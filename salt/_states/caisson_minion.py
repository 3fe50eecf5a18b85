# SPDX-License-Identifier: Apache-2.0
"""State: the minion has a key pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def key_made(name: str, pki_dir: str) -> dict[str, Any]:
    """Make sure that ``minion.pem`` and ``minion.pub`` are in ``pki_dir``."""
    if __salt__["caisson_minion.has_key"](pki_dir):
        return {"name": name, "result": True, "changes": {}, "comment": "the minion has its key pair"}
    changes = {pki_dir: "minion key pair made"}
    if __opts__["test"]:
        return {
            "name": name,
            "result": None,
            "changes": changes,
            "comment": "would make the minion's key pair",
        }
    __salt__["caisson_minion.make_key"](pki_dir)
    return {"name": name, "result": True, "changes": changes, "comment": "made the minion's key pair"}
