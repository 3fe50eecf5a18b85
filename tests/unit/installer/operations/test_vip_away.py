# SPDX-License-Identifier: Apache-2.0
"""Sending the virtual address away: refused where nobody could take it, undone when nobody took it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError, HostError, UsageError
from installer.base.paths import Paths
from installer.operations import vip_away, vip_state

VIP, PORT = "10.77.1.100", 6443
NODES = {"node1": "10.77.1.11", "node3": "10.77.1.13"}


def listed() -> list[dict[str, str]]:
    """Return the control planes as Salt is given them."""
    return [{"name": name, "address": address} for name, address in NODES.items()]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(root=tmp_path)


def told(paths: Paths, name: str = "node1", vip: str | None = VIP) -> None:
    """Write what Salt was given last."""
    caisson = {"networks": {"vip": vip}, "node": {"name": name}, "control_planes": listed()}
    paths.pillar_dir.mkdir(parents=True, exist_ok=True)
    (paths.pillar_dir / "caisson.sls").write_text("#!json\n" + json.dumps({"caisson": caisson}))


def neighbours(
    monkeypatch: pytest.MonkeyPatch, paths: Paths, *, ready: tuple[str, ...], takes: bool = True
) -> list[str]:
    """Pretend what other nodes do; return whom of them was asked."""
    asked: list[str] = []

    def is_ready(_paths: Paths, address: str, _port: int) -> bool:
        asked.append(address)
        return address in ready

    monkeypatch.setattr(vip_away, "_is_ready", is_ready)
    monkeypatch.setattr(vip_state, "is_here", lambda _: not (takes and vip_away.is_away(paths)))
    monkeypatch.setattr(vip_state, "certificate", lambda *_: b"one")
    monkeypatch.setattr(vip_away, "MOVE_LIMIT_S", 0.3)
    return asked


def send(paths: Paths) -> bool:
    said: list[Any] = []
    return vip_away.send_away(paths, PORT, say=said.append)


def test_it_moves_and_is_kept_away(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    told(paths)
    asked = neighbours(monkeypatch, paths, ready=("10.77.1.13",))
    assert send(paths) is True
    assert asked == ["10.77.1.13"]
    assert paths.at("/run/caisson-vip/away").read_text() == "1\n"
    assert send(paths) is False
    assert vip_away.take_back(paths) is True
    assert vip_away.take_back(paths) is False
    assert paths.at("/run/caisson-vip/away").read_text() == "0\n"


def test_it_stays_where_nobody_could_take_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    told(paths)
    neighbours(monkeypatch, paths, ready=())
    with pytest.raises(ClusterError, match="no other control plane can take") as caught:
        send(paths)
    assert "node3" in (caught.value.details or "")
    assert not vip_away.is_away(paths)


def test_nobody_took_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that stayed unfit could not hold it either."""
    told(paths)
    neighbours(monkeypatch, paths, ready=("10.77.1.13",), takes=False)
    with pytest.raises(ClusterError, match="took the virtual address"):
        send(paths)
    assert not vip_away.is_away(paths)


def test_only_where_there_is_one(paths: Paths) -> None:
    for command in (send, vip_away.take_back):
        with pytest.raises(UsageError, match="no virtual address"):
            command(paths)
    told(paths, vip=None)
    with pytest.raises(UsageError, match="no virtual address"):
        send(paths)
    told(paths, name="worker")
    with pytest.raises(HostError, match="no control plane"):
        send(paths)
