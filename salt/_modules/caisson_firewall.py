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
# What the files in salt/firewall/files say, in the words of firewall-cmd.
POD_ZONE_FACTS = {"target": "ACCEPT"}
SERVICE_POLICY_FACTS = {"target": "CONTINUE", "ingress-zones": "HOST", "egress-zones": "ANY"}
# Source: firewalld 1.3, errors.py: it runs, with a configuration of last resort, because the site's is faulty.
RUNNING_BUT_FAILED = 251


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
    """Tell whether firewalld runs. Raises RuntimeError when it runs, but not with the site's configuration."""
    if not __salt__["cmd.has_exec"]("firewall-cmd"):
        return False
    code = __salt__["cmd.retcode"](["firewall-cmd", "--state"], python_shell=False, ignore_retcode=True)
    if code == RUNNING_BUT_FAILED:
        raise RuntimeError(
            "firewalld could not load its configuration and runs with its fallback: "
            "'firewall-cmd --check-config' says why; mend that, restart it, then run the bootstrap again"
        )
    return bool(code == 0)


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


def foreign_zones(interfaces: list[str]) -> dict[str, str]:
    """Return interface -> permanent zone for those that are bound to another zone than that of pods."""
    zones = {
        interface: _asked("--permanent", f"--get-zone-of-interface={interface}") for interface in interfaces
    }
    return {interface: zone for interface, zone in zones.items() if zone not in ("", "no zone", POD_ZONE)}


def permanent_rules(zone: str) -> list[str]:
    """Return the permanent rich rules of ``zone``."""
    return command("--permanent", f"--zone={zone}", "--list-rich-rules").splitlines()


def is_loaded(rules: dict[str, list[str]], pod_interfaces: list[str], service_cidr: str) -> bool:
    """Tell whether the running firewall holds the rules of each zone, the zone of pods and the policy of services.

    It may hold less than the permanent one: a bootstrap that was killed before its reload leaves it so.
    """
    zone = facts(_asked(f"--info-zone={POD_ZONE}"))
    policy = facts(_asked(f"--info-policy={SERVICE_POLICY}"))
    return (
        sorted(zone.get("interfaces", "").split()) == sorted(pod_interfaces)
        and zone.items() >= POD_ZONE_FACTS.items()
        and policy.items() >= SERVICE_POLICY_FACTS.items()
        and policy.get("rich rules") == service_rule(service_cidr)
        and all(
            set(wanted) <= set(_asked(f"--zone={zone}", "--list-rich-rules").splitlines())
            for zone, wanted in rules.items()
        )
    )


def facts(text: str) -> dict[str, str]:
    r"""Return what ``firewall-cmd --info-...`` prints, key to value; rules stand on lines of their own after theirs.

    >>> facts("pods (active)\n  target: ACCEPT\n  sources: \n  rich rules: \n\trule drop\n")
    {'target': 'ACCEPT', 'sources': '', 'rich rules': 'rule drop'}
    """
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("\t"):
            found[last] = f"{found.get(last, '')}\n{line.strip()}".strip()
        elif line.startswith("  "):
            last, _, value = line.strip().partition(":")
            found[last] = value.strip()
    return found


def _asked(*arguments: str) -> str:
    """Return what ``firewall-cmd`` answers; nothing where it knows nothing of that name."""
    result = __salt__["cmd.run_all"](
        ["firewall-cmd", *arguments], python_shell=False, timeout=60, ignore_retcode=True
    )
    return str(result["stdout"]).strip() if result["retcode"] == 0 else ""
