# SPDX-License-Identifier: Apache-2.0
"""The host's network: ports, routes, names. Codes CSN2xx."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from installer.checks.host import Host
from installer.checks.preflight import Check, Finding, Severity, SkippedError
from installer.config.facts import POD_INTERFACES, TRIAL_INTERFACES, read_nameservers
from installer.config.ports import Port

RESOLVE_TIMEOUT_S = 3
TIMED_OUT = 124
"""The exit code of timeout(1) when the time is over."""
NETWORK_MANAGER_DIR = "/etc/NetworkManager/conf.d"
OWN_PROCESSES = frozenset({"kubelet", "containerd"})
CONSOLE = "caisson-console"
CONSOLE_UNIT_FILE = f"/etc/systemd/system/{CONSOLE}.socket"
CLOUD_DISABLED_FILE = "/etc/cloud/cloud-init.disabled"
CLOUD_INSTANCE_FILES = ("cloud-config.txt", "vendor2-cloud-config.txt", "vendor-cloud-config.txt")
"""What a cloud gave to this host (user data, vendor data), in the order in which it wins. Source: cloud-init 23.4."""
MANAGED_HOSTS = re.compile(r"^[\"']?manage_etc_hosts[\"']?\s*:\s*[\"']?(\w+)", re.MULTILINE)
MANAGING_VALUES = frozenset({"true", "yes", "on", "1", "template", "localhost"})
"""Source: cloud-init 23.4, cc_update_etc_hosts and util.translate_bool."""
REFUSING_ROUTES = ("blackhole", "prohibit", "throw", "unreachable")
"""Kinds of routes that send nothing. Source: ip-route(8)."""


def has_free_ports(host: Host) -> Iterator[Finding]:
    """Look for listeners on the ports of the port table, at the addresses that the cluster needs."""
    listeners = list(_listeners(host))
    owners: dict[str, int] | None = None
    for port in host.ports:
        for protocol, address, number, inode in listeners:
            if protocol != port.protocol or number != port.port or not _collides(port, address, host):
                continue
            if owners is None:
                owners = _socket_owners(host)
            holder = owners.get(inode)
            if not (host.is_ours and (_is_own(host, holder) or _is_of_console(host, port, holder))):
                where = f"{port.protocol} {address}:{port.port}"
                yield Finding(f"{where} (for {port.name}) is held by {_describe(host, holder)}")
                break


def _listeners(host: Host) -> Iterator[tuple[str, str, int, str]]:
    """Yield protocol, address, port and inode of each listening socket. Source: proc(5), /proc/net/tcp."""
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in (host.read(f"/proc/net/{table}") or "").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == state:
                raw, _, number = words[1].partition(":")
                yield table[:3], _parse_address(raw), int(number, 16), words[9]


def _parse_address(raw: str) -> str:
    """Turn the kernel's hexadecimal address (words in host order) into the usual text.

    >>> _parse_address("0100007F"), _parse_address("0" * 32)
    ('127.0.0.1', '::')
    """
    words = [bytes.fromhex(raw[index : index + 8])[::-1] for index in range(0, len(raw), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _collides(port: Port, address: str, host: Host) -> bool:
    """Say whether a listener on ``address`` is in the way of ``port``."""
    has_vip = host.config is not None and host.config.networks.vip is not None
    bind = (port.bind_with_vip if has_vip else "") or port.bind
    if address in ("0.0.0.0", "::") or bind == "any":  # noqa: S104  compared with, not bound to
        return True
    if bind == "loopback":
        return address in ("127.0.0.1", "::1")
    if host.facts is None:
        return not address.startswith("127.")
    return address in (host.facts.control_plane_address, host.facts.workload_plane_address)


def _socket_owners(host: Host) -> dict[str, int]:
    """Return inode of a socket -> process id, for all processes that may be seen."""
    owners: dict[str, int] = {}
    for process in host.path("/proc").glob("[0-9]*"):
        try:
            links = [str(entry.readlink()) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
        for link in links:
            if link.startswith("socket:["):
                owners.setdefault(link[8:-1], int(process.name))
    return owners


def _is_own(host: Host, process_id: int | None) -> bool:
    """Say whether a process is of the cluster: in a pod, one of the two services, the kernel (VXLAN)."""
    if process_id is None:
        return True
    name = (host.read(f"/proc/{process_id}/comm") or "").strip()
    return name in OWN_PROCESSES or "kubepods" in (host.read(f"/proc/{process_id}/cgroup") or "")


def _is_of_console(host: Host, port: Port, process_id: int | None) -> bool:
    """Say whether the console's port is held for it: by systemd, which starts it on demand, or by itself."""
    if port.component != CONSOLE or not host.path(CONSOLE_UNIT_FILE).exists():
        return False
    name = (host.read(f"/proc/{process_id}/comm") or "").strip()
    return name == "systemd" or CONSOLE in (host.read(f"/proc/{process_id}/cgroup") or "")


def _describe(host: Host, process_id: int | None) -> str:
    if process_id is None:
        return "the kernel or an unknown process"
    return f"process {process_id} ({(host.read(f'/proc/{process_id}/comm') or 'unknown').strip()})"


def has_default_route(host: Host) -> Iterator[Finding]:
    """Look for a default route: without one the kernel does not send packets to the address of a service."""
    defaults = [route for route in _routes(host) if route.get("dst") == "default"]
    usable = [route for route in defaults if "dead" not in route.get("flags", ())]
    if not usable:
        more = " whose interface is up" if defaults else ""
        yield Finding(f"'ip route' shows no default route{more}")
        return
    # The kernel takes the one with the lowest metric, whatever it does with the packet.
    first = min(usable, key=lambda route: int(route.get("metric", 0)))
    if first.get("type", "unicast") in REFUSING_ROUTES:
        yield Finding(
            f"the default route is of the kind {first['type']}: the kernel refuses what it should send there"
        )


def has_free_networks(host: Host) -> Iterator[Finding]:
    """Compare the networks of pods and services with the host's routes: one of both would be out of reach."""
    if host.config is None:
        raise SkippedError("no configuration was given")
    networks = {"pods": host.config.networks.pods_cidr, "services": host.config.networks.services_cidr}
    for route in _routes(host):
        destination = str(route.get("dst", ""))
        is_of_pods = POD_INTERFACES.match(str(route.get("dev", ""))) or route.get("type") == "blackhole"
        is_trial = route.get("dev") in TRIAL_INTERFACES
        if destination == "default" or is_trial or (host.is_ours and is_of_pods):
            continue
        try:
            routed = ipaddress.IPv4Network(destination)
        except ValueError:
            continue
        for name, network in networks.items():
            if routed.overlaps(network):
                yield Finding(
                    f"networks.{name}.cidr {network} overlaps the route to {routed} ({route.get('dev')})"
                )


def _routes(host: Host) -> list[dict[str, Any]]:
    answer = host.run(["ip", "-json", "-4", "route", "show"])
    routes = json.loads(answer.stdout or "[]")
    return [route for route in routes if isinstance(route, dict)]


def has_usable_nameservers(host: Host) -> Iterator[Finding]:
    """Look for nameservers on loopback addresses: in a pod that address is the pod itself."""
    for server in read_nameservers(host.path("/etc/resolv.conf")):
        if server.startswith("127.") or server == "::1":
            yield Finding(f"nameserver {server}")


def resolves_in_time(host: Host) -> Iterator[Finding]:
    """Ask for the host's own name, as Salt and sudo do, and take the time.

    A nameserver that does not answer costs five seconds and more for each question that /etc/hosts does not answer.
    """
    name = host.facts.node_name if host.facts is not None else host.name
    if host.run(["timeout", str(RESOLVE_TIMEOUT_S), "getent", "ahostsv4", name]).returncode == TIMED_OUT:
        yield Finding(f"'{name}' is not resolved within {RESOLVE_TIMEOUT_S} s")


def leaves_pod_interfaces_alone(host: Host) -> Iterator[Finding]:
    """Look for NetworkManager's files that take back that it leaves the interfaces of pods alone.

    The bootstrap writes that into 90-caisson.conf; of two files the one with the later name wins.
    """
    for file in sorted(host.path(NETWORK_MANAGER_DIR).glob("*.conf")):
        if file.name <= "90-caisson.conf":
            continue
        text = host.read(f"{NETWORK_MANAGER_DIR}/{file.name}") or ""
        for match in re.finditer(r"^\s*unmanaged-devices\s*=(.*)$", text, re.MULTILINE):
            if "cali" not in match.group(1):
                yield Finding(f"{NETWORK_MANAGER_DIR}/{file.name} sets unmanaged-devices without cali*")


def has_free_vip(host: Host) -> Iterator[Finding]:
    """Look whether an interface has the virtual address already: it belongs to the cluster alone."""
    vip = host.config.networks.vip if host.config is not None else None
    if vip is None or host.is_ours:
        return
    links = json.loads(host.run(["ip", "-json", "address", "show"]).stdout or "[]")
    for link in links:
        if any(info.get("local") == str(vip) for info in link.get("addr_info", ())):
            yield Finding(f"{vip} is an address of {link.get('ifname')}")


def has_lasting_addresses(host: Host) -> Iterator[Finding]:
    """Look whether an address of the planes was given for a time only, as by DHCP.

    etcd, every certificate and the other nodes know this node by its address: another one ends the cluster.
    """
    if host.facts is None:
        raise SkippedError("no configuration was given")
    planes = {
        host.facts.workload_plane_address: "workload plane",
        host.facts.control_plane_address: "control plane",
    }
    for link in json.loads(host.run(["ip", "-json", "address", "show"]).stdout or "[]"):
        for info in link.get("addr_info", ()):
            if info.get("dynamic") and info.get("local") in planes:
                plane, name = planes[info["local"]], link.get("ifname")
                yield Finding(
                    f"{info['local']} of the {plane} ({name}) was given for a time only, as by DHCP"
                )


def keeps_hosts_file(host: Host) -> Iterator[Finding]:
    """Look whether cloud-init writes /etc/hosts again at each boot, as clouds often tell it to.

    The cluster's own names are put back by caisson-hosts.service; what else stands in the file is lost, and the
    node's name becomes a loopback address.
    """
    if host.path(CLOUD_DISABLED_FILE).exists() or "cloud-init=disabled" in (host.read("/proc/cmdline") or ""):
        return
    places = [f"/var/lib/cloud/instance/{name}" for name in CLOUD_INSTANCE_FILES]
    overrides = sorted(host.path("/etc/cloud/cloud.cfg.d").glob("*.cfg"), reverse=True)
    places += [f"/etc/cloud/cloud.cfg.d/{file.name}" for file in overrides]
    for place in [*places, "/etc/cloud/cloud.cfg"]:
        match = MANAGED_HOSTS.search(host.read(place) or "")
        if match:
            if match.group(1).lower() in MANAGING_VALUES:
                yield Finding(f"{place} sets manage_etc_hosts to {match.group(1)}")
            return


NETWORK: tuple[Check, ...] = (
    Check(
        "CSN201",
        Severity.ERROR,
        "the ports are free",
        has_free_ports,
        "stop the process, or move it to another port",
    ),
    Check(
        "CSN202",
        Severity.ERROR,
        "there is a default route",
        has_default_route,
        "add one, to any gateway, even one that answers nobody: services need it (ip route add default ..)",
    ),
    Check(
        "CSN203",
        Severity.ERROR,
        "pods and services have networks of their own",
        has_free_networks,
        "choose another network in the configuration, or remove the route",
    ),
    Check(
        "CSN204",
        Severity.WARNING,
        "the nameservers can be reached by pods",
        has_usable_nameservers,
        "write the real nameserver into /etc/resolv.conf; a loopback one is not given to CoreDNS",
    ),
    Check(
        "CSN205",
        Severity.WARNING,
        "the node's name resolves at once",
        resolves_in_time,
        "add the name to /etc/hosts with 'files' first in nsswitch.conf, or correct /etc/resolv.conf",
    ),
    Check(
        "CSN206",
        Severity.ERROR,
        "NetworkManager leaves pods alone",
        leaves_pod_interfaces_alone,
        "add interface-name:cali*;interface-name:vxlan.calico to it, or write += instead of =",
    ),
    Check(
        "CSN207",
        Severity.ERROR,
        "the virtual address is free",
        has_free_vip,
        "take the address off the interface, or choose another networks.controlPlane.vip",
    ),
    Check(
        "CSN208",
        Severity.WARNING,
        "the planes' addresses last",
        has_lasting_addresses,
        "configure the address on the interface, or reserve it for this host on the DHCP server, permanently",
    ),
    Check(
        "CSN209",
        Severity.WARNING,
        "/etc/hosts lasts",
        keeps_hosts_file,
        "nothing for the cluster's names; the site's own lines belong into /etc/cloud/templates/hosts.redhat.tmpl, "
        "or set manage_etc_hosts to false where it is set",
    ),
)
