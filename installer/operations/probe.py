# SPDX-License-Identifier: Apache-2.0
"""Look at hosts that are to become nodes, before a byte is written there, and say of all of them what is wrong.

    connect (confirmed key, login, root) -> start the installer there, in memory -> preflights of each host,
    side by side -> clocks -> ports, both ways -> largest packet of the workload plane -> one table for all hosts

One host that cannot be looked at stops none of the others. What was opened for it is closed at the end, also on the
hosts: the listeners and what firewalld was told end with the connection.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Callable, TypeVar

from installer.base.errors import (
    HostKeyError,
    InstallerError,
    LoginError,
    MediaError,
    PreflightError,
    ReachError,
)
from installer.base.paths import Paths
from installer.base.terminal import Asked, Terminal
from installer.checks import CHECKS
from installer.checks.between import FLEET_CHECKS, Clock, Fleet, FleetCheck, Path, Seen, Tried
from installer.checks.preflight import Finding, Severity, Status
from installer.checks.reach import OPEN
from installer.config.bootstrap import Config
from installer.config.nodes import NodeEntry
from installer.config.ports import BOOTSTRAP_ROLE, CONTROL_PLANES, PORTS_FILE, Port, needed, parse_ports
from installer.engine import agents
from installer.engine.agents import Agent
from installer.engine.ssh import Connection
from installer.media.product import FILE_NAME
from installer.operations import answers, node_checks, other_nodes
from installer.operations.cluster_state import Member

LOOK_TIMEOUT_S = 300.0
ASK_TIMEOUT_S = 60.0
CLOCK_QUESTIONS = 5
CLOCK_GOOD_BOUND_S = 0.05
THREADS = 16
HERE = "this host"
CONTROL_PLANE_ROLES = (BOOTSTRAP_ROLE, "control-plane")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Material:
    """What every host is asked with: the cluster's configuration, and texts of the media. ``packed`` is the installer.

    ``members`` are the cluster's nodes, Ready or not: name -> machine id, empty where it is not known.
    """

    config: Config
    product_text: str
    ports_text: str
    packed: bytes
    members: Mapping[str, str] = field(default_factory=dict)
    with_trials: bool = True

    @property
    def ports(self) -> tuple[Port, ...]:
        """Return the port table."""
        return parse_ports(self.ports_text)


def gather_material(tree_dir: pathlib.Path, config: Config, members: Sequence[Member]) -> Material:
    """Return what to ask with, read from the media or from the installer's own copy of it.

    Raises:
        MediaError: it is incomplete.
    """
    try:
        product_text = (tree_dir / FILE_NAME).read_text(encoding="utf-8")
        ports_text = (tree_dir / PORTS_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise MediaError(
            f"{tree_dir} is incomplete",
            details=str(exc),
            resolution="start the bootstrap.sh of the ISO that this host is installed from: it writes its copy again",
        ) from exc
    known = {member.name: member.machine_id for member in members}
    return Material(config, product_text, ports_text, agents.archive(tree_dir), known)


@dataclass(frozen=True)
class Row:
    """One finding about one host."""

    host: str
    code: str
    status: Status
    title: str
    evidence: str
    fix: str

    @property
    def cells(self) -> tuple[str, str, str, str, str]:
        """Return it as cells of the table."""
        return self.host, self.code, self.status.value, self.title, f"{self.evidence} -> {self.fix}"


@dataclass(frozen=True)
class Probe:
    """What was found on all hosts; ``facts`` by their titles, of those that have an address in each plane."""

    fleet: Fleet
    rows: tuple[Row, ...]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return one table for all hosts, with its heading; a host of which there is nothing to say has a row, too."""
        with_rows = {row.host for row in self.rows}
        fine = [
            (host.title, "-", Status.PASSED.value, "all checks", "")
            for host in self.fleet.hosts
            if not host.is_member and host.title not in with_rows
        ]
        places = {host.title: place for place, host in enumerate(self.fleet.hosts)}
        cells = sorted([*fine, *(row.cells for row in self.rows)], key=lambda line: places[line[0]])
        return [("HOST", "CODE", "STATUS", "CHECK", "FOUND -> FIX"), *cells]

    def is_fit(self, title: str) -> bool:
        """Say whether nothing stops this host from becoming a node."""
        is_seen = any(host.title == title and host.error is None for host in self.fleet.hosts)
        return is_seen and not any(row.host == title and row.status is Status.FAILED for row in self.rows)

    @property
    def exit_code(self) -> int:
        """Return the code of what weighs most: a wrong key, a login, a way, a host not looked at, a failed check; 0."""
        errors = [host.error for host in self.fleet.hosts if host.error is not None]
        for kind in (HostKeyError, LoginError, ReachError):
            if any(isinstance(error, kind) for error in errors):
                return kind.exit_code
        if errors:
            return errors[0].exit_code
        has_failed = any(row.status is Status.FAILED for row in self.rows)
        return PreflightError.exit_code if has_failed else 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data, format 1; this host is in it when something was found about it."""
        with_rows = {row.host for row in self.rows}
        hosts = [host for host in self.fleet.hosts if not host.is_member or host.title in with_rows]
        return {
            "format": 1,
            "exit_code": self.exit_code,
            "hosts": [
                {
                    "host": host.title,
                    "role": host.role,
                    "fit": self.is_fit(host.title),
                    "error": "" if host.error is None else host.error.code(),
                    "findings": [
                        {
                            "id": row.code,
                            "status": row.status.value,
                            "title": row.title,
                            "evidence": row.evidence,
                            "fix": row.fix,
                        }
                        for row in self.rows
                        if row.host == host.title
                    ],
                }
                for host in hosts
            ],
        }


@dataclass(frozen=True)
class _Host:
    """A host that answers: how it is asked, and what it said of itself."""

    title: str
    role: str
    agent: Agent
    answer: Mapping[str, Any]
    is_member: bool = False
    address: str = ""
    troubles: list[InstallerError] = field(default_factory=list)

    def ask(self, request: Mapping[str, Any], read: answers.Read[Answer]) -> Answer | None:
        """Return the answer, or None; why there is none, or another, becomes a finding about this host."""
        try:
            return answers.ask(self.agent, request, read, timeout_s=ASK_TIMEOUT_S)
        except InstallerError as exc:
            self.troubles.append(exc)
            return None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its addresses in the planes; empty when it has none."""
        return self.answer["facts"] or {}

    def address_for(self, port: Port) -> str:
        """Return the address at which others reach a port of it."""
        return str(self.facts[f"{_plane(port)}_address"])

    def interface_for(self, port: Port) -> str:
        """Return the interface at which they arrive."""
        return str(self.facts[f"{_plane(port)}_interface"])


def _plane(port: Port) -> str:
    return port.source if port.source == "workload_plane" else "control_plane"


@contextlib.contextmanager
def connections(
    entries: Sequence[NodeEntry], *, paths: Paths, terminal: Terminal
) -> Iterator[dict[str, Connection | InstallerError]]:
    """Connect to all hosts side by side; title -> connection, or why there is none. Questions come one by one."""
    asked = Asked(terminal)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:

        def connect(entry: NodeEntry) -> Connection | InstallerError:
            try:
                return stack.enter_context(Connection(entry, paths=paths, terminal=asked))
            except InstallerError as exc:
                return exc

        found = [pool.submit(connect, entry) for entry in entries]
        asked.answer(lambda: all(future.done() for future in found))
        yield {entry.title: future.result() for entry, future in zip(entries, found)}


def probe(
    entries: Sequence[NodeEntry],
    connected: Mapping[str, Connection | InstallerError],
    material: Material,
    *,
    say: Callable[[str], None] = lambda _: None,
    paths: Paths | None = None,
) -> Probe:
    """Look at all hosts and between them; this host takes part as a member of the cluster."""
    used = paths or Paths()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:
        say("the preflights of each host")
        here = _here(material, stack, used)
        looked = list(pool.map(lambda entry: _look(entry, connected[entry.title], material, stack), entries))
        hosts = [here, *(host for host in looked if isinstance(host, _Host))]
        say("the clocks of the hosts")
        clocks = {host.title: _clock(host) for host in hosts[1:]}
        ready = [host for host in hosts if host.facts]
        say("the ports between the hosts")
        tried = _try_ports(ready, material.ports, pool)
        say("the largest packet of the workload plane")
        paths_found = _measure_paths(ready, pool)
    seen = [_seen(host, clocks.get(host.title)) for host in hosts]
    seen += [error for error in looked if isinstance(error, Seen)]
    told = {name: address for name, address, _ in other_nodes.known(used)}
    fleet = Fleet(_in_order(seen, entries), tuple(tried), tuple(paths_found), material.members, told)
    gathered = {host.title: host.facts for host in hosts[1:] if host.facts}
    return Probe(fleet, tuple(_rows(fleet, looked, material)), gathered)


def _in_order(seen: Sequence[Seen], entries: Sequence[NodeEntry]) -> tuple[Seen, ...]:
    titles = [HERE, *(entry.title for entry in entries)]
    return tuple(sorted(seen, key=lambda host: titles.index(host.title)))


def _here(material: Material, stack: contextlib.ExitStack, paths: Paths) -> _Host:
    agent = agents.here(material.packed, title=HERE, running_dir=paths.running_dir)
    stack.callback(agent.close)
    name = material.config.node_name or ""
    request = {**_request(material, name, BOOTSTRAP_ROLE), "checks": False}
    answer = answers.ask(agent, request, answers.look(material.config), timeout_s=ASK_TIMEOUT_S)
    return _Host(HERE, BOOTSTRAP_ROLE, agent, answer, is_member=True)


def _look(
    entry: NodeEntry,
    connected: Connection | InstallerError,
    material: Material,
    stack: contextlib.ExitStack,
) -> _Host | Seen:
    if isinstance(connected, InstallerError):
        return Seen(entry.title, entry.role.value, error=connected)
    try:
        agent = _start(entry, connected, material)
        stack.callback(agent.close)
        request = _request(material, entry.name, entry.role.value)
        answer = answers.ask(agent, request, answers.look(material.config), timeout_s=LOOK_TIMEOUT_S)
        return _Host(entry.title, entry.role.value, agent, answer, address=entry.address)
    except InstallerError as exc:
        return Seen(entry.title, entry.role.value, error=exc)


def _start(entry: NodeEntry, connected: Connection, material: Material) -> Agent:
    """Start the installer there; its first words are the host's, too.

    Raises:
        InstallerError: it does not start.
    """
    try:
        return agents.on(connected, material.packed)
    except answers.WRONG as exc:
        raise answers.odd(entry.title, "start", exc) from exc


def _request(material: Material, name: str, role: str) -> dict[str, Any]:
    return {
        "do": "look",
        "config": node_checks.for_checks(material.config),
        "name": name,
        "role": role,
        "product": material.product_text,
        "ports": material.ports_text,
        "with_trials": material.with_trials,
    }


def _clock(host: _Host) -> Clock | None:
    """Ask for the time until an answer was quick enough, at most a few times; the quickest counts."""
    best: Clock | None = None
    for _ in range(CLOCK_QUESTIONS):
        before, started = time.time(), time.monotonic()
        time_s = host.ask({"do": "clock"}, answers.clock)
        took_s = time.monotonic() - started
        if time_s is None:
            return best
        found = Clock(time_s - (before + took_s / 2), took_s / 2)
        if best is None or found.bound_s < best.bound_s:
            best = found
        if best.bound_s < CLOCK_GOOD_BOUND_S:
            break
    return best


# ---- between hosts -------------------------------------------------------------------------------------------


def _try_ports(hosts: Sequence[_Host], ports: Sequence[Port], pool: ThreadPoolExecutor) -> list[Tried]:
    """Let new hosts listen where their node will, and every host connect to the others; return what came of it."""
    new = [host for host in hosts if not host.is_member]
    with contextlib.ExitStack() as stack:
        held: dict[str, list[Mapping[str, Any]]] = {host.title: [] for host in hosts}
        for host, answer in zip(new, pool.map(lambda host: _listen(host, hosts, ports), new)):
            stack.callback(_forget, host)
            held[host.title] = answer
        pairs = [(one, other) for one in hosts for other in hosts if one is not other]
        plans = [(one, other, _targets(one, other, ports, held[other.title])) for one, other in pairs]
        results = [result for found in pool.map(lambda plan: _connect(*plan), plans) for result in found]
        heard = {word for host in new for word in host.ask({"do": "heard"}, answers.heard) or ()}
        return [replace(tried, outcome=OPEN) if word in heard else tried for tried, word in results]


def _listen(host: _Host, hosts: Sequence[_Host], ports: Sequence[Port]) -> list[Mapping[str, Any]]:
    wanted = {
        port.name: port
        for other in hosts
        if other is not host
        for port in needed(ports, other.role, host.role)
    }
    others = [other for other in hosts if other is not host]
    request: dict[str, Any] = {
        "do": "listen",
        "ports": [
            {
                "protocol": port.protocol,
                "address": host.address_for(port),
                "port": port.port,
                "interface": host.interface_for(port),
            }
            for port in wanted.values()
        ],
        "peers": sorted({str(other.facts[key]) for other in others for key in PLANES}),
    }
    held = host.ask(request, answers.listen(request["ports"]))
    return list(request["ports"] if held is None else held)


PLANES = ("control_plane_address", "workload_plane_address")


def _forget(host: _Host) -> None:
    host.ask({"do": "close"}, answers.closed)


def _targets(
    one: _Host, other: _Host, ports: Sequence[Port], held: Sequence[Mapping[str, Any]]
) -> list[tuple[Port, str]]:
    """Return the ports of ``other`` that ``one`` has to reach and that somebody answers on, with their addresses.

    A datagram is answered by our own listener only; a port that another program holds is a finding of its own. A
    member opens etcd to a control plane when that is added, and not before.
    """
    taken = {(port["protocol"], port["port"]) for port in held}
    return [
        (port, other.address_for(port))
        for port in needed(ports, one.role, other.role)
        if (port.protocol, port.port) not in taken
        and not (other.is_member and (port.protocol == "udp" or port.source == CONTROL_PLANES))
    ]


def _connect(one: _Host, other: _Host, targets: Sequence[tuple[Port, str]]) -> list[tuple[Tried, str]]:
    """Return what came of each, with the word that was sent in datagrams."""
    if not targets:
        return []
    asked = [{"protocol": port.protocol, "address": address, "port": port.port} for port, address in targets]
    found = one.ask({"do": "connect", "targets": asked}, answers.connect(len(asked)))
    return [
        (Tried(one.title, other.title, port, address, outcome), word)
        for (port, address), (outcome, word) in zip(targets, found or ())
    ]


def _measure_paths(hosts: Sequence[_Host], pool: ThreadPoolExecutor) -> list[Path]:
    pairs = [(one, other) for one in hosts for other in hosts if one is not other]
    found = pool.map(lambda pair: _measure_path(*pair), pairs)
    return [path for path in found if path is not None]


def _measure_path(one: _Host, other: _Host) -> Path | None:
    mtu: int = one.answer["identity"]["workload_mtu"]
    request = {"do": "path", "address": other.facts["workload_plane_address"], "mtu": mtu}
    passes = one.ask(request, answers.path(mtu))
    return None if passes is None else Path(one.title, other.title, mtu, passes)


# ---- the table -----------------------------------------------------------------------------------------------


def _seen(host: _Host, clock: Clock | None) -> Seen:
    return Seen(
        host.title,
        host.role,
        identity=host.answer["identity"],
        faults=tuple(host.answer["faults"]),
        error=host.troubles[0] if host.troubles else None,
        clock=clock,
        is_member=host.is_member,
        address=host.address,
    )


def _rows(fleet: Fleet, looked: Sequence[_Host | Seen], material: Material) -> Iterator[Row]:
    """Yield all findings, host by host, those of its own checks before those between hosts."""
    ignored = material.config.overrides.ignored
    between: dict[str, list[Row]] = {}
    for check in FLEET_CHECKS:
        for title, finding in check.run(fleet):
            between.setdefault(title, []).append(_row(title, check, finding, ignored))
    yield from between.get(HERE, ())
    for host in looked:
        if isinstance(host, _Host):
            yield from _own_rows(host)
        yield from between.get(host.title, ())


def _row(title: str, check: FleetCheck, finding: Finding, ignored: Mapping[str, str]) -> Row:
    severity = finding.severity or check.severity
    status = Status.FAILED if severity is Severity.ERROR else Status.WARNING
    if check.id in ignored:
        status = Status.IGNORED
    return Row(title, check.id, status, check.title, finding.evidence, finding.fix or check.fix)


def _own_rows(host: _Host) -> Iterator[Row]:
    known = {check.id: check for check in CHECKS}
    for result in host.answer["report"]["checks"]:
        status = Status(result["status"])
        if status in (Status.PASSED, Status.SKIPPED) or result["id"] not in known:
            continue
        fix = "; ".join(result["fix"])
        for evidence in result["evidence"]:
            yield Row(host.title, result["id"], status, known[result["id"]].title, evidence, fix)
