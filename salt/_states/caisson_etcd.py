# SPDX-License-Identifier: Apache-2.0
"""State: the cluster's etcd has been founded; its pod is not asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def founded(name: str) -> dict[str, Any]:
    """Make sure that there is data for the first member's pod to start with."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_etcd.is_founded"]():
            return {}, "etcd was founded"
        return {"etcd": "founded"}, "would found the cluster's etcd"

    def act() -> str:
        __salt__["caisson_etcd.found"]()
        return "etcd is founded"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
