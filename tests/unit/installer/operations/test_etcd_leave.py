# SPDX-License-Identifier: Apache-2.0
"""Which member may be taken out of etcd, and when the rest has settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config.nodes import NodeEntry
from installer.engine.ssh import Connection
from installer.operations import etcd_gate, etcd_leave, etcd_state
from installer.operations.etcd_gate import Health, Member, Seen
from installer.operations.leaving import Leaving
from tests.unit.installer.helpers import make_context


def _member(number: int, *, is_learner: bool = False, has_started: bool = True) -> Member:
    name = f"node{number}" if has_started else ""
    return Member(number, name, is_learner, (f"https://10.77.1.{number}:2380",))


def _seen(*members: Member, silent: tuple[str, ...] = (), leader: int = 1) -> Seen:
    health = {m.name: None if m.name in silent else Health(leader, 7) for m in members if m.name}
    return Seen(members, (), health)


def _leaving(number: int) -> Leaving:
    return Leaving(NodeEntry(f"10.77.1.{number}", name=f"node{number}"))


ONE, TWO, THREE, FOUR = (_member(number) for number in (1, 2, 3, 4))


def test_a_member_is_found_by_its_name_or_where_it_never_started_by_its_address() -> None:
    unstarted = _member(3, has_started=False)
    assert etcd_leave.member_of("node2", ("10.77.1.2",), (ONE, TWO)) == TWO
    assert etcd_leave.member_of("node3", ("192.0.2.9", "10.77.1.3"), (ONE, unstarted)) == unstarted
    assert etcd_leave.member_of("node4", ("10.77.1.4",), (ONE, TWO, THREE)) is None
    assert (
        etcd_leave.member_of("node1", ("10.77.1.1",), (_member(11), _member(12, has_started=False))) is None
    )
    assert etcd_leave.member_of("nobody", ("", ""), (ONE, unstarted)) is None


def test_the_member_of_another_node_is_not_taken_for_its_address() -> None:
    """Somebody is logged in to at an address that is another node's by now."""
    assert etcd_leave.member_of("node5", ("10.77.1.2",), (ONE, TWO)) is None


@pytest.mark.parametrize(
    ("members", "silent", "leaves", "is_refused"),
    [
        ((ONE, TWO, THREE), (), 3, False),
        ((ONE, TWO), (), 2, False),
        ((ONE,), (), 1, True),
        ((ONE, TWO, THREE), ("node3",), 3, False),
        ((ONE, TWO, THREE), ("node3",), 2, True),
        ((ONE, TWO, THREE, FOUR), ("node4",), 3, False),
        ((ONE, TWO, THREE, FOUR), ("node4", "node2"), 3, True),
        ((ONE, _member(2, is_learner=True)), (), 2, False),
        ((ONE, TWO, _member(3, has_started=False)), (), 2, True),
    ],
)
def test_the_rest_must_have_a_quorum_of_its_own(
    members: tuple[Member, ...], silent: tuple[str, ...], leaves: int, *, is_refused: bool
) -> None:
    """Of four with one off, another may leave: two of the three that are left answer."""
    seen = _seen(*members, silent=silent)
    member = next(member for member in members if member.member_id == leaves)
    error = etcd_leave.refusal(_leaving(leaves), member, seen)
    assert isinstance(error, ClusterError) is is_refused
    if error is not None:
        assert error.details
        assert f"without node{leaves} etcd would have no quorum" in error.message


@pytest.mark.parametrize(
    ("members", "silent", "said"),
    [
        ((ONE,), (), ""),
        ((ONE, TWO, THREE), ("node3",), ""),
        ((ONE, TWO), ("node2",), "of its 2 members 1 answer, and 2 must"),
        ((ONE, TWO, THREE), ("node2", "node3"), "of its 3 members 1 answer, and 2 must"),
        ((ONE, _member(2, has_started=False)), (), "of its 2 members 1 answer, and 2 must"),
        ((ONE, _member(2, is_learner=True)), ("node2",), ""),
    ],
)
def test_a_lost_quorum_is_named_with_the_way_out(
    members: tuple[Member, ...], silent: tuple[str, ...], said: str
) -> None:
    """Without one the API says no more than that it does not answer."""
    error = etcd_leave.lost_quorum(_seen(*members, silent=silent, leader=0))
    assert (error is None) is (said == "")
    if error is not None:
        assert said in error.message
        assert "start the control planes that are off" in error.resolution
        assert "When etcd has lost its quorum" in error.resolution


def test_a_host_without_etcd_is_asked_nothing(tmp_path: Path) -> None:
    etcd_leave.refuse_without_quorum(Paths(tmp_path), 2379)


def test_the_one_that_leads_hands_over_before_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a voter that answers; who does not lead is not asked; a refusal ends nothing."""
    asked: list[Any] = []

    def call(_: Paths, port: int, question: tuple[str, dict[str, Any]], *, host: str) -> list[dict[str, Any]]:
        asked.append((host, port, *question))
        return [{}]

    monkeypatch.setattr(etcd_gate, "ports", lambda _: {"etcd-client": 2379})
    monkeypatch.setattr(etcd_state, "call", call)
    context = make_context(tmp_path)
    started = [replace(_member(number), client_url=f"https://10.77.1.{number}:2379") for number in (1, 2, 3)]
    seen = _seen(*started, silent=("node1",), leader=3)
    assert etcd_gate.hand_over(context, started[2], seen)
    assert asked == [("10.77.1.3", 2379, "/v3/maintenance/transfer-leadership", {"targetID": "2"})]
    assert not etcd_gate.hand_over(context, started[1], seen)
    monkeypatch.setattr(etcd_state, "call", lambda *_, **__: (_ for _ in ()).throw(ValueError("HTTP 400")))
    assert not etcd_gate.hand_over(context, started[2], seen)


def test_what_leads_clients_to_it_ends_in_order_and_is_given_time(tmp_path: Path) -> None:
    """One that is killed leaves its address with the others: keepalived on its interface, the API server in etcd."""
    ran: list[list[str]] = []

    class Host:
        def run(self, words: Sequence[str], **_: Any) -> Completed:
            ran.append(list(words))
            return Completed(0, "abc\n" if "^kube-apiserver$" in words else "", "")

    node = Leaving(NodeEntry("10.77.1.2", name="node2"), cast("Connection", Host()))
    etcd_leave._stop_serving(make_context(tmp_path), node)
    names = [words[-1] for words in ran if words[1] == "ps"]
    assert names == ["^keepalived$", "^kube-apiserver$"]
    assert [words for words in ran if words[1] != "ps"] == [["crictl", "stop", "--timeout=10", "abc"]]


def test_it_has_settled_when_the_rest_follows_one_that_is_there() -> None:
    assert etcd_leave.unsettled(_seen(ONE, TWO), THREE) == ""
    assert "counted still" in etcd_leave.unsettled(_seen(ONE, TWO, THREE), THREE)
    assert "no leader" in etcd_leave.unsettled(_seen(ONE, TWO, leader=0), THREE)
    assert "no leader" in etcd_leave.unsettled(_seen(ONE, TWO, leader=3), THREE)
    split = Seen((ONE, TWO), (), {"node1": Health(1, 7), "node2": Health(2, 7)})
    assert "no leader" in etcd_leave.unsettled(split, THREE)
