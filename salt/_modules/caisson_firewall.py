# SPDX-License-Identifier: Apache-2.0
"""firewalld: which zones, interfaces and rich rules the port table asks for, and how to read and write them.

Ports are opened by rich rules in the zone that the plane's interface is already in, each with its source CIDR: the
site's own zones and services stay as they are. Pods have a zone of their own, bound to interfaces, never to the pod
CIDR as a source (a neighbour could claim that address).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

POD_ZONE = "caisson-pods"
SERVICE_POLICY = "caisson-services"


def rich_rules(ports: list[dict[str, Any]], plane: str, cidrs: list[str]) -> list[str]:
    """Return the rich rules that let ``cidrs`` reach the ports whose source is ``plane``, in firewalld's own form."""
    rules = []
    for entry in ports:
        if entry["source"] != plane:
            continue
        for cidr in cidrs:
            family = f"ipv{ipaddress.ip_network(cidr, strict=False).version}"
            rules.append(
                f'rule family="{family}" source address="{cidr}" '
                f'port port="{entry["port"]}" protocol="{entry["protocol"]}" accept'
            )
    return sorted(rules)


def is_active() -> bool:
    """Tell whether firewalld runs."""
    return bool(
        __salt__["cmd.retcode"](["firewall-cmd", "--state"], python_shell=False, ignore_retcode=True) == 0
    )


def command(*arguments: str) -> str:
    """Run ``firewall-cmd``; return its output. Raises RuntimeError with its words."""
    result = __salt__["cmd.run_all"](["firewall-cmd", *arguments], python_shell=False, timeout=60)
    if result["retcode"] != 0:
        words = result["stderr"] or result["stdout"]
        raise RuntimeError(f"firewall-cmd {' '.join(arguments)}: {words.strip()[-500:]}")
    return str(result["stdout"]).strip()


def zone_of(interface: str) -> str:
    """Return the permanent zone of ``interface``; without one, the default zone."""
    result = __salt__["cmd.run_all"](
        ["firewall-cmd", f"--get-zone-of-interface={interface}"],
        python_shell=False,
        timeout=60,
        ignore_retcode=True,
    )
    zone = result["stdout"].strip()
    return zone if result["retcode"] == 0 and zone and zone != "no zone" else command("--get-default-zone")


def pod_zone() -> dict[str, Any]:
    """Return ``{"target": .., "interfaces": [..]}`` of the permanent pod zone; target "" when it does not exist."""
    if POD_ZONE not in command("--permanent", "--get-zones").split():
        return {"target": "", "interfaces": []}
    return {
        "target": command("--permanent", f"--zone={POD_ZONE}", "--get-target"),
        "interfaces": sorted(command("--permanent", f"--zone={POD_ZONE}", "--list-interfaces").split()),
    }


def permanent_rules(zone: str) -> list[str]:
    """Return the permanent rich rules of ``zone``."""
    return command("--permanent", f"--zone={zone}", "--list-rich-rules").splitlines()


def service_rules(cidr: str) -> list[str]:
    """Return the rich rules that keep packets for service addresses from leaving the host.

    kube-proxy rewrites such a packet before this rule sees it; until kube-proxy has started (after a boot, say) the
    packet would follow the default route out of the site. Dropped, not rejected: the caller then tries again for a
    while, where a refusal would make it exit and wait for the kubelet's back-off.
    """
    family = f"ipv{ipaddress.ip_network(cidr).version}"
    return [f'rule family="{family}" destination address="{cidr}" drop']


def service_policy() -> dict[str, Any]:
    """Return ``{"exists": bool, "ingress": [..], "egress": [..], "rules": [..]}`` of the permanent policy."""
    if SERVICE_POLICY not in command("--permanent", "--get-policies").split():
        return {"exists": False, "ingress": [], "egress": [], "rules": []}
    policy = f"--policy={SERVICE_POLICY}"
    return {
        "exists": True,
        "ingress": command("--permanent", policy, "--list-ingress-zones").split(),
        "egress": command("--permanent", policy, "--list-egress-zones").split(),
        "rules": command("--permanent", policy, "--list-rich-rules").splitlines(),
    }
