# SPDX-License-Identifier: Apache-2.0
"""The other nodes: each a row, also one that is off, one that says nothing and one that says what it must not."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import CommandError
from installer.base.paths import Paths
from installer.engine import jobrecord, pillartop
from installer.engine.jobrecord import Request
from installer.operations import bus, other_nodes, schemas
from tests.unit.installer.workers import own, pillar

pytestmark = pytest.mark.loopback
NODE_SCHEMA = {**schemas.load("status"), "$ref": "#/definitions/other_node", "oneOf": [{}]}


class Site:
    """The bootstrap node's files about its further nodes, and what their minions say."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self.paths = Paths(root)
        self.said: dict[str, Any] | None = {}
        self.asked: list[tuple[Any, ...]] = []

    def add(self, name: str, *, address: str = "127.0.0.1", has_key: bool = True) -> None:
        told = pillar(self.root)
        told["node"] = {**told["node"], "name": name, "control_plane_address": address}
        pillartop.write(self.paths, "node1", told)
        keys = self.paths.at("/etc/caisson/salt/pki/master/minions")
        keys.mkdir(parents=True, exist_ok=True)
        if has_key:
            (keys / name).write_text("key")

    def ask(self, names: Any, *words: Any, **bounds: Any) -> Any:
        self.asked.append((tuple(names), *words))
        assert bounds["timeout_s"] < bounds["limit_s"] < 10
        return self.said

    def look(self, **options: Any) -> dict[str, other_nodes.OtherNode]:
        found = other_nodes.ask_nodes(self.paths, self.port, **options)
        for node in found:
            jsonschema.validate(json.loads(json.dumps(node.to_json())), NODE_SCHEMA)
        return {node.name: node for node in found}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as kubelet:
        found = Site(tmp_path, kubelet.getsockname()[1])
        monkeypatch.setattr(bus, "ask_all", found.ask)
        monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
        yield found


def texts(node: other_nodes.OtherNode) -> list[str]:
    return [fault.text for fault in node.faults]


def test_without_further_nodes_nobody_is_asked(site: Site) -> None:
    assert site.look() == {}
    assert site.asked == []


def test_a_good_node_is_a_row(site: Site) -> None:
    site.add("node2")
    site.said = {"node2": own()}
    node = site.look()["node2"]
    assert node.faults == ()
    assert dict(zip(other_nodes.HEADING, node.cells, strict=True)) == {
        "NAME": "node2",
        "ROLE": "worker",
        "ADDRESS": "127.0.0.1",
        "REACHED": "yes",
        "KEY": "accepted",
        "MINION": "answers",
        "SERVICES": "all active",
        "MEDIA": "HTTP 200",
        "CERTIFICATE ENDS": "2027-11-27",
    }
    assert site.asked == [(("node2",), "caisson_node.look")]


def test_one_that_is_off_one_that_is_silent_and_one_without_a_key(site: Site) -> None:
    """A cause hides what follows from it: of a host that is off nobody has to restart the minion."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()[1]
    site.add("node2")
    site.add("node3")
    site.add("node4", has_key=False)
    site.said = {"node2": own()}
    found = site.look()
    assert texts(found["node2"]) == []
    assert texts(found["node3"]) == ["the salt-minion of node3 does not answer"]
    assert texts(found["node4"]) == ["the salt-master does not know the key of node4"]
    assert found["node4"].cells[4] == "NOT ACCEPTED"
    site.port = closed
    off = site.look()["node3"]
    assert texts(off) == [f"node node3 cannot be reached: 127.0.0.1:{closed}: Connection refused"]
    assert off.cells[6:] == ("-", "-", "-")


def test_a_removal_that_was_cut_is_to_be_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is reset by half, its key is forgotten: to add it again would be the wrong way."""
    removal = "its removal was not finished: caisson node remove node2"
    with socket.create_server(("127.0.0.1", 0)) as other:
        site.port = other.getsockname()[1]
    site.add("node2", has_key=False)
    site.add("node3")
    (without_job,) = site.look(only="node2").values()
    assert [fault.fix for fault in without_job.faults] == [other_nodes.REACH_FIX, other_nodes.ADD_FIX]
    for name in ("node2", "node3"):
        request = Request("node-remove", {"host": {"name": name}}, ("caisson", "node", "remove", name))
        jobrecord.prepare(site.paths, request, is_active=lambda _: False)
    found = site.look()
    assert [fault.fix for fault in found["node2"].faults] == [removal, removal]
    # One whose key is known may be off for another reason: its pods did not move away, say.
    assert [fault.fix for fault in found["node3"].faults] == [
        f"{removal.replace('node2', 'node3')}; or {other_nodes.REACH_FIX}"
    ]


def test_its_own_faults_are_told_with_its_name(site: Site) -> None:
    site.add("node2")
    site.said = {"node2": own(faults=[{"text": "kubelet.service is failed", "fix": "restart it"}])}
    (fault,) = site.look()["node2"].faults
    assert (fault.text, fault.fix) == ("node2: kubelet.service is failed", "on node2: restart it")


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):\n  File ...",
        {"format": 1},
        own(certificates=[{"file": 1}]),
        own(services=["x"]),
        own(node={"name": "node2"}),
        17,
    ],
)
def test_what_has_another_shape_is_no_answer(site: Site, said: Any) -> None:
    site.add("node2")
    site.said = {"node2": said}
    node = site.look()["node2"]
    assert node.own == {}
    assert node.minion.startswith("says something else: ")
    assert "\n" not in node.minion
    assert len(node.faults) == 1


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "said",
    [
        nested(900),
        nested(5000),
        {**own(), "disks": nested(900)},
        own(disks=[{**own()["disks"][0], "free_percent": float("nan")}]),
        own(disks=[{**own()["disks"][0], "free_percent": float("inf")}]),
        own(disks=[{**own()["disks"][0], "size_bytes": 10**400}]),
        own(certificates=[{**own()["certificates"][0], "days_left": -(10**400)}]),
    ],
    ids=["deep", "deeper", "deep within", "no number", "without an end", "too large", "too small"],
)
def test_what_could_not_even_be_shown_is_no_answer_and_hides_no_other_node(site: Site, said: Any) -> None:
    """Neither as a table nor as JSON."""
    site.add("node2")
    site.add("node3")
    site.said = {"node2": said, "node3": own()}
    found = site.look()
    assert found["node2"].own == {}
    assert found["node2"].minion.startswith("says something else: ")
    assert found["node2"].minion.isprintable()
    assert found["node3"].faults == ()


def test_no_character_of_it_moves_the_cursor(site: Site) -> None:
    site.add("node2")
    text = "\x1b[2J\x1b]0;all is well\x07bad\r\n"
    site.said = {"node2": own(firewall=text, faults=[{"text": text, "fix": text}])}
    node = site.look()["node2"]
    shown = json.dumps(node.to_json(), ensure_ascii=False) + "".join(
        fault.text + fault.fix for fault in node.faults
    )
    assert shown.isprintable()
    assert "all is well" in node.own["firewall"]


@pytest.mark.parametrize("has_master", [True, False])
def test_a_bus_that_is_down_is_said_and_is_no_fault_of_the_nodes(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, has_master: bool
) -> None:
    site.add("node2")
    site.said = None

    def hang(*_: Any, **__: Any) -> Any:
        raise CommandError("'crictl' did not finish within 9 s")

    if has_master:
        monkeypatch.setattr(bus, "ask_all", hang)
    node = site.look()["node2"]
    assert node.minion.startswith("not known: ")
    assert node.faults == ()


def test_on_a_busy_host_silence_is_no_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    site.add("node2")
    node = site.look()["node2"]
    assert "load" in node.minion
    assert node.faults == ()


def test_a_look_that_hangs_ends_with_its_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "ask_all", lambda *_, **__: time.sleep(60))
    site.add("node2")
    started = time.monotonic()
    assert site.look(limit_s=0.2)["node2"].minion.startswith("not known")
    assert time.monotonic() - started < 10


def test_only_one_is_asked(site: Site) -> None:
    site.add("node2")
    site.add("node3.example")
    site.said = {"node3.example": own()}
    assert list(site.look(only="node3.example")) == ["node3.example"]
    assert site.asked == [(("node3.example",), "caisson_node.look")]


def test_who_has_the_virtual_address(site: Site) -> None:
    site.add("node2")
    said = own()
    said["node"]["addresses"] = ["10.77.1.12", "10.77.1.100"]
    site.said = {"node2": said}
    nodes = list(site.look().values())
    assert other_nodes.holders("10.77.1.100", ["10.77.1.11"], "node1", nodes) == ["node2"]
    assert other_nodes.holders("10.77.1.11", ["10.77.1.11"], "node1", nodes) == ["node1"]
    assert other_nodes.holders("10.77.1.101", [], "node1", nodes) == []
