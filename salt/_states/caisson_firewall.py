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


def opened(
    name: str,
    ports: list[dict[str, Any]],
    planes: dict[str, dict[str, Any]],
    pod_interfaces: list[str],
    service_cidr: str,
) -> dict[str, Any]:
    """Make sure that the permanent and the running firewall hold the rules of ``ports``; load what the files define.

    ``planes``: plane -> ``{"interface": .., "cidrs": [..]}``. A host without a running firewalld is left alone.
    """
    try:
        if not __salt__["caisson_firewall.is_active"]():
            return _result(name, {}, "firewalld does not run: nothing to open")
        wanted = _rules(ports, planes)
        held = {zone: __salt__["caisson_firewall.permanent_rules"](zone) for zone in wanted}
        missing = {zone: [rule for rule in rules if rule not in held[zone]] for zone, rules in wanted.items()}
        changes = {f"zone {zone}: {rule}": "added" for zone, rules in missing.items() for rule in rules}
        if not changes and __salt__["caisson_firewall.is_loaded"](wanted, pod_interfaces, service_cidr):
            return _result(name, {}, "firewalld holds the port table")
        changes["firewalld"] = "reloaded"
        if __opts__["test"]:
            return {**_result(name, changes, "would change firewalld"), "result": None}
        for zone, rules in missing.items():
            if rules:
                added = [f"--add-rich-rule={rule}" for rule in rules]
                __salt__["caisson_firewall.command"]("--permanent", f"--zone={zone}", *added)
        __salt__["caisson_firewall.command"]("--reload")
    except RuntimeError as error:
        return {**_result(name, {}, str(error)), "result": False}
    return _result(name, changes, "firewalld changed and reloaded")


def _rules(ports: list[dict[str, Any]], planes: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return zone -> the rich rules that the planes in it ask for."""
    wanted: dict[str, list[str]] = {}
    for plane, where in sorted(planes.items()):
        zone = __salt__["caisson_firewall.zone_of"](where["interface"])
        rules = __salt__["caisson_firewall.rich_rules"](ports, plane, where["cidrs"])
        wanted.setdefault(zone, []).extend(rules)
    return wanted


def _result(name: str, changes: dict[str, str], comment: str) -> dict[str, Any]:
    return {"name": name, "result": True, "changes": changes, "comment": comment}
