# SPDX-License-Identifier: Apache-2.0
"""Who may leave, what holds them, what is forgotten; and a reset on another host that outlives its connection."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import ClusterError, HostError, InstallerError, ReachError, UsageError, to_json
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.config.nodes import NodeEntry
from installer.engine import pillartop
from installer.engine.journal import Journal
from installer.engine.ssh import Connection
from installer.operations import etcd_gate, etcd_leave, fencing, leaving, node_remove, tokens
from installer.operations.cluster_state import NodeState
from installer.operations.leaving import Leaving, LeavingContext
from tests.unit.installer.helpers import make_context

ENTRY = NodeEntry("10.77.1.12", name="node2")


def _node(name: str, *, is_ready: bool = True, roles: str = "-") -> NodeState:
    return NodeState(name, "v1.36.4", "10.77.1.1", is_ready, roles)


CLUSTER = (_node("node1", roles="control-plane"), _node("node2"), _node("node3", is_ready=False))


def _refused(
    name: str, nodes: Sequence[NodeState] = CLUSTER, *, is_dead: bool = False
) -> InstallerError | None:
    node = Leaving(NodeEntry("10.77.1.12", name=name), is_dead=is_dead)
    return node_remove.refusal(node, nodes, ["node2", "node4"], own_name="node1")


# ---- who may leave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_dead", "kind", "words"),
    [
        ("nobody", False, UsageError, "has no node 'nobody'"),
        ("node1", False, ClusterError, "last control plane"),
        ("node2", True, ClusterError, "is Ready: it is not gone"),
    ],
)
def test_who_may_not_is_told_why(name: str, kind: type[InstallerError], words: str, *, is_dead: bool) -> None:
    error = _refused(name, is_dead=is_dead)
    assert isinstance(error, kind)
    assert words in error.message
    assert error.resolution


def test_who_may() -> None:
    """Also one whose Node a removal that was cut has deleted already: it is known here still."""
    assert _refused("node2") is None
    assert _refused("node3", is_dead=True) is None
    assert _refused("node4") is None


def test_further_control_planes_may_leave_and_the_bootstrap_node_stays() -> None:
    nodes = (*CLUSTER, _node("node5", roles="control-plane,worker"))
    assert _refused("node5", nodes) is None
    assert "bootstrap node" in str(_refused("node1", nodes))


def test_data_that_is_on_its_disk_only_is_named() -> None:
    def volume(name: str, hosts: list[str], phase: str = "Bound", **spec: Any) -> dict[str, Any]:
        expressions = [{"key": "kubernetes.io/hostname", "operator": "In", "values": hosts}]
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}
        claim = {"namespace": "web", "name": "db"}
        return {
            "metadata": {"name": name},
            "spec": {"nodeAffinity": affinity, "claimRef": claim, **spec},
            "status": {"phase": phase},
        }

    volumes = [
        volume("pv1", ["node2"], local={"path": "/srv/db"}),
        volume("pv2", ["node3"], local={"path": "/srv/db"}),
        volume("pv3", ["node2", "node3"], local={"path": "/srv/db"}),
        volume("pv4", ["node2"], "Released", local={"path": "/srv/db"}),
        volume("pv5", ["node2"], csi={"driver": "x"}),
        {"metadata": {"name": "pv6"}, "spec": {"hostPath": {"path": "/srv"}}, "status": {"phase": "Bound"}},
    ]
    assert node_remove.local_volumes("node2", volumes) == {"/srv/db": "pv1 (web/db)"}


def test_budgets_that_let_none_go_are_named() -> None:
    budgets = [
        {
            "metadata": {"namespace": "a", "name": name},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1},
        }
        for name, allowed in (("holds", 0), ("lets", 1))
    ]
    assert node_remove.blocking(budgets) == ["disruption budget a/holds: 1 healthy, 1 wanted"]


def test_the_policy_names_nobody_and_looks_at_nodes_that_are_made() -> None:
    """The names are beside it: a list in the policy itself would be compiled again for each."""
    policy, binding = fencing.policy()["items"]
    assert policy["spec"]["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE"]
    assert binding["spec"]["paramRef"]["parameterNotFoundAction"] == "Allow"
    assert "node2" not in json.dumps(fencing.policy())


# ---- what is done ----------------------------------------------------------------------------------------------


class Host:
    """The host that leaves: what is run there, and what its unit and its result say, one after the other."""

    def __init__(self) -> None:
        self.entry = ENTRY
        self.ran: list[str] = []
        self.states = ["inactive", "active", "inactive"]
        self.results = ["", json.dumps({"error": None})]
        self.has_caisson = True
        self.lost = 0

    def run(self, words: Sequence[str], **_: object) -> Completed:
        line = " ".join(words)
        self.ran.append(line)
        if line.startswith("test -e"):
            return Completed(0 if self.has_caisson else 1, "", "")
        if "is-active" in line:
            return Completed(0, f"{self.states.pop(0)}\n", "")
        if line.startswith("cat "):
            if self.lost:
                self.lost -= 1
                self.states.insert(0, "active")
                raise ReachError("the connection is lost")
            return Completed(0, self.results.pop(0), "")
        return Completed(0, "", "")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(node_remove, "RESET_POLL_S", 0.0)
    monkeypatch.setattr(node_remove, "_items", lambda *_: [])
    return Host()


@pytest.fixture
def context(tmp_path: Path, host: Host) -> LeavingContext:
    base = make_context(tmp_path, ui=Ui(io.StringIO(), is_terminal=False, interval_s=3600))
    journal = Journal(base.paths.journal_file, operation=node_remove.NAME)
    leaver = Leaving(ENTRY, cast("Connection", host))
    return LeavingContext(**{**vars(base), "journal": journal, "leaving": leaver})


def test_the_reset_is_a_unit_of_its_own_and_waited_for(context: LeavingContext, host: Host) -> None:
    assert node_remove.run_reset_host(context) is True
    (started,) = (line for line in host.ran if line.startswith("systemd-run"))
    assert started.endswith("/usr/bin/caisson reset --yes --force --result /run/caisson-reset/result.json")
    assert "--unit=caisson-detached@reset.service" in started
    assert host.ran.index("rm -f /run/caisson-reset/result.json") < host.ran.index(started)


def test_one_that_runs_already_is_not_started_again(context: LeavingContext, host: Host) -> None:
    host.states[0] = "active"
    assert node_remove.run_reset_host(context) is True
    assert not any(line.startswith(("systemd-run", "rm ")) for line in host.ran)


def test_a_host_that_is_reset_already_is_let_be(context: LeavingContext, host: Host) -> None:
    host.has_caisson = False
    assert node_remove.run_reset_host(context) is False


def test_what_it_fails_for_is_said_with_its_host(context: LeavingContext, host: Host) -> None:
    error = HostError("1 mounts are in use", resolution="end that")
    host.results[1] = json.dumps({"error": to_json(error)})
    with pytest.raises(HostError, match=r"1 mounts are in use on node2 \(10\.77\.1\.12\)"):
        node_remove.run_reset_host(context)


def test_one_that_is_gone_without_a_result_is_an_error(context: LeavingContext, host: Host) -> None:
    host.results = ["", ""]
    with pytest.raises(HostError, match="gone without a result"):
        node_remove.run_reset_host(context)


def test_a_lost_connection_is_no_information(
    context: LeavingContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.lost = 2
    assert node_remove.run_reset_host(context) is True
    host.states, host.results, host.lost = ["active"] * 9, [], 9
    monkeypatch.setattr(node_remove, "MISSES", 3)
    with pytest.raises(ReachError):
        node_remove.run_reset_host(context)


def test_nothing_of_its_minion_is_left_and_of_others_all(
    context: LeavingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "take_back", lambda *_: 0)
    files = [
        "/etc/caisson/salt/pki/master/minions/{}",
        "/etc/caisson/salt/pki/master/minions_pre/{}",
        "/var/cache/caisson/salt-master/pillar/{}.p",
        "/var/cache/caisson/salt-master/grains/{}.p",
        "/var/cache/caisson/salt-master/sessions/{}",
    ]
    for name in ("node2", "node22"):
        for pattern in files:
            file = context.paths.at(pattern.format(name))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x", encoding="utf-8")
        pillartop.write(
            context.paths, "node1", {"node": {"name": name, "control_plane_address": "10.77.1.12"}}
        )
    assert node_remove.run_forget_minion(context) is True
    assert node_remove.run_forget_minion(context) is False
    assert node_remove.run_forget_node(context) is True
    assert node_remove.run_forget_node(context) is False
    left = [str(file) for file in context.paths.root.rglob("*node2*")]
    assert sorted(Path(name).name for name in left) == sorted(
        ["node22.sls", *[Path(p.format("node22")).name for p in files]]
    )
    assert '"node2"' not in (context.paths.pillar_dir / "top.sls").read_text(encoding="utf-8")


class Ran:
    """A host whose kubelet runs; ``words``: what was run there."""

    def __init__(self, *, has_etcd: bool) -> None:
        self.has_etcd = has_etcd
        self.words: list[str] = []

    def run(self, words: Sequence[str], **_: Any) -> Completed:
        """Answer."""
        self.words.append(" ".join(words))
        return Completed(int(words[0] == "test" and not self.has_etcd), "", "")


@pytest.mark.parametrize("has_etcd", [True, False])
def test_the_kubelet_of_a_control_plane_starts_at_a_boot_until_its_member_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_etcd: bool
) -> None:
    """A removal of one of two may be cut off there, and its host be started again: etcd has no quorum without it."""
    host = Ran(has_etcd=has_etcd)
    node = Leaving(ENTRY, cast("Connection", host))
    context = LeavingContext(**{**vars(make_context(tmp_path)), "leaving": node})
    assert node_remove.run_stop_node(context) is True
    stopped = "systemctl stop kubelet" if has_etcd else "systemctl disable --now kubelet"
    assert host.words[-1] == stopped
    monkeypatch.setattr(etcd_gate, "look", lambda _: etcd_gate.Seen((), (), {}))
    assert etcd_leave.run_leave_etcd(context) is False
    assert host.words[-1] == "systemctl disable --now kubelet"


def test_data_whose_staying_was_promised_is_named_to_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the host's Node is gone, and a kubelet may not list volumes: it cannot find out by itself."""
    expressions = [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2"]}]
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}
    volumes = [
        {
            "metadata": {"name": place},
            "spec": {"nodeAffinity": affinity, "local": {"path": place}},
            "status": {"phase": "Bound"},
        }
        for place in ("/var/lib/kubelet/db", "/var/lib/etcd")
    ]
    monkeypatch.setattr(node_remove, "_items", lambda *_: volumes)
    monkeypatch.setattr(node_remove, "_is_active", lambda _: False)
    monkeypatch.setattr(node_remove, "_wait", lambda *_: None)
    host = Ran(has_etcd=True)
    node = Leaving(ENTRY, cast("Connection", host), is_forced=True)
    context = LeavingContext(**{**vars(make_context(tmp_path)), "leaving": node})
    assert node_remove.run_reset_host(context) is True
    assert host.words[-1].endswith(
        "reset --yes --force --result /run/caisson-reset/result.json --keep /var/lib/kubelet/db"
    )


def test_an_operation_about_nobody_is_a_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the operation has none"):
        leaving.of(make_context(tmp_path))
