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
    try:
        taken = (
            __salt__["caisson_firewall.foreign_zones"](pod_interfaces)
            if __salt__["caisson_firewall.is_active"]()
            else {}
        )
    except RuntimeError as error:
        return {**_result(name, {}, str(error)), "result": False}
    if not taken:
        return _result(name, {}, "no other zone has the interfaces of pods")
    words = [
        f"{pods} is bound to the zone {zone}: firewall-cmd --permanent --zone={zone} --remove-interface={pods}"
        for pods, zone in sorted(taken.items())
    ]
    return {**_result(name, {}, "\n".join(words)), "result": False}


def loaded(
    name: str, openings: list[dict[str, Any]], pod_interfaces: list[str], service_cidr: str
) -> dict[str, Any]:
    """Make sure that the running firewall holds what the files say.

    ``openings`` are those of ``caisson_firewall.openings``. A host without a running firewalld is left alone.
    """
    try:
        if not __salt__["caisson_firewall.is_active"]():
            return _result(name, {}, "firewalld does not run: nothing to open")
        if __salt__["caisson_firewall.is_loaded"](openings, pod_interfaces, service_cidr):
            return _result(name, {}, "firewalld holds the port table")
        changes = {"firewalld": "reloaded"}
        if __opts__["test"]:
            return {**_result(name, changes, "would reload firewalld"), "result": None}
        __salt__["caisson_firewall.command"]("--reload")
        is_loaded = __salt__["caisson_firewall.is_loaded"](openings, pod_interfaces, service_cidr)
    except RuntimeError as error:
        return {**_result(name, {}, str(error)), "result": False}
    if not is_loaded:
        words = (
            "firewalld was reloaded and does not hold what caisson-nodes.xml and caisson-services.xml in "
            "/etc/firewalld/policies and zones/caisson-pods.xml say: see 'journalctl -u firewalld'"
        )
        return {**_result(name, changes, words), "result": False}
    return _result(name, changes, "firewalld was reloaded")


def _result(name: str, changes: dict[str, str], comment: str) -> dict[str, Any]:
    return {"name": name, "result": True, "changes": changes, "comment": comment}
