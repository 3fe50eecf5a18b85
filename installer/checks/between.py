# SPDX-License-Identifier: Apache-2.0
"""The checks between hosts: what no host can see by itself. Codes CSN6xx.

They look at what was measured (operations/probe.py) and touch nothing. A finding belongs to one host: of two the one
that is not in the cluster, or the later in the list, or the one with which more is wrong.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from installer.base.errors import HostError, HostKeyError, InstallerError, LoginError, ReachError
from installer.base.ui import visible
from installer.checks.preflight import Finding, Severity
from installer.checks.reach import NO_WAY, OPEN, REFUSED, SILENT
from installer.config.ports import Port

SKEW_LIMIT_S = 0.5
BOGUS_UUID = re.compile(r"^(?P<digit>[0-9a-f])(?P=digit)*\Z|^0+1?\Z|^03000200040005000006000700080009\Z")
"""What boards without a number of their own show, without dashes."""

NEW_NAME_FIX = "give another --name, or hostnamectl set-hostname NAME there"
NEW_HOST_FIX = (
    "if its host was installed again: caisson node remove {name} --dead, then this command; "
    "else another --name"
)
NEW_ID_FIX = "there: rm /etc/machine-id; systemd-machine-id-setup; reboot"
NODES_FIX = (
    "both are nodes: find out which is the copy, take it out (caisson node remove NAME), give that host an id of its "
    "own, then add it again"
)


@dataclass(frozen=True)
class Clock:
    """How far a host's clock is before this one's (negative: behind), give or take ``bound_s``."""

    offset_s: float
    bound_s: float


@dataclass(frozen=True)
class Seen:
    """A host as it was seen. ``identity`` is the agent's; ``error`` is why nothing was.

    ``faults``: what of the cluster's configuration does not fit it. ``is_member``: it is one of the cluster's nodes.
    ``address`` is the one at which it was reached: of all that is known of it, what it does not say itself.
    """

    title: str
    role: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    error: InstallerError | None = None
    clock: Clock | None = None
    is_member: bool = False
    address: str = ""


@dataclass(frozen=True)
class Tried:
    """A connection that was tried: from the host ``source`` to ``target`` (titles), and what came of it."""

    source: str
    target: str
    port: Port
    address: str
    outcome: str


@dataclass(frozen=True)
class Path:
    """A way of the workload plane that was measured; ``passes``: the largest packet that came through, 0: none."""

    source: str
    target: str
    mtu: int
    passes: int


@dataclass(frozen=True)
class Fleet:
    """All hosts, members of the cluster first, and what was tried between them.

    ``members``: the cluster's nodes, Ready or not, seen or not: name -> machine id, empty where it is not known.
    ``told``: those to which something was told: name -> address in the control plane.
    """

    hosts: tuple[Seen, ...]
    tried: tuple[Tried, ...] = ()
    paths: tuple[Path, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


Found = Iterator[tuple[str, Finding]]
"""Title of a host, and what is wrong with it."""


@dataclass(frozen=True)
class FleetCheck:
    """One check of all hosts together; the same in everything else as a check of one host."""

    id: str
    severity: Severity
    title: str
    run: Callable[[Fleet], Iterable[tuple[str, Finding]]]
    fix: str

    @property
    def why(self) -> str:
        """What it looks at and why: the docstring of its function."""
        return (inspect.getdoc(self.run) or "").replace("``", "`")


def _errors(fleet: Fleet, *kinds: type[InstallerError]) -> Iterator[tuple[Seen, InstallerError]]:
    for host in fleet.hosts:
        if isinstance(host.error, kinds):
            yield host, host.error


def _told(error: InstallerError) -> Finding:
    lines = [error.message, *error.details.splitlines()]
    text = "; ".join(line.removeprefix("| ") for line in lines)
    return Finding(visible(text), fix=error.resolution)


def can_be_reached(fleet: Fleet) -> Found:
    """Connect to the SSH server of the host: nobody listens, no way, no answer and another server are told apart."""
    for host, error in _errors(fleet, ReachError):
        yield host.title, _told(error)


def has_the_right_key(fleet: Fleet) -> Found:
    """Compare the host's key with the one that somebody has confirmed. With another one nothing is sent to it."""
    for host, error in _errors(fleet, HostKeyError):
        yield host.title, _told(error)


def can_be_logged_in_to(fleet: Fleet) -> Found:
    """Log in, run a command, become root: by the user's own right, or by sudo."""
    for host, error in _errors(fleet, LoginError):
        yield host.title, _told(error)


def can_be_looked_at(fleet: Fleet) -> Found:
    """Run the preflights there, by the host's own Python and out of memory."""
    others = (ReachError, HostKeyError, LoginError)
    for host in fleet.hosts:
        if isinstance(host.error, HostError) or (
            host.error is not None and not isinstance(host.error, others)
        ):
            yield host.title, _told(host.error)


def fits_the_configuration(fleet: Fleet) -> Found:
    """Compare the cluster's configuration with the host: an address in each plane, none in those of pods."""
    for host in fleet.hosts:
        for fault in host.faults:
            yield host.title, Finding(fault)


def _twins(fleet: Fleet, key: Callable[[Seen], Iterable[str]]) -> Iterator[tuple[Seen, str, Seen]]:
    """Yield each host that has something that another before it has, with that and the other."""
    first: dict[str, Seen] = {}
    for host in fleet.hosts:
        for value in key(host):
            if value and value in first and first[value] is not host:
                yield host, value, first[value]
            first.setdefault(value, host)


def _values(host: Seen, name: str) -> Sequence[str]:
    value = host.identity.get(name, ())
    return [value] if isinstance(value, str) else [str(entry) for entry in value]


def have_names_of_their_own(fleet: Fleet) -> Found:
    """Compare the nodes' names, also with those of nodes that are not Ready.

    kubeadm refuses a name only while a node that is Ready has it; the second host would take the first one's place.
    """
    for host, name, other in _twins(fleet, lambda seen: _values(seen, "name")):
        yield host.title, Finding(f"'{name}' is the name of {other.title}, too", fix=NEW_NAME_FIX)
    for host in _newcomers(fleet):
        name, machine_id = host.identity["name"], host.identity["machine_id"]
        if fleet.members.get(name, machine_id) != machine_id:
            text = f"the cluster has a node '{name}' already, which is another host"
            yield host.title, Finding(text, fix=NEW_HOST_FIX.format(name=name))


def _newcomers(fleet: Fleet) -> Iterator[Seen]:
    """Yield the hosts that were seen and are not in the cluster, without those that share a name with one that is."""
    known = {seen.identity.get("name") for seen in fleet.hosts if seen.is_member}
    for host in fleet.hosts:
        if host.identity and not host.is_member and host.identity["name"] not in known:
            yield host


def have_machine_ids_of_their_own(fleet: Fleet) -> Found:
    """Compare the machine ids: hosts made from one image share it, and are one host for DHCP and for the journal."""
    for host, value, other in _twins(fleet, lambda seen: _values(seen, "machine_id")):
        copy, first = (other, host) if _is_node(fleet, host) and not _is_node(fleet, other) else (host, other)
        fix = NODES_FIX if _is_node(fleet, copy) else NEW_ID_FIX
        yield copy.title, Finding(f"{value} is that of {first.title}, too", fix=fix)
    seen_names = {host.identity.get("name") for host in fleet.hosts}
    for host in _newcomers(fleet):
        for name, machine_id in fleet.members.items():
            if machine_id == host.identity["machine_id"] and name not in seen_names:
                yield host.title, _of_a_node(fleet, host, name)


def _of_a_node(fleet: Fleet, host: Seen, name: str) -> Finding:
    """Return what a host with the machine id of a node is: that node under another name, or a copy of it.

    Whether it is at the address that the node was told says the way to it; of what it says itself nothing proves that.
    """
    told = fleet.told.get(name, "")
    if told and told == host.address:
        new = host.identity["name"]
        return Finding(f"this is {name}, whose host name is now {new}", fix=f"give --name {name}")
    text = f"{host.identity['machine_id']} is that of the node '{name}', too"
    if _is_node(fleet, host):
        return Finding(text, fix=f"if it is {name} under another host name: give --name {name}")
    fix = f"if it is {name} at another address: give --name {name}; of a copy of its disk, {NEW_ID_FIX}"
    return Finding(text, fix=fix)


def _is_node(fleet: Fleet, host: Seen) -> bool:
    """Say whether a host is, or may be, a node that is at work: another machine id would break it."""
    own = {host.address, *_values(host, "addresses")}
    return host.is_member or any(address in own for address in fleet.told.values() if address)


def have_numbers_of_their_own(fleet: Fleet) -> Found:
    """Compare the numbers that the firmware gives to the machines (product_uuid).

    Clones of virtual machines share it. Kubernetes takes it as the node's systemUUID; boards that have none are common,
    and left out here.
    """

    def numbers(seen: Seen) -> list[str]:
        return [
            value for value in _values(seen, "product_uuid") if not BOGUS_UUID.match(value.replace("-", ""))
        ]

    for host, value, other in _twins(fleet, numbers):
        yield host.title, Finding(f"{value} is that of {other.title}, too")


def have_addresses_of_their_own(fleet: Fleet) -> Found:
    """Compare all addresses of the hosts, IP and hardware: of two that share one, packets reach now this, now that.

    It also tells that two entries of a list are one and the same host, by two of its addresses.
    """
    for name in ("addresses", "hardware_addresses"):
        for host, value, other in _twins(fleet, lambda seen, name=name: _values(seen, name)):  # type: ignore[misc]
            yield host.title, Finding(f"{value} is an address of {other.title}, too")


def have_one_time(fleet: Fleet) -> Found:
    """Compare the clocks with this host's, as exactly as the way to the host allows.

    etcd, certificates and Salt compare the times of hosts; half a second is what is let pass.
    """
    for host in fleet.hosts:
        clock = host.clock
        if clock is None:
            continue
        shown = f"{abs(clock.offset_s):.2f} s {'before' if clock.offset_s > 0 else 'behind'} this host's"
        if abs(clock.offset_s) - clock.bound_s > SKEW_LIMIT_S:
            yield host.title, Finding(f"the clock is {shown} (give or take {clock.bound_s:.2f} s)")
        elif abs(clock.offset_s) + clock.bound_s > SKEW_LIMIT_S:
            text = f"the clock seems {shown}, but the way there takes {2 * clock.bound_s:.2f} s: it cannot be told"
            yield host.title, Finding(text, severity=Severity.WARNING)


WHY_CLOSED: Mapping[str, str] = {
    REFUSED: "the connection is refused: something on the way, or on the host itself, says no",
    NO_WAY: "no way leads there, or a packet filter says so",
    SILENT: "nothing comes back: a packet filter drops it",
}


def reach_each_others_ports(fleet: Fleet) -> Found:
    """Try, both ways, each port that one node has to reach on another, by the port table and their roles.

    Where nothing listens yet the host itself listens for that time, and its firewalld is told to let the others in:
    what stops a packet then stands between the hosts.
    """
    closed = [tried for tried in fleet.tried if tried.outcome != OPEN]
    faults = _count((tried.source, tried.target) for tried in closed)
    for tried in closed:
        why = WHY_CLOSED.get(tried.outcome, "nobody knows what came of it")
        where = f"{tried.port.protocol} {tried.address}:{tried.port.port} ({tried.port.name})"
        text = f"{where} of {tried.target} is not reached from {tried.source}: {why}"
        yield _blamed(fleet, tried.source, tried.target, faults), Finding(text)


def _blamed(fleet: Fleet, one: str, other: str, faults: Mapping[str, int]) -> str:
    """Return the one of two hosts that is not in the cluster; of two such, the one that more ways fail with.

    Where as many fail with both it is ``other``.
    """
    members = {host.title for host in fleet.hosts if host.is_member}
    if one in members or other in members:
        return other if one in members else one
    return one if faults.get(one, 0) > faults.get(other, 0) else other


def _count(pairs: Iterable[tuple[str, str]]) -> Mapping[str, int]:
    return Counter(title for pair in pairs for title in pair)


def pass_whole_packets(fleet: Fleet) -> Found:
    """Send packets as large as the interface allows over the workload plane, which nobody may cut (DF).

    Calico takes the interface's MTU, less 50 bytes for VXLAN. Where the way is narrower, small packets of pods arrive
    and large ones vanish: connections open and then hang.
    """
    faults = _count((path.source, path.target) for path in fleet.paths if path.passes < path.mtu)
    for path in fleet.paths:
        title = _blamed(fleet, path.source, path.target, faults)
        way = f"to {path.target}" if title == path.source else f"from {path.source}"
        if path.passes == 0:
            text = f"the way {way} cannot be measured: no echo comes back (ICMP)"
            yield title, Finding(text, severity=Severity.WARNING, fix="let ICMP echo pass between the hosts")
        elif path.passes < path.mtu:
            text = f"packets up to {path.passes} bytes pass {way}, the interface's MTU is {path.mtu}"
            yield title, Finding(text)


FLEET_CHECKS: tuple[FleetCheck, ...] = (
    FleetCheck("CSN601", Severity.ERROR, "the host can be reached", can_be_reached, "check address and port"),
    FleetCheck(
        "CSN602",
        Severity.ERROR,
        "the host's key is confirmed",
        has_the_right_key,
        "compare the fingerprint on the host's own console, and give it with --host-key",
    ),
    FleetCheck(
        "CSN603",
        Severity.ERROR,
        "the user logs in and becomes root",
        can_be_logged_in_to,
        "give another --user or --identity, or allow it there",
    ),
    FleetCheck(
        "CSN604",
        Severity.ERROR,
        "the host can be looked at",
        can_be_looked_at,
        "see what its Python said",
    ),
    FleetCheck(
        "CSN605",
        Severity.ERROR,
        "the configuration fits the host",
        fits_the_configuration,
        "give the host an address in each plane, or add its network to the plane's cidrs",
    ),
    FleetCheck(
        "CSN611",
        Severity.ERROR,
        "the nodes have names of their own",
        have_names_of_their_own,
        f"{NEW_NAME_FIX}; of a node whose host was installed again: caisson node remove NAME --dead first",
    ),
    FleetCheck(
        "CSN612",
        Severity.ERROR,
        "the machines have ids of their own",
        have_machine_ids_of_their_own,
        f"of a copy of another host, {NEW_ID_FIX}; of a node whose host name is another now: give --name NAME",
    ),
    FleetCheck(
        "CSN613",
        Severity.WARNING,
        "the machines have numbers of their own",
        have_numbers_of_their_own,
        "give the virtual machine a new UUID (libvirt: remove <uuid>; vSphere: uuid.bios)",
    ),
    FleetCheck(
        "CSN614",
        Severity.ERROR,
        "the hosts have addresses of their own",
        have_addresses_of_their_own,
        "remove one of the entries if they are one host; else give one of them another address, or another MAC",
    ),
    FleetCheck(
        "CSN615",
        Severity.ERROR,
        "the clocks agree",
        have_one_time,
        "name the same server in chrony on all hosts, and there: chronyc makestep",
    ),
    FleetCheck(
        "CSN616",
        Severity.ERROR,
        "the nodes reach each other's ports",
        reach_each_others_ports,
        "let the port pass between the hosts: the site's firewalls, security groups, rules that are not firewalld's",
    ),
    FleetCheck(
        "CSN617",
        Severity.ERROR,
        "whole packets pass on the workload plane",
        pass_whole_packets,
        "set the MTU of the interface to what passes (nmcli connection modify NAME 802-3-ethernet.mtu N), or widen the "
        "way",
    ),
)
