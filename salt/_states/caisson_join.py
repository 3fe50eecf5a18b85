# SPDX-License-Identifier: Apache-2.0
"""States: this host is a node of the cluster, or a control plane of it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

JOINED_TIMEOUT_S = 120
MEMBER_TIMEOUT_S = 240
"""For the API server of the node itself to answer; on a calm host it takes a quarter of a minute."""


def joined(name: str, *, is_control_plane: bool = False) -> dict[str, Any]:
    """Make sure that this host is a node of the cluster; what came for the join is gone from memory afterwards."""
    return _control_plane_joined(name) if is_control_plane else _worker_joined(name)


def _worker_joined(name: str) -> dict[str, Any]:

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


def _control_plane_joined(name: str) -> dict[str, Any]:
    pending: list[str] = []

    def look() -> tuple[dict[str, Any], str]:
        pending[:] = __salt__["caisson_member.pending"]()
        if pending:
            return {
                phase: {"old": "", "new": "complete"} for phase in pending
            }, "would join as a control plane"
        if not __opts__["test"]:
            __salt__["caisson_member.forget_secrets"]()
        return {}, "this host is a control plane of the cluster"

    def act() -> str:
        try:
            __salt__["caisson_member.place_keys"]()
            for phase in pending:
                until = partial(__salt__["caisson_member.awaited"], phase)
                __salt__["caisson_result.until"](until, MEMBER_TIMEOUT_S)
                __salt__["caisson_member.complete"](phase)
        finally:  # whoever tries again sends them again
            __salt__["caisson_member.forget_secrets"]()
        return "joined the cluster as a control plane"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
