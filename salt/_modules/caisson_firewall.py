# SPDX-License-Identifier: Apache-2.0
"""firewalld: what the port table opens, and whether the running firewall holds it.

Everything is files: a policy of what may reach a node, each port with its source CIDR; a zone of pods, bound to
interfaces, never to the pod CIDR as a source (a neighbour could claim that address); a policy of service addresses. A
policy adds to the site's own zones and services, which stay as they are; replaced as a whole, it also closes.

firewalld is asked over D-Bus by ``busctl``, which is part of systemd: 10 ms a question, where each ``firewall-cmd``
starts a Python for 0.3 s. Source: firewalld.dbus(5).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

POD_ZONE = "caisson-pods"
SERVICE_POLICY = "caisson-services"
NODE_POLICY = "caisson-nodes"
# What the files in salt/firewall/files say, in the words of firewalld's settings.
POD_ZONE_FACTS = {"target": "ACCEPT"}
SERVICE_POLICY_FACTS = {"target": "CONTINUE", "ingress_zones": ["HOST"], "egress_zones": ["ANY"]}
NODE_POLICY_FACTS = {
    "target": "CONTINUE",
    "priority": -100,
    "ingress_zones": ["ANY"],
    "egress_zones": ["HOST"],
}
BUS_NAME = "org.fedoraproject.FirewallD1"
BUS_PATH = "/org/fedoraproject/FirewallD1"
TIMEOUT_S = 60
VRRP = "vrrp"
"""A protocol of IP, without ports: number 112."""


def openings(
    ports: list[dict[str, Any]], planes: dict[str, list[str]], role: str, peers: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return what the policy of nodes opens: family, CIDR, port and protocol; ``planes``: source -> CIDRs. Pure.

    A node opens what its ``role`` listens on; an opening that two planes ask for is there once. ``peers`` are the
    addresses with which it shares a virtual one: VRRP is open to each of them, and to nobody else.
    """
    found = {
        (cidr, entry["port"], entry["protocol"]): {
            "family": f"ipv{ipaddress.ip_network(cidr, strict=False).version}",
            "cidr": cidr,
            "port": entry["port"],
            "protocol": entry["protocol"],
        }
        for entry in ports
        if role in entry["roles"]
        for cidr in planes.get(entry["source"], [])
    }
    shared = [
        {"family": f"ipv{ipaddress.ip_address(peer).version}", "cidr": f"{peer}/32", "protocol": VRRP}
        for peer in peers
    ]
    return [*(found[key] for key in sorted(found, key=str)), *shared]


def peers(caisson: dict[str, Any]) -> list[str]:
    """Return the addresses of the other control planes, each as a network of one; a worker knows of none. Pure."""
    own = caisson["node"]["name"]
    addresses = [entry["address"] for entry in caisson.get("control_planes", []) if entry["name"] != own]
    return [str(ipaddress.ip_network(address)) for address in addresses]


def rich_rule(opening: dict[str, Any]) -> str:
    """Return an opening in the words in which firewalld shows it."""
    source = f'rule family="{opening["family"]}" source address="{opening["cidr"]}" '
    if "port" not in opening:
        return f'{source}protocol value="{opening["protocol"]}" accept'
    return f'{source}port port="{opening["port"]}" protocol="{opening["protocol"]}" accept'


def service_rule(cidr: str) -> str:
    """Return the rich rule that keeps packets for service addresses on the host, as the policy's file has it.

    kube-proxy rewrites such a packet before this rule sees it; until kube-proxy has started (after a boot, say) the
    packet would follow the default route out of the site.
    """
    return f'rule family="ipv{ipaddress.ip_network(cidr).version}" destination address="{cidr}" drop'


def is_active() -> bool:
    """Tell whether firewalld runs. Raises RuntimeError when it runs, but not with the site's configuration.

    Source: firewalld 1.3, firewall-cmd, ``--state``; FAILED: it fell back, because the site's files are faulty.
    """
    state = _bus("get-property", BUS_NAME, BUS_PATH, BUS_NAME, "state")
    if state == "FAILED":
        raise RuntimeError(
            "firewalld could not load its configuration and runs with its fallback: "
            "'firewall-cmd --check-config' says why; correct that, restart it, then run the bootstrap again"
        )
    return bool(state == "RUNNING")


def command(*arguments: str) -> str:
    """Run ``firewall-cmd``; return its output. Raises RuntimeError with its words."""
    result = __salt__["cmd.run_all"](["firewall-cmd", *arguments], python_shell=False, timeout=TIMEOUT_S)
    if result["retcode"] != 0:
        words = result["stderr"] or result["stdout"]
        raise RuntimeError(f"firewall-cmd {' '.join(arguments)}: {words.strip()[-500:]}")
    return str(result["stdout"]).strip()


def foreign_zones(interfaces: list[str]) -> dict[str, str]:
    """Return interface -> permanent zone for those that are bound to another zone than that of pods."""
    zones = {
        interface: _answer(f"{BUS_PATH}/config", "config", "getZoneOfInterface", interface) or ""
        for interface in interfaces
    }
    return {interface: zone for interface, zone in zones.items() if zone not in ("", POD_ZONE)}


def is_loaded(opened: list[dict[str, Any]], pod_interfaces: list[str], service_cidr: str) -> bool:
    """Tell whether the running firewall holds what the files say: no opening less, and none more.

    It may hold another: a bootstrap that was killed before its reload leaves it so.
    """
    zone = settings("zone", "getZoneSettings2", POD_ZONE)
    services = settings("policy", "getPolicySettings", SERVICE_POLICY)
    nodes = settings("policy", "getPolicySettings", NODE_POLICY)
    return (
        sorted(zone.get("interfaces", [])) == sorted(pod_interfaces)
        and _holds(zone, POD_ZONE_FACTS)
        and _holds(services, SERVICE_POLICY_FACTS)
        and services.get("rich_rules") == [service_rule(service_cidr)]
        and _holds(nodes, NODE_POLICY_FACTS)
        and sorted(nodes.get("rich_rules", [])) == sorted(map(rich_rule, opened))
    )


def settings(kind: str, method: str, name: str) -> dict[str, Any]:
    """Return the running settings of a zone or a policy, empty where firewalld knows none of that name."""
    found = _answer(BUS_PATH, kind, method, name) or {}
    return {key: value["data"] for key, value in found.items()}


def _holds(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _answer(path: str, interface: str, method: str, argument: str) -> Any:
    """Return what a method of firewalld answers to one name; None where it knows nothing of that name."""
    answer = _bus("call", BUS_NAME, path, f"{BUS_NAME}.{interface}", method, "s", argument)
    return answer[0] if answer else None


def _bus(*words: str) -> Any:
    """Return the data of an answer of firewalld; None when it is not there, or answers with a fault."""
    options = ["--system", "--auto-start=no", "--json=short", f"--timeout={TIMEOUT_S}"]
    result = __salt__["cmd.run_all"](
        ["busctl", *options, *words], python_shell=False, timeout=TIMEOUT_S + 5, ignore_retcode=True
    )
    return json.loads(result["stdout"])["data"] if result["retcode"] == 0 else None
