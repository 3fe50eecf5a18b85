# SPDX-License-Identifier: Apache-2.0
"""State: a node has the control plane's virtual address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

HELD_TIMEOUT_S = 60


def held(name: str, address: str, port: int, peers: list[str]) -> dict[str, Any]:
    """Wait until this node has the address, or one of its ``peers`` answers there."""

    def probe() -> str:
        return str(__salt__["caisson_vip.fault"](address, port, peers))

    said: dict[str, Any] = __salt__["caisson_result.wait"](name, probe, HELD_TIMEOUT_S, test=__opts__["test"])
    return said
