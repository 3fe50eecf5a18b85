# SPDX-License-Identifier: Apache-2.0
"""State: this host is a node of the cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

JOINED_TIMEOUT_S = 120


def joined(name: str) -> dict[str, Any]:
    """Make sure that this host is a node of the cluster; what held the token is gone afterwards."""

    def look() -> tuple[dict[str, Any], str]:
        if not __salt__["caisson_join.is_joined"]():
            return {"node": "joined"}, "would join the cluster"
        if not __opts__["test"]:
            __salt__[
                "caisson_join.forget_token"
            ]()  # of a run that was cut off, or of one that had nothing to do
        return {}, "this host is a node of the cluster"

    def act() -> str:
        __salt__["caisson_join.join"]()
        __salt__["caisson_result.until"](__salt__["caisson_join.has_joined"], JOINED_TIMEOUT_S)
        os.sync()
        __salt__["caisson_join.forget_token"]()
        return "joined the cluster"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
