# SPDX-License-Identifier: Apache-2.0
"""State: firewalld lets through what the port table names, and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def fit(name: str, pod_interfaces: list[str]) -> dict[str, Any]:
    """Make sure, before a file of its is written, that firewalld will load the zone of pods.

    An interface in two permanent zones is a fault for which firewalld drops all of the site's configuration.
    """

    def look() -> tuple[dict[str, Any], str]:
        if not __salt__["caisson_firewall.is_active"]():
            return {}, "firewalld does not run"
        taken = __salt__["caisson_firewall.foreign_zones"](pod_interfaces)
        if taken:
            words = "{0} is bound to the zone {1}: firewall-cmd --permanent --zone={1} --remove-interface={0}"
            raise RuntimeError("\n".join(words.format(pods, zone) for pods, zone in sorted(taken.items())))
        return {}, "no other zone has the interfaces of pods"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look)
    return said


def loaded(
    name: str, openings: list[dict[str, Any]], pod_interfaces: list[str], service_cidr: str
) -> dict[str, Any]:
    """Make sure that the running firewall holds what the files say.

    ``openings`` are those of ``caisson_firewall.openings``. A host without a running firewalld is left alone.
    """

    def is_loaded() -> bool:
        return bool(__salt__["caisson_firewall.is_loaded"](openings, pod_interfaces, service_cidr))

    def look() -> tuple[dict[str, Any], str]:
        if not __salt__["caisson_firewall.is_active"]():
            return {}, "firewalld does not run: nothing to open"
        if is_loaded():
            return {}, "firewalld holds the port table"
        return {"firewalld": "reloaded"}, "would reload firewalld"

    def act() -> str:
        __salt__["caisson_firewall.command"]("--reload")
        if not is_loaded():
            raise RuntimeError(
                "firewalld was reloaded and does not hold what caisson-nodes.xml and caisson-services.xml in "
                "/etc/firewalld/policies and zones/caisson-pods.xml say: see 'journalctl -u firewalld'"
            )
        return "firewalld was reloaded"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
