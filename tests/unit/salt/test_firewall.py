# SPDX-License-Identifier: Apache-2.0
"""The state that loads the port table, against a firewalld whose files are one dictionary and what runs another."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.salt.test_modules import load as load_module

SALT_DIR = Path(__file__).parents[3] / "salt"
OPENINGS = [{"family": "ipv4", "cidr": "10.77.1.0/24", "port": 6443, "protocol": "tcp"}]
RULE = 'rule family="ipv4" source address="10.77.1.0/24" port port="6443" protocol="tcp" accept'
POD_INTERFACES = ["cali+", "vxlan.calico"]
ZONE: dict[str, Any] = {"target": "ACCEPT", "forward": False, "interfaces": ["cali+", "vxlan.calico"]}
POLICY: dict[str, Any] = {
    "target": "CONTINUE",
    "ingress_zones": ["HOST"],
    "egress_zones": ["ANY"],
    "rich_rules": ['rule family="ipv4" destination address="10.96.0.0/12" drop'],
}
NODES: dict[str, Any] = {
    "target": "CONTINUE",
    "priority": -100,
    "ingress_zones": ["ANY"],
    "egress_zones": ["HOST"],
    "rich_rules": [RULE],
}
TYPES = {str: "s", int: "i", bool: "b", list: "as"}


def answer(data: Any) -> str:
    """Return an answer as 'busctl --json=short' prints it; a dictionary holds variants, each with its type."""
    if isinstance(data, dict):
        data = [{key: {"type": TYPES[type(value)], "data": value} for key, value in data.items()}]
    return json.dumps({"type": "a{sv}", "data": data})


@dataclass
class Firewalld:
    """What firewalld answers: what runs, and (``files_nodes``) what a reload makes of the policy of nodes."""

    files_nodes: dict[str, Any] = field(default_factory=lambda: NODES)
    nodes: dict[str, Any] = field(default_factory=dict)
    zone: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    state: str | None = "RUNNING"
    taken: dict[str, str] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)

    def run_all(self, command: list[str], **_: Any) -> dict[str, Any]:
        """Answer one call."""
        words = [word for word in command if not word.startswith(("--system", "--auto", "--json", "--time"))]
        self.calls.append(words)
        out = self._reloaded() if words == ["firewall-cmd", "--reload"] else self._answer(words)
        return {"retcode": 0 if out is not None else 1, "stdout": out or "", "stderr": ""}

    def _reloaded(self) -> str:
        self.nodes, self.zone, self.policy = self.files_nodes, ZONE, POLICY
        return "success"

    def _answer(self, words: list[str]) -> str | None:
        last = words[-1]
        if last == "state":
            return None if self.state is None else answer(self.state)
        if "getZoneOfInterface" in words:
            return answer([self.taken.get(last, "")])
        found = {"caisson-pods": self.zone, "caisson-services": self.policy, "caisson-nodes": self.nodes}[
            last
        ]
        return answer(found) if found else None

    @property
    def changes(self) -> list[list[str]]:
        """Return the calls that change something."""
        return [call for call in self.calls if call[0] != "busctl"]


def load(directory: str) -> ModuleType:
    """Import the module or the state of the firewall by its file."""
    spec = importlib.util.spec_from_file_location(
        f"firewall{directory}", SALT_DIR / directory / "caisson_firewall.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state_of(firewalld: Firewalld, *, test: bool = False) -> Any:
    """Return the state, wired to a firewalld as Salt's loader would."""
    module, state = load("_modules"), load("_states")
    module.__dict__["__salt__"] = {"cmd.run_all": firewalld.run_all}
    names = ("foreign_zones", "is_active", "is_loaded", "command")
    state.__dict__["__salt__"] = {f"caisson_firewall.{name}": getattr(module, name) for name in names}
    state.__dict__["__salt__"]["caisson_result.ensure"] = load_module("caisson_result").ensure
    state.__dict__["__opts__"] = {"test": test}
    return state


def loaded(firewalld: Firewalld, *, test: bool = False) -> dict[str, Any]:
    """Apply the state once."""
    result: dict[str, Any] = state_of(firewalld, test=test).loaded(
        "x", OPENINGS, POD_INTERFACES, "10.96.0.0/12"
    )
    return result


def test_what_the_files_say_is_loaded_and_then_it_is_quiet() -> None:
    firewalld = Firewalld()
    assert loaded(firewalld)["changes"] == {"firewalld": "reloaded"}
    firewalld.calls.clear()
    assert (loaded(firewalld)["changes"], firewalld.changes) == ({}, [])


@pytest.mark.parametrize(
    "nodes",
    [
        {},
        {**NODES, "ingress_zones": ["public"]},
        {**NODES, "target": "DROP"},
        {**NODES, "priority": -1},
        {**NODES, "rich_rules": []},
        {**NODES, "rich_rules": [RULE, RULE.replace("10.77.1.0/24", "10.0.0.0/8")]},
    ],
)
def test_an_opening_less_or_more_is_loaded_again(nodes: dict[str, Any]) -> None:
    """As a kill before the reload leaves them; a range that was narrowed is one too many."""
    firewalld = Firewalld(nodes=nodes, zone=ZONE, policy=POLICY)
    assert loaded(firewalld)["changes"] == {"firewalld": "reloaded"}
    assert firewalld.nodes == NODES


def test_a_reload_that_does_not_help_is_an_error() -> None:
    """Where somebody's hook writes the file again, say."""
    result = loaded(Firewalld(files_nodes={**NODES, "ingress_zones": ["public"]}))
    assert result["result"] is False
    assert "does not hold what" in result["comment"]


def test_openings_name_their_source_once() -> None:
    ports = [
        {"port": 4789, "protocol": "udp", "source": "workload_plane", "roles": ["bootstrap", "worker"]},
        {"port": 6443, "protocol": "tcp", "source": "control_plane", "roles": ["bootstrap"]},
        {"port": 9, "protocol": "tcp", "source": "local", "roles": ["bootstrap"]},
    ]
    module = load("_modules")
    planes = {"control_plane": ["10.0.0.0/24", "fd00::/64"], "workload_plane": ["10.1.0.0/16"]}
    made = module.openings(ports, planes, "bootstrap")
    assert [module.rich_rule(opening) for opening in made] == [
        'rule family="ipv4" source address="10.0.0.0/24" port port="6443" protocol="tcp" accept',
        'rule family="ipv4" source address="10.1.0.0/16" port port="4789" protocol="udp" accept',
        'rule family="ipv6" source address="fd00::/64" port port="6443" protocol="tcp" accept',
    ]
    twice = module.openings(ports[1:2] * 2, {"control_plane": ["10.0.0.0/24"] * 2}, "bootstrap")
    assert len(twice) == 1
    worker = module.openings(ports, planes, "worker")
    assert [(opening["port"], opening["cidr"]) for opening in worker] == [(4789, "10.1.0.0/16")]


def test_vrrp_is_open_to_each_peer_and_to_nobody_else() -> None:
    """In the words in which firewalld shows a rule without ports."""
    module = load("_modules")
    made = module.openings([], {"control_plane": ["10.0.0.0/24"]}, "bootstrap", ["10.0.0.13", "10.0.0.14"])
    assert [module.rich_rule(opening) for opening in made] == [
        'rule family="ipv4" source address="10.0.0.13/32" protocol value="vrrp" accept',
        'rule family="ipv4" source address="10.0.0.14/32" protocol value="vrrp" accept',
    ]


@pytest.mark.parametrize(
    ("zone", "policy"),
    [
        ({}, POLICY),
        (ZONE, {}),
        ({**ZONE, "target": "DROP"}, POLICY),
        ({**ZONE, "interfaces": ["vxlan.calico"]}, POLICY),
        (ZONE, {**POLICY, "ingress_zones": []}),
        (ZONE, {**POLICY, "rich_rules": [POLICY["rich_rules"][0].replace("10.96", "10.97")]}),
        (ZONE, {**POLICY, "rich_rules": POLICY["rich_rules"] * 2}),
    ],
)
def test_a_zone_or_a_policy_that_runs_otherwise_is_loaded_again(
    zone: dict[str, Any], policy: dict[str, Any]
) -> None:
    firewalld = Firewalld(nodes=NODES, zone=zone, policy=policy)
    assert loaded(firewalld)["changes"] == {"firewalld": "reloaded"}


def test_a_run_that_changes_nothing_starts_no_firewall_cmd() -> None:
    """Each is a Python of its own, for 0.3 s."""
    firewalld = Firewalld(nodes=NODES, zone=ZONE, policy=POLICY)
    state_of(firewalld).fit("x", POD_INTERFACES)
    loaded(firewalld)
    assert {call[0] for call in firewalld.calls} == {"busctl"}


def test_a_trial_run_says_what_would_change_and_changes_nothing() -> None:
    firewalld = Firewalld()
    result = loaded(firewalld, test=True)
    assert result["result"] is None
    assert result["changes"] == {"firewalld": "reloaded"}
    assert firewalld.changes == []


@pytest.mark.parametrize(("running", "result"), [(None, True), ("INIT", True), ("FAILED", False)])
def test_a_firewalld_that_is_off_is_left_alone_and_one_that_fell_back_is_an_error(
    running: str | None, result: bool
) -> None:
    firewalld = Firewalld(state=running)
    assert loaded(firewalld)["result"] is result
    assert state_of(firewalld).fit("x", POD_INTERFACES)["result"] is result
    assert {call[-1] for call in firewalld.calls} == {"state"}


def test_an_interface_of_another_zone_is_refused_with_the_command_that_frees_it() -> None:
    firewalld = Firewalld(taken={"cali+": "trusted", "vxlan.calico": "caisson-pods"})
    result = state_of(firewalld).fit("x", POD_INTERFACES)
    assert result["result"] is False
    assert result["comment"] == (
        "cali+ is bound to the zone trusted: firewall-cmd --permanent --zone=trusted --remove-interface=cali+"
    )
    assert state_of(Firewalld()).fit("x", POD_INTERFACES)["result"] is True


def test_the_ban_that_the_docs_give_comes_before_our_policy() -> None:
    """A policy of a lower number is asked first; reject and drop of a zone come after ours."""
    root = Path(__file__).parents[3]
    template = (root / "salt/firewall/files/caisson-nodes.xml.j2").read_text(encoding="utf-8")
    page = (root / "docs/reference/ports.md").read_text(encoding="utf-8")
    own = re.findall(r'priority="(-?\d+)"', template)
    ban = re.findall(r"--set-priority=(-?\d+)", page)
    assert [len(own), len(ban)] == [1, 1]
    assert int(ban[0]) < int(own[0])
