# SPDX-License-Identifier: Apache-2.0
"""The switch: a network namespace with one bridge per network, which answers as gateway and nameserver of the
uplink, lets nothing out, and counts what tried.

It has to answer: towards a gateway that nobody answers for, address resolution fails in the node and the
counter stays at 0, blind. What a node sends to another node crosses a bridge and is nobody's business here.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import nameserver
from lab.cleanup import Process, make_control_groups, process_of, read_lab, wait_until, write_record
from lab.errors import LabError
from lab.places import GATEWAY, NETNS_DIR, PLANES, SWITCH, UPLINK, LabPlaces, NodePlaces
from lab.run import run, spawn

if TYPE_CHECKING:
    from lab.node import Node

OUTSIDE = "203.0.113.1"
"""An address that is outside of everything (RFC 5737), to prove with that the counter sees."""

_TABLE = "caisson"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What the nodes tried to send out since the start or the last reset.

    ``packets``: IP packets to outside or to the switch itself (questions to its nameserver and ICMP to it
    are not among them). ``packets_by_source``: the same by sender, IPv4 only. ``destinations``: who was
    meant, as ``tcp 203.0.113.1:443``. ``dns_queries`` and ``dns_names`` (sorted, once each): what the
    nameserver was asked. ``chatter``: multicast and broadcast on the uplink, for neighbours only.
    """

    packets: int = 0
    packets_by_source: dict[str, int] = field(default_factory=dict)
    destinations: tuple[str, ...] = ()
    dns_queries: int = 0
    dns_names: tuple[str, ...] = ()
    chatter: int = 0


@dataclass(frozen=True, kw_only=True)
class Switch:
    """The switch of one lab."""

    lab: str

    @property
    def places(self) -> LabPlaces:
        """Return the paths and names of the lab."""
        return LabPlaces(lab=self.lab)

    @property
    def queries_file(self) -> Path:
        """Return the nameserver's log: one JSON object a question."""
        return self.places.run_dir / "dns-queries.jsonl"

    @property
    def packets_file(self) -> Path:
        """Return the log of what tried to leave: one JSON object a packet."""
        return self.places.run_dir / "packets.jsonl"

    def start(self) -> None:
        """Make namespace, bridges and rules, and start the nameserver; the lab has a record already.

        Raises:
            LabError: the nameserver does not answer for its address.
        """
        netns = self.places.switch_netns
        run(["ip", "netns", "add", netns])
        _ip(netns, "link", "set", "lo", "up")
        self._quiet_bridge_filter()
        for plane in PLANES:
            _ip(netns, "link", "add", plane.name, "type", "bridge", "stp_state", "0", "forward_delay", "0")
            _ip(netns, "link", "set", plane.name, "up")
        _ip(netns, "address", "add", f"{GATEWAY}/24", "dev", UPLINK.name)
        self._inside(["nft", "--file", "-"], input_text=rules())
        self._start_nameserver()

    def connect(self, node: NodePlaces, number: int) -> None:
        """Make a node's network namespace and cable it: an interface with its address in each network.

        A namespace is never used for two boots: it would keep the settings of the one before.
        """
        switch = self.places.switch_netns
        run(["ip", "netns", "add", node.key])
        _ip(node.key, "link", "set", "lo", "up")
        for plane in PLANES:
            port = f"{plane.name[:4]}{number}"
            run(["ip", "-n", switch, "link", "delete", port], check=False)  # by itself it goes, but later
            cable = ("link", "add", port, "type", "veth", "peer", "name", plane.interface)
            _ip(switch, *cable, "address", plane.mac_address(number), "netns", node.key)
            _ip(switch, "link", "set", port, "master", plane.name, "up")
            _ip(node.key, "address", "add", f"{plane.address(number)}/24", "dev", plane.interface)
            _ip(node.key, "link", "set", plane.interface, "up")
        _ip(node.key, "route", "add", "default", "via", GATEWAY)

    def counts(self) -> Counts:
        """Return what the nodes tried to send out since the start or the last reset."""
        document = json.loads(self._inside(["nft", "--json", "list", "table", "inet", _TABLE]))
        queries = _lines(self.queries_file)
        return replace(
            counts_of(document),
            destinations=tuple(sorted({_destination(packet) for packet in _lines(self.packets_file)})),
            dns_queries=len(queries),
            dns_names=tuple(sorted({str(query["name"]) for query in queries})),
        )

    def reset(self) -> None:
        """Start all counts at 0."""
        self._inside(["nft", "reset", "counters", "table", "inet", _TABLE])
        self._inside(["nft", "flush", "set", "inet", _TABLE, "sources"])
        for log in (self.queries_file, self.packets_file):
            with log.open("r+") as file:
                file.truncate(0)

    def probe(self, node: Node) -> Counts:
        """Prove that the counter sees: an echo request and a datagram to outside, and a question for a name.

        Returns how much the counts grew (they are not reset).

        Raises:
            LabError: one of the three was sent and not seen.
        """
        before = self.counts()
        name = f"probe-{uuid.uuid4().hex[:12]}.invalid"
        node.run(["ping", "-n", "-c", "1", "-W", "1", OUTSIDE], check=False, timeout_s=30)
        node.run(["python3", "-c", _PROBE, OUTSIDE, GATEWAY, name], timeout_s=30)
        after = self.counts()
        seen = Counts(
            packets=after.packets - before.packets,
            packets_by_source=after.packets_by_source,
            destinations=tuple(sorted(set(after.destinations) - set(before.destinations))),
            dns_queries=after.dns_queries - before.dns_queries,
            dns_names=tuple(sorted(set(after.dns_names) - set(before.dns_names))),
        )
        if seen.packets < 2 or name not in seen.dns_names:
            raise LabError(
                "the switch is blind: it did not see what was sent to prove it",
                details=f"sent from {node.name}: 2 packets to {OUTSIDE}, a question for {name}; seen: {seen}",
                resolution="see 'ip -n NAMESPACE route' of the node and the rules in the switch's namespace",
            )
        return seen

    def _inside(self, args: list[str], *, input_text: str | None = None) -> str:
        return run([*self._entering(), *args], input_text=input_text, timeout_s=60).stdout

    def _entering(self) -> list[str]:
        """Return what enters the switch's network and nothing else: 'ip netns exec' would also take a copy of
        all mounts, and so keep disks of nodes busy.
        """
        return ["nsenter", f"--net={NETNS_DIR / self.places.switch_netns}", "--"]

    def _quiet_bridge_filter(self) -> None:
        """Keep frames between nodes out of the packet filter, where the kernel would show them to it."""
        names = [name for name in _sysctls() if name.startswith("bridge-nf-call-")]
        for name in names:
            self._inside(["sysctl", "-qw", f"net.bridge.{name}=0"])

    def _start_nameserver(self) -> None:
        output = self.places.run_dir / "nameserver.log"
        program = [sys.executable, "-I", "-S", nameserver.__file__]
        logs = [self.queries_file, self.packets_file]
        process = spawn(
            [*self._entering(), *program, GATEWAY, UPLINK.name, *logs],
            output_file=output,
            control_groups=make_control_groups(self.places.node(SWITCH).key),
        )
        record = read_lab(self.lab)
        if record is not None:
            running: Process | None = process_of(process.pid)
            write_record(self.places.record_file, replace(record, nameserver=running))
        is_ready = wait_until(
            lambda: process.poll() is not None or nameserver.READY in output.read_text().splitlines(), 10.0
        )
        if not is_ready or process.poll() is not None:
            raise LabError(
                "the switch's nameserver does not start",
                details=output.read_text(),
                resolution="run '.venv/bin/python -m lab clean' and try again",
            )


def rules() -> str:
    """Return the packet filter: what reaches the uplink is a question, chatter, or counted and dropped.

    It looks before routing, so a packet is seen whether or not a way out would exist.
    """
    return f"""table inet {_TABLE} {{
  set sources {{ type ipv4_addr; flags dynamic; counter; size 1024; }}
  counter leaving {{ }}
  counter chatter {{ }}
  chain arriving {{
    type filter hook prerouting priority raw; policy accept;
    iifname != "{UPLINK.name}" accept
    ip daddr {GATEWAY} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr {GATEWAY} ip protocol icmp accept
    ip daddr {{ 224.0.0.0/4, 255.255.255.255, {UPLINK.prefix}.255 }} counter name chatter drop
    ip6 daddr {{ ff00::/8, fe80::/10 }} counter name chatter accept
    ip daddr {UPLINK.cidr} ip daddr != {GATEWAY} accept
    counter name leaving
    meta nfproto ipv4 update @sources {{ ip saddr }}
    drop
  }}
}}
"""


def counts_of(document: dict[str, Any]) -> Counts:
    """Return the packet counts in nft's JSON listing of our table.

    Source: libnftables-json(5), ``counter`` (name, packets) and ``set`` (elem: [{elem: {val, counter}}]).
    """
    counters: dict[str, int] = {}
    by_source: dict[str, int] = {}
    for item in document["nftables"]:
        if counter := item.get("counter"):
            counters[counter["name"]] = counter["packets"]
        for element in item.get("set", {}).get("elem", ()):
            by_source[element["elem"]["val"]] = element["elem"]["counter"]["packets"]
    return Counts(
        packets=counters["leaving"],
        chatter=counters["chatter"],
        packets_by_source={
            source: by_source[source] for source in sorted(by_source, key=ipaddress.ip_address)
        },
    )


_PROBE = """
import random, socket, struct, sys
outside, nameserver, name = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(b"probe", (outside, 9))
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
query = struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0) + labels + bytes([0, 0, 1, 0, 1])
udp.settimeout(5)
udp.sendto(query, (nameserver, 53))
answer = udp.recvfrom(512)[0]
assert answer[:2] == query[:2] and answer[3] & 15 == 3, answer
"""


def _destination(packet: dict[str, Any]) -> str:
    address = str(packet["destination"])
    if "port" not in packet:
        return f"{packet['protocol']} {address}"
    return f"{packet['protocol']} {f'[{address}]' if ':' in address else address}:{packet['port']}"


def _ip(netns: str, *words: str) -> None:
    run(["ip", "-n", netns, *words], timeout_s=60)


def _lines(log: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in log.read_text().splitlines() if line]
    except FileNotFoundError:
        return []


def _sysctls() -> list[str]:
    directory = Path("/proc/sys/net/bridge")
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
