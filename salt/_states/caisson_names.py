# SPDX-License-Identifier: Apache-2.0
"""States: this host knows the cluster's names, and so do pods that have a copy of its /etc/hosts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

SETTLED_TIMEOUT_S = 30
"""For a container that the kubelet starts in that moment, with names of a moment before."""


def known(name: str) -> dict[str, Any]:
    """Make sure that /etc/hosts has the names of the pillar."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_names.are_known"]():
            return {}, "/etc/hosts has the names of the cluster"
        return {
            "/etc/hosts": "the names of the cluster"
        }, "would write the names of the cluster into /etc/hosts"

    def act() -> str:
        __salt__["caisson_names.put"]()
        return "/etc/hosts has the names of the cluster now"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def known_to_pods(name: str, app: str) -> dict[str, Any]:
    """Make sure that the pods of ``app`` on this host have the names.

    None is started again for it: the kubelet lets a container wait longer each time that it starts (10 s, 20 s, 40 s to
    five minutes), and a list of hosts makes for a start with every control plane.
    """

    def look() -> tuple[dict[str, Any], str]:
        found = __salt__["caisson_names.outdated"](app)
        return (
            {app: "the names of the cluster"} if found else {}
        ), f"{len(found)} pods of {app} have other names"

    def act() -> str:
        __salt__["caisson_names.put_into"](app)
        until = partial(__salt__["caisson_names.still_outdated"], app)
        __salt__["caisson_result.until"](until, SETTLED_TIMEOUT_S)
        return f"{app} has the names of the cluster now"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
