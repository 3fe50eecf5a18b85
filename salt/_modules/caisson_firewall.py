# SPDX-License-Identifier: Apache-2.0
"""firewalld: which rich rules the port table asks for, and what the permanent and the running firewall hold.

Ports are opened by rich rules in the zone that the plane's interface is already in, each with its source CIDR: the
site's own zones and services stay as they are. Pods have a zone of their own, bound to interfaces, never to the pod
CIDR as a source (a neighbour could claim that address); that zone and the policy of service addresses are files.
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


def service_rule(cidr: str) -> str:
    """Return the rich rule that keeps packets for service addresses on the host, as the policy's file has it.

    kube-proxy rewrites such a packet before this rule sees it; until kube-proxy has started (after a boot, say) the
    packet would follow the default route out of the site.
    """
    return f'rule family="ipv{ipaddress.ip_network(cidr).version}" destination address="{cidr}" drop'


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
    """Return the zone of ``interface``; without one, the default zone."""
    return _asked(f"--get-zone-of-interface={interface}") or command("--get-default-zone")


def permanent_rules(zone: str) -> list[str]:
    """Return the permanent rich rules of ``zone``."""
    return command("--permanent", f"--zone={zone}", "--list-rich-rules").splitlines()


def is_loaded(rules: dict[str, list[str]], pod_interfaces: list[str], service_cidr: str) -> bool:
    """Tell whether the running firewall holds the rules of each zone, the zone of pods and the policy of services.

    It may hold less than the permanent one: a bootstrap that was killed before its reload leaves it so.
    """
    return (
        sorted(_asked(f"--zone={POD_ZONE}", "--list-interfaces").split()) == sorted(pod_interfaces)
        and _asked(f"--policy={SERVICE_POLICY}", "--list-rich-rules") == service_rule(service_cidr)
        and all(
            set(wanted) <= set(_asked(f"--zone={zone}", "--list-rich-rules").splitlines())
            for zone, wanted in rules.items()
        )
    )


def _asked(*arguments: str) -> str:
    """Return what ``firewall-cmd`` answers; nothing where it knows nothing of that name."""
    result = __salt__["cmd.run_all"](
        ["firewall-cmd", *arguments], python_shell=False, timeout=60, ignore_retcode=True
    )
    return str(result["stdout"]).strip() if result["retcode"] == 0 else ""
