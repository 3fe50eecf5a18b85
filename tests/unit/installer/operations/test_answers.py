# SPDX-License-Identifier: Apache-2.0
"""A host that is looked at says what it likes: of another shape it is an error of that host, and of nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import CommandError, HostError, InstallerError
from installer.base.paths import Paths
from installer.base.run import Conversation
from installer.checks import CHECKS
from installer.checks.preflight import Finding, Report, Result, Status
from installer.config.facts import Facts
from installer.config.nodes import NodeEntry
from installer.engine import agents, pillartop
from installer.engine.agents import Agent
from installer.engine.ssh import Connection
from installer.operations import answers, probe
from tests.unit.installer.helpers import make_config, product_bytes

CONFIG = make_config("node: {name: node1}\n")
CONTROL, WORKLOAD = CONFIG.networks.control_plane_cidrs[0], CONFIG.networks.workload_plane_cidrs[0]
MTU = 1500
NESTED = "[" * 100_000


def facts(number: int, **changes: Any) -> dict[str, Any]:
    found = Facts(
        node_name=f"node{number}",
        control_plane_address=str(CONTROL[number]),
        control_plane_interface="eth0",
        control_plane_cidr=str(CONTROL),
        workload_plane_address=str(WORKLOAD[number]),
        workload_plane_interface="eth1",
        workload_plane_cidr=str(WORKLOAD),
        nameservers=("192.0.2.53",),
        endpoint=CONFIG.endpoint,
    )
    return {**asdict(found), "nameservers": list(found.nameservers), **changes}


def look(number: int, *, facts_too: Any = ..., **changes: Any) -> dict[str, Any]:
    """Return what a good host says of itself, with other parts of its identity."""
    identity = {
        "name": f"node{number}",
        "machine_id": f"{number:032x}",
        "product_uuid": "",
        "addresses": [str(CONTROL[number]), "2001:db8::1"] if number == 1 else [str(CONTROL[number])],
        "hardware_addresses": [f"52:54:00:00:00:{number:02x}"],
        "workload_mtu": MTU,
    }
    report = Report((Result(CHECKS[0], Status.WARNING, (Finding("it is old"),)),)).to_json()
    found = facts(number) if facts_too is ... else facts_too
    return {"report": report, "facts": found, "faults": [], "identity": {**identity, **changes}}


class Scripted:
    """Stands for the agent of a host: it answers as Caisson's does, but for what it lies about."""

    def __init__(self, title: str, number: int, lies: Mapping[str, Any]) -> None:
        self.title = title
        self.number = number
        self.lies = lies

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> Any:
        assert timeout_s > 0
        asked = request["do"]
        if asked in self.lies:
            said = self.lies[asked]
            return said(request) if callable(said) else json.loads(json.dumps(said))
        count = len(request.get("targets", ()))
        said = {
            "clock": {"time_s": time.time()},
            "listen": {"held": []},
            "connect": {"outcomes": ["open"] * count, "words": ["ab" * 8] * count},
            "heard": {"words": []},
            "path": {"passes": MTU},
            "close": {},
        }
        return look(self.number) if asked == "look" else said[asked]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def probed(
    monkeypatch: pytest.MonkeyPatch, repository_dir: Path, tmp_path: Path
) -> Callable[[Mapping[str, Any]], probe.Probe]:
    """Return a look at two hosts, of which the first lies as it is told."""
    entries = [NodeEntry(str(CONTROL[number]), name=f"node{number}") for number in (2, 3)]
    ports = (repository_dir / "salt/parameters/ports.yaml").read_text()
    material = probe.Material(
        CONFIG, product_bytes().decode(), ports, b"", {"node1": "", "worker1": "ab" * 16}
    )

    def probe_with(lies: Mapping[str, Any]) -> probe.Probe:
        hosts = {
            entry.title: Scripted(entry.title, number, {})
            for entry, number in zip(entries, (2, 3), strict=True)
        }
        hosts[entries[0].title].lies = lies

        def on(connected: Any, _: bytes) -> Any:
            host = hosts[connected]
            if "start" in host.lies:
                raise host.lies["start"]
            return host

        monkeypatch.setattr(agents, "here", lambda *_, **__: Scripted(probe.HERE, 1, {}))
        monkeypatch.setattr(agents, "on", on)
        connected = {entry.title: cast("Connection", entry.title) for entry in entries}
        return probe.probe(entries, connected, material, paths=Paths(tmp_path))

    return probe_with


LIAR, OTHER = f"node2 ({CONTROL[2]})", f"node3 ({CONTROL[3]})"


def test_two_good_hosts(probed: Callable[[Mapping[str, Any]], probe.Probe]) -> None:
    found = probed({})
    assert [row.evidence for row in found.rows] == ["it is old", "it is old"]
    assert found.is_fit(LIAR)
    assert found.is_fit(OTHER)
    assert found.facts[LIAR] == facts(2)
    assert found.exit_code == 0


def test_a_node_under_another_host_name_is_known_by_where_it_is_reached(
    probed: Callable[[Mapping[str, Any]], probe.Probe], tmp_path: Path
) -> None:
    """What this host told its nodes says which address is whose."""
    told = {"name": "worker1", "role": "worker", "control_plane_address": str(CONTROL[2])}
    pillartop.write(Paths(tmp_path), "node1", {"node": told})
    found = probed({"look": look(2, machine_id="ab" * 16)})
    (row,) = [row for row in found.rows if row.code == "CSN612"]
    assert (row.host, row.evidence) == (LIAR, "this is worker1, whose host name is now node2")
    assert row.fix == "give --name worker1"


LIES: dict[str, dict[str, Any]] = {
    "no object": {"look": ["report", "facts"]},
    "a number": {"look": 17},
    "a text with a fault in it": {"look": "fault"},
    "nothing of it": {"look": {}},
    "a status that is none": {
        "look": {**look(2), "report": {**look(2)["report"], "checks": [{"id": "CSN101", "status": "fine"}]}}
    },
    "evidence that is a number": {"look": {**look(2), "faults": [1]}},
    "faults that are a text": {"look": {**look(2), "faults": "none"}},
    "an identity that is a list": {"look": {**look(2), "identity": []}},
    "an address that is a rule": {
        "look": look(2, facts_too=facts(2, control_plane_address="0.0.0.0/0 accept"))
    },
    "an address of nobody here": {"look": look(2, facts_too=facts(2, control_plane_address="203.0.113.9"))},
    "a network of its own": {
        "look": look(
            2, facts_too=facts(2, control_plane_address="203.0.113.9", control_plane_cidr="203.0.113.0/24")
        )
    },
    "an IPv6 address": {"look": look(2, facts_too=facts(2, workload_plane_address="2001:db8::2"))},
    "a name that is a path": {"look": look(2, facts_too=facts(2, node_name="../../root"))},
    "an interface that is an option": {
        "look": look(2, facts_too=facts(2, control_plane_interface="eth0 --permanent"))
    },
    "an endpoint of its own": {"look": look(2, facts_too=facts(2, endpoint="api.elsewhere"))},
    "an address of no kind": {"look": look(2, addresses=["here"])},
    "an MTU in words": {"look": look(2, workload_mtu="large")},
    "an MTU that is true": {"look": look(2, workload_mtu=True)},
    "a time in words": {"clock": {"time_s": "noon"}},
    "no time": {"clock": {}},
    "a time that is no number": {"clock": lambda _: {"time_s": float("nan")}},
    "a time that never ends": {"clock": lambda _: {"time_s": 10**400}},
    "ports that are none": {"listen": {"held": [{"protocol": "tcp", "port": "ssh"}]}},
    "ports nobody asked for": {"listen": {"held": [{"protocol": "tcp", "port": 22}]}},
    "held by a number": {"listen": {"held": 5}},
    "outcomes of another kind": {
        "connect": lambda asked: {
            "outcomes": ["splendid"] * len(asked["targets"]),
            "words": [""] * len(asked["targets"]),
        }
    },
    "fewer outcomes": {"connect": {"outcomes": [], "words": []}},
    "words that are lists": {"heard": {"words": [["ab"]]}},
    "a packet larger than any": {"path": {"passes": MTU + 1}},
    "a packet in words": {"path": {"passes": "all"}},
    "a start that is no JSON": {"start": ValueError("Expecting value: line 1 column 1 (char 0)")},
    "brackets at the start": {"start": RecursionError("maximum recursion depth exceeded")},
}


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
def test_a_host_that_lies_is_a_row_and_the_others_are_looked_at(
    probed: Callable[[Mapping[str, Any]], probe.Probe], lies: Mapping[str, Any]
) -> None:
    found = probed(lies)
    assert not found.is_fit(LIAR)
    assert found.is_fit(OTHER)
    assert OTHER in found.facts
    said = [row for row in found.rows if row.host == LIAR and row.code == "CSN604"]
    assert len(said) == 1
    assert "as Caisson does" in said[0].evidence
    assert all(cell.isprintable() for row in found.table() for cell in row)
    assert found.exit_code == HostError.exit_code
    assert {host["host"] for host in found.to_json()["hosts"]} == {LIAR, OTHER}


def test_no_character_of_an_answer_moves_the_cursor(
    probed: Callable[[Mapping[str, Any]], probe.Probe],
) -> None:
    said = look(2, machine_id="\x1b[2J")
    said["report"]["checks"][0]["evidence"] = ["\x1b]0;all is well\x07"]
    said["faults"] = ["\r\x1b[A"]
    found = probed({"look": said})
    assert all(cell.isprintable() for row in found.table() for cell in row)
    found = probed({"look": "\x1b[2J"})
    assert all(cell.isprintable() for row in found.table() for cell in row)

    def fail(_: object) -> None:
        raise CommandError("'clock' failed", details="\x1b[2J\n\x07")

    found = probed({"clock": fail})
    assert all(cell.isprintable() for row in found.table() for cell in row)


class Lines:
    """Stands for a conversation in which these lines are said."""

    returncode, said = None, ""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def tell(self, data: bytes) -> None:
        """Take it."""

    def hear(self, *, timeout_s: float) -> bytes | None:
        return self.lines.pop(0).encode() if self.lines and timeout_s else None


@pytest.mark.parametrize("line", ["", "{", "[1]", "17", '"fault"', '["fault"]', '{"time_s": 1e999}', NESTED])
def test_a_line_that_is_no_answer(line: str) -> None:
    agent = Agent("node2", cast("Conversation", Lines(f"mark {line}", 'mark {"time_s": 5}')), "mark")
    with pytest.raises(InstallerError, match="node2 does not answer to 'clock' as Caisson does") as caught:
        answers.ask(agent, {"do": "clock"}, answers.clock, timeout_s=5)
    assert caught.value.details
    assert caught.value.resolution
    assert answers.ask(agent, {"do": "clock"}, answers.clock, timeout_s=5) == 5
