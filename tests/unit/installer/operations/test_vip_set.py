# SPDX-License-Identifier: Apache-2.0
"""An address that somebody has is refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from installer.base.errors import ClusterError, ConfigError, HostError
from installer.base.paths import Paths
from installer.checks import neighbours
from installer.operations import vip_set, vip_state
from tests.unit.installer.helpers import make_facts

VIP = "10.77.1.100"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path)


def network(monkeypatch: pytest.MonkeyPatch, *, here: bool = False, owner: str = "") -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    def find_owner(address: str, interface: str) -> str:
        asked.append((address, interface))
        return owner

    monkeypatch.setattr(neighbours, "find_owner", find_owner)
    monkeypatch.setattr(vip_state, "is_here", lambda _: here)
    return asked


def test_a_free_one(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = network(monkeypatch)
    vip_set.refuse(paths, VIP, make_facts())
    assert asked == [(VIP, "eth0")]


def test_that_of_another_host(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, owner="02:61:62:63:64:65")
    with pytest.raises(HostError, match=f"another host has {VIP}") as caught:
        vip_set.refuse(paths, VIP, make_facts())
    assert "02:61:62:63:64:65 answers for it on eth0" in (caught.value.details or "")


def test_one_of_this_host(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, here=True)
    with pytest.raises(HostError, match="an address of this host"):
        vip_set.refuse(paths, VIP, make_facts())


def test_one_of_another_network(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one of the CIDRs: of those, the host is in one."""
    asked = network(monkeypatch)
    with pytest.raises(ConfigError, match=r"not in 10\.77\.1\.0/24, where this host is"):
        vip_set.refuse(paths, "192.0.2.9", make_facts())
    assert asked == []


def record(paths: Paths, vip: str | None, *names: str) -> None:
    """Let Salt have been given an address and control planes, of which node1 is this host."""
    planes = [{"name": name, "address": f"10.77.1.1{number}"} for number, name in enumerate(names, 1)]
    caisson = {"networks": {"vip": vip}, "node": {"name": "node1"}, "control_planes": planes}
    paths.pillar_dir.mkdir(parents=True)
    (paths.pillar_dir / "caisson.sls").write_text(f"#!json\n{json.dumps({'caisson': caisson})}")


@pytest.mark.parametrize(("now", "address"), [(None, VIP), (VIP, ""), (VIP, "10.77.1.101")])
def test_further_control_planes_were_made_for_what_is(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, now: str | None, address: str
) -> None:
    asked = network(monkeypatch)
    record(paths, now, "node1", "node2", "node3")
    with pytest.raises(ClusterError, match=now or "there is none") as caught:
        vip_set.refuse(paths, address, make_facts())
    assert "node2, node3: " in (caught.value.details or "")
    assert "caisson node remove" in caught.value.resolution
    assert asked == []


@pytest.mark.parametrize(("now", "address"), [(None, ""), (VIP, VIP)])
def test_no_change_is_refused_to_nobody(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, now: str | None, address: str
) -> None:
    asked = network(monkeypatch, here=True, owner="02:61:62:63:64:65")
    record(paths, now, "node1", "node2")
    vip_set.refuse(paths, address, make_facts())
    assert asked == []


@pytest.mark.parametrize(("now", "address"), [(None, VIP), (VIP, ""), (VIP, "10.77.1.101")])
def test_alone_it_may_be_changed(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, now: str | None, address: str
) -> None:
    asked = network(monkeypatch)
    record(paths, now, "node1")
    vip_set.refuse(paths, address, make_facts())
    assert [place for place, _ in asked] == ([address] if address else [])


def test_that_of_the_control_plane_itself(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has it by then: this node, or another control plane."""
    asked = network(monkeypatch, here=True, owner="02:61:62:63:64:65")
    paths.pillar_dir.mkdir(parents=True)
    text = json.dumps({"caisson": {"networks": {"vip": VIP}}})
    (paths.pillar_dir / "caisson.sls").write_text(f"#!json\n{text}")
    vip_set.refuse(paths, VIP, make_facts())
    assert asked == []
