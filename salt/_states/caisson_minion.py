# SPDX-License-Identifier: Apache-2.0
"""State: the minion has a key pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def key_made(name: str, pki_dir: str) -> dict[str, Any]:
    """Make sure that ``minion.pem`` and ``minion.pub`` are in ``pki_dir``."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_minion.has_key"](pki_dir):
            return {}, "the minion has its key pair"
        return {pki_dir: "minion key pair made"}, "would make the minion's key pair"

    def act() -> str:
        __salt__["caisson_minion.make_key"](pki_dir)
        return "made the minion's key pair"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
