# SPDX-License-Identifier: Apache-2.0
"""State: firewalld lets through what the port table names, and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

POD_ZONE = "caisson-pods"
SERVICE_POLICY = "caisson-services"


def opened(
    name: str,
    ports: list[dict[str, Any]],
    planes: dict[str, dict[str, Any]],
    pod_interfaces: list[str],
    service_cidr: str,
) -> dict[str, Any]:
    """Make sure that the permanent and the running firewall hold the pod zone and the rules of ``ports``.

    ``planes``: plane -> ``{"interface": .., "cidrs": [..]}``. A host without a running firewalld is left alone.
    """
    if not __salt__["cmd.has_exec"]("firewall-cmd") or not __salt__["caisson_firewall.is_active"]():
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": "firewalld does not run: nothing to open",
        }
    try:
        commands, changes = _plan(ports, planes, pod_interfaces, service_cidr)
        if not commands:
            return {"name": name, "result": True, "changes": {}, "comment": "firewalld holds the port table"}
        if __opts__["test"]:
            return {"name": name, "result": None, "changes": changes, "comment": "would change firewalld"}
        for arguments in commands:
            __salt__["caisson_firewall.command"]("--permanent", *arguments)
        __salt__["caisson_firewall.command"]("--reload")
    except RuntimeError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    return {"name": name, "result": True, "changes": changes, "comment": "firewalld changed and reloaded"}


def _plan(
    ports: list[dict[str, Any]],
    planes: dict[str, dict[str, Any]],
    pod_interfaces: list[str],
    service_cidr: str,
) -> tuple[list[list[str]], dict[str, str]]:
    """Return the firewall-cmd argument lists that are still needed, and the changes they make."""
    commands: list[list[str]] = []
    changes: dict[str, str] = {}
    zone = __salt__["caisson_firewall.pod_zone"]()
    if not zone["target"]:
        commands.append([f"--new-zone={POD_ZONE}"])
        changes[f"zone {POD_ZONE}"] = "created"
    if zone["target"] != "ACCEPT":
        commands.append([f"--zone={POD_ZONE}", "--set-target=ACCEPT"])
        changes[f"zone {POD_ZONE} target"] = "ACCEPT"
    missing = [interface for interface in pod_interfaces if interface not in zone["interfaces"]]
    if missing:
        commands.append([f"--zone={POD_ZONE}", *(f"--add-interface={interface}" for interface in missing)])
        changes.update({f"zone {POD_ZONE} interface {interface}": "added" for interface in missing})
    policy = __salt__["caisson_firewall.service_policy"]()
    wanted = __salt__["caisson_firewall.service_rules"](service_cidr)
    if (policy["ingress"], policy["egress"], policy["rules"]) != (["HOST"], ["ANY"], wanted):
        # firewall-cmd takes one kind of option at a time.
        arguments = [] if policy["ingress"] else ["--add-ingress-zone=HOST"]
        arguments += [] if policy["egress"] else ["--add-egress-zone=ANY"]
        arguments += [f"--remove-rich-rule={rule}" for rule in policy["rules"] if rule not in wanted]
        arguments += [f"--add-rich-rule={rule}" for rule in wanted if rule not in policy["rules"]]
        commands += [] if policy["exists"] else [[f"--new-policy={SERVICE_POLICY}"]]
        commands += [[f"--policy={SERVICE_POLICY}", argument] for argument in arguments]
        changes[f"policy {SERVICE_POLICY}"] = f"drops what would leave for {service_cidr}"
    for plane, where in sorted(planes.items()):
        target = __salt__["caisson_firewall.zone_of"](where["interface"])
        held = __salt__["caisson_firewall.permanent_rules"](target)
        wanted = __salt__["caisson_firewall.rich_rules"](ports, plane, where["cidrs"])
        rules = [rule for rule in wanted if rule not in held]
        if rules:
            commands.append([f"--zone={target}", *(f"--add-rich-rule={rule}" for rule in rules)])
            changes.update({f"zone {target}: {rule}": "added" for rule in rules})
    return commands, changes
