# SPDX-License-Identifier: Apache-2.0
"""The gate of a control plane's join: what etcd must be like, and which members a cut join has left."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import ClusterError
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.engine.context import Context
from installer.operations import cluster_state, etcd_gate, etcd_state
from installer.operations.etcd_gate import Health, Member, Seen
from tests.unit.installer.helpers import make_context

PORTS = Path(__file__).parents[4] / "salt/parameters/ports.yaml"
OWN_URL, NEW_URL, OTHER_URL = (f"https://10.77.1.{number}:2380" for number in (11, 12, 13))


def member(name: str, url: str, *, is_learner: bool = False, number: int = 1) -> Member:
    return Member(number, name, is_learner, (url,), url.replace("2380", "2379") if name else "")


def seen(*members: Member, alarms: tuple[str, ...] = (), **health: Health | None) -> Seen:
    well: dict[str, Health | None] = {entry.name: Health(7, 100) for entry in members if entry.name}
    return Seen(members, alarms, {**well, **health})


ONE = member("node1", OWN_URL)
THREE = (ONE, member("node2", NEW_URL), member("node3", OTHER_URL))
NAMES = ("node1", "node2", "node3")


def test_whole_is_whole() -> None:
    assert etcd_gate.faults(seen(ONE), ["node1"]) == []
    assert etcd_gate.faults(seen(*THREE), NAMES) == []
    slow = seen(*THREE, node2=Health(7, 100 - etcd_gate.INDEX_LAG))
    assert etcd_gate.faults(slow, NAMES) == []


@pytest.mark.parametrize(
    ("found", "control_planes", "fault"),
    [
        (seen(ONE, alarms=("NOSPACE",)), ["node1"], "alarm NOSPACE"),
        (seen(ONE, node1=Health(0, 1)), ["node1"], "etcd has no leader"),
        (seen(*THREE[:2], node2=Health(9, 100)), NAMES[:2], "follow different leaders"),
        (seen(*THREE[:2], node2=None), NAMES[:2], "member node2 of etcd does not answer"),
        (seen(*THREE[:2], node2=Health(7, -5000)), NAMES[:2], "member node2 of etcd is 5100 entries behind"),
        (seen(*THREE), NAMES[:2], "member node3 of etcd is no control plane"),
        (seen(ONE), NAMES[:2], "control plane node2 is no member of etcd"),
        (
            seen(ONE, member("node2", NEW_URL, is_learner=True)),
            NAMES[:2],
            "member node2 of etcd is a learner",
        ),
        (seen(ONE, member("", NEW_URL)), ["node1"], f"member {NEW_URL} of etcd has never started"),
    ],
)
def test_what_bars_a_join(found: Seen, control_planes: list[str], fault: str) -> None:
    faults = etcd_gate.faults(found, control_planes)
    assert [line for line in faults if fault in line], faults


def test_the_joining_host_s_own_member_does_not_count() -> None:
    begun = seen(ONE, member("node2", NEW_URL, is_learner=True), node2=None)
    assert etcd_gate.faults(begun, ["node1"], joining=("node2", NEW_URL)) == []


def test_a_voter_of_another_name_at_its_address_counts() -> None:
    """The host has the address of one that is gone: its vote counts until a person says that it is dead."""
    gone = member("node3", NEW_URL)
    assert etcd_gate.leavings([ONE, gone], "node2", NEW_URL, has_data=False) == []
    found = seen(ONE, gone, node3=None)
    expected = ["member node3 of etcd is no control plane", "member node3 of etcd does not answer"]
    assert etcd_gate.faults(found, ["node1"], joining=("node2", NEW_URL)) == expected


@pytest.mark.parametrize("is_learner", [True, False])
def test_its_own_member_is_taken_up_again_unless_its_data_is_gone(*, is_learner: bool) -> None:
    started = member("node2", NEW_URL, is_learner=is_learner)
    assert etcd_gate.leavings([ONE, started], "node2", NEW_URL, has_data=True) == []
    assert etcd_gate.leavings([ONE, started], "node2", NEW_URL, has_data=False) == [started]


def test_one_that_never_started_is_taken_up_again() -> None:
    begun = [ONE, member("", NEW_URL, is_learner=True)]
    assert etcd_gate.leavings(begun, "node2", NEW_URL, has_data=False) == []


@pytest.mark.parametrize("has_data", [True, False])
@pytest.mark.parametrize("url", [OTHER_URL, NEW_URL])
@pytest.mark.parametrize("name", ["", "node3"])
def test_a_learner_of_another_host_goes_and_a_voter_never(name: str, url: str, *, has_data: bool) -> None:
    """Also where that host had the address of this one; who never started has no name, and is told by its address."""
    learner = member(name, url, is_learner=True)
    is_own = url == NEW_URL and not name
    found = etcd_gate.leavings([ONE, learner], "node2", NEW_URL, has_data=has_data)
    assert found == ([] if is_own else [learner])
    voter = member("node3", url)
    assert etcd_gate.leavings([ONE, voter], "node2", NEW_URL, has_data=has_data) == []


def test_an_answer_of_etcd_leaves_out_what_is_empty() -> None:
    listed = {
        "members": [
            {"ID": "8", "name": "node1", "peerURLs": [OWN_URL], "clientURLs": ["https://10.77.1.11:2379"]},
            {"ID": "18446744073709551615", "peerURLs": [NEW_URL], "isLearner": True},
        ]
    }
    assert etcd_gate.parse(listed) == (
        Member(8, "node1", False, (OWN_URL,), "https://10.77.1.11:2379"),  # noqa: FBT003
        Member(2**64 - 1, "", True, (NEW_URL,)),  # noqa: FBT003
    )


class Etcd:
    """Etcd by its answers: members, whom of them answers, what was removed."""

    def __init__(self) -> None:
        self.members = [{"ID": "1", "name": "node1", "peerURLs": [OWN_URL], "clientURLs": [url(OWN_URL)]}]
        self.is_silent: set[str] = set()
        self.behind: list[dict[str, Any]] = []

    def call(
        self, _: Paths, port: int, *questions: tuple[str, dict[str, Any]], host: str = "127.0.0.1"
    ) -> list[dict[str, Any]]:
        assert port == 2379
        if host in self.is_silent:
            raise OSError("no route to host")
        return [self.answer(path, body) for path, body in questions]

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("remove"):
            self.members = [entry for entry in self.members if entry["ID"] != body["ID"]]
        if path.endswith("list"):
            return {"members": self.members if body["linearizable"] or not self.behind else self.behind}
        return {"leader": "1", "raftIndex": "10"} if path.endswith("status") else {}


def url(peer_url: str) -> str:
    return peer_url.replace("2380", "2379")


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    etcd = Etcd()
    nodes = (cluster_state.Member("node1", "a", is_control_plane=True),)
    monkeypatch.setattr(etcd_state, "call", etcd.call)
    monkeypatch.setattr(cluster_state, "get_members", lambda _: nodes)
    monkeypatch.setattr(etcd_gate, "SETTLED_TIMEOUT_S", 0.0)
    return etcd


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = make_context(tmp_path, ui=Ui(io.StringIO(), is_terminal=False, interval_s=3600))
    file = context.paths.at("/opt/caisson/0.1.0/salt/parameters/ports.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(PORTS.read_text())
    return context


def test_a_cut_join_s_learner_is_removed_and_said(etcd: Etcd, context: Context) -> None:
    etcd.members.append({"ID": "3", "peerURLs": [OTHER_URL], "isLearner": True})  # type: ignore[dict-item]
    assert etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=False) is False
    assert [entry["ID"] for entry in etcd.members] == ["1"]


def test_who_is_a_member_already_is_told(etcd: Etcd, context: Context) -> None:
    etcd.members.append({"ID": "2", "peerURLs": [NEW_URL], "isLearner": True})  # type: ignore[dict-item]
    assert etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=False) is True
    etcd.members[1].update(name="node2", clientURLs=[url(NEW_URL)])
    assert etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=False) is False
    assert [entry["ID"] for entry in etcd.members] == ["1"]


def test_who_was_taken_out_is_no_member_whatever_its_files_say(etcd: Etcd, context: Context) -> None:
    assert etcd_gate.is_member(context, "node2", "10.77.1.12") is False
    etcd.members.append({"ID": "2", "name": "node3", "peerURLs": [NEW_URL], "clientURLs": [url(NEW_URL)]})
    assert etcd_gate.is_member(context, "node2", "10.77.1.12") is False
    etcd.members[1]["name"] = "node2"
    assert etcd_gate.is_member(context, "node2", "10.77.1.12") is True
    etcd.is_silent.add("127.0.0.1")
    with pytest.raises(ClusterError, match="etcd on this host does not answer"):
        etcd_gate.is_member(context, "node2", "10.77.1.12")


def test_who_is_a_member_is_asked_of_the_majority(etcd: Etcd, context: Context) -> None:
    """The data of a host that is none are removed there: the member on this host may be behind."""
    etcd.behind = [*etcd.members]
    etcd.members.append({"ID": "2", "name": "node2", "peerURLs": [NEW_URL], "clientURLs": [url(NEW_URL)]})
    assert etcd_gate.is_member(context, "node2", "10.77.1.12") is True
    assert etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=True) is True


def test_no_join_while_a_member_is_off(etcd: Etcd, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd.members.append({"ID": "3", "name": "node3", "peerURLs": [OTHER_URL], "clientURLs": [url(OTHER_URL)]})
    nodes = [cluster_state.Member(name, name, is_control_plane=True) for name in ("node1", "node3")]
    monkeypatch.setattr(cluster_state, "get_members", lambda _: nodes)
    etcd.is_silent.add("10.77.1.13")
    with pytest.raises(ClusterError, match="not whole before the join") as caught:
        etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=False)
    assert "member node3 of etcd does not answer" in caught.value.details
    assert len(etcd.members) == 2


def test_the_first_look_says_the_same_and_removes_nothing(
    etcd: Etcd, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cut join has left goes later, when this one is about to join."""
    etcd.members.append({"ID": "2", "peerURLs": [NEW_URL], "isLearner": True})  # type: ignore[dict-item]
    etcd.members.append({"ID": "3", "peerURLs": [OTHER_URL], "isLearner": True})  # type: ignore[dict-item]
    etcd_gate.look_before(context, "node2", "10.77.1.12")
    assert len(etcd.members) == 3
    nodes = [cluster_state.Member(name, name, is_control_plane=True) for name in ("node1", "node3")]
    monkeypatch.setattr(cluster_state, "get_members", lambda _: nodes)
    etcd.members[2] = {"ID": "3", "name": "node3", "peerURLs": [OTHER_URL], "clientURLs": [url(OTHER_URL)]}
    etcd.is_silent.add("10.77.1.13")
    with pytest.raises(ClusterError, match="not whole before the join") as caught:
        etcd_gate.look_before(context, "node2", "10.77.1.12")
    assert caught.value.details == "member node3 of etcd does not answer"
    assert "caisson node remove NAME --dead" in caught.value.resolution


def test_no_join_while_the_member_here_is_silent(etcd: Etcd, context: Context) -> None:
    etcd.is_silent.add("127.0.0.1")
    with pytest.raises(ClusterError, match="etcd on this host does not answer"):
        etcd_gate.pass_before(context, "node2", "10.77.1.12", has_data=False)


def test_after_the_join_all_are_voters(etcd: Etcd, context: Context) -> None:
    etcd_gate.pass_after(context)
    etcd.members.append({"ID": "2", "peerURLs": [NEW_URL], "isLearner": True})  # type: ignore[dict-item]
    with pytest.raises(ClusterError, match="not whole after the join"):
        etcd_gate.pass_after(context)
