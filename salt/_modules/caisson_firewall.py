# SPDX-License-Identifier: Apache-2.0
"""firewalld: what the port table opens, and whether the running firewall holds it.

Everything is files: a policy of what may reach a node, each port with its source CIDR; a zone of pods, bound to
interfaces, never to the pod CIDR as a source (a neighbour could claim that address); a policy of service addresses. A
policy adds to the site's own zones and services, which stay as they are; replaced as a whole, it also closes.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

POD_ZONE = "caisson-pods"
SERVICE_POLICY = "caisson-services"
NODE_POLICY = "caisson-nodes"
# What the files in salt/firewall/files say, in the words of firewall-cmd.
POD_ZONE_FACTS = {"target": "ACCEPT"}
SERVICE_POLICY_FACTS = {"target": "CONTINUE", "ingress-zones": "HOST", "egress-zones": "ANY"}
NODE_POLICY_FACTS = {"target": "CONTINUE", "ingress-zones": "ANY", "egress-zones": "HOST"}
# Source: firewalld 1.3, errors.py: it runs, with a configuration of last resort, because the site's is faulty.
RUNNING_BUT_FAILED = 251


def openings(ports: list[dict[str, Any]], planes: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Return what the policy of nodes opens: family, CIDR, port and protocol; ``planes``: plane -> CIDRs. Pure.

    An opening that two planes ask for is there once.
    """
    found = {
        (cidr, entry["port"], entry["protocol"]): {
            "family": f"ipv{ipaddress.ip_network(cidr, strict=False).version}",
            "cidr": cidr,
            "port": entry["port"],
            "protocol": entry["protocol"],
        }
        for entry in ports
        for cidr in planes.get(entry["source"], [])
    }
    return [found[key] for key in sorted(found, key=str)]


def rich_rule(opening: dict[str, Any]) -> str:
    """Return an opening in the words in which ``firewall-cmd`` shows it."""
    return (
        f'rule family="{opening["family"]}" source address="{opening["cidr"]}" '
        f'port port="{opening["port"]}" protocol="{opening["protocol"]}" accept'
    )


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


def foreign_zones(interfaces: list[str]) -> dict[str, str]:
    """Return interface -> permanent zone for those that are bound to another zone than that of pods."""
    zones = {
        interface: _asked("--permanent", f"--get-zone-of-interface={interface}") for interface in interfaces
    }
    return {interface: zone for interface, zone in zones.items() if zone not in ("", "no zone", POD_ZONE)}


def is_loaded(opened: list[dict[str, Any]], pod_interfaces: list[str], service_cidr: str) -> bool:
    """Tell whether the running firewall holds what the files say: no opening less, and none more.

    It may hold another: a bootstrap that was killed before its reload leaves it so.
    """
    zone = facts(_asked(f"--info-zone={POD_ZONE}"))
    services = facts(_asked(f"--info-policy={SERVICE_POLICY}"))
    nodes = facts(_asked(f"--info-policy={NODE_POLICY}"))
    return (
        sorted(zone.get("interfaces", "").split()) == sorted(pod_interfaces)
        and zone.items() >= POD_ZONE_FACTS.items()
        and services.items() >= SERVICE_POLICY_FACTS.items()
        and services.get("rich rules") == service_rule(service_cidr)
        and nodes.items() >= NODE_POLICY_FACTS.items()
        and sorted(nodes.get("rich rules", "").splitlines()) == sorted(map(rich_rule, opened))
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
