# SPDX-License-Identifier: Apache-2.0
"""The phases of an addition, each alone: SSH, the bus and the cluster are played; what is written here is real."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from installer.base.errors import (
    ClusterError,
    CommandError,
    HostError,
    InstallerError,
    MediaError,
    PreflightError,
    ReachError,
    SaltError,
)
from installer.base.run import Completed
from installer.base.ui import Ui
from installer.checks.between import Fleet, Seen
from installer.checks.preflight import Status
from installer.config.nodes import NodeEntry, Role, Taint
from installer.engine import pillartop, remotefiles, saltssh
from installer.engine.journal import Journal
from installer.engine.remotefiles import RemoteFile
from installer.engine.ssh import Connection
from installer.media import mounting
from installer.operations import (
    OPERATIONS,
    authority_keys,
    bus,
    cluster_state,
    etcd_gate,
    fencing,
    joining,
    marks,
    node_add,
    node_jobs,
    node_tree,
    tokens,
)
from installer.operations.cluster_state import NodeState, PodState
from installer.operations.joining import Joining, NodeContext
from installer.operations.node_jobs import Detached
from installer.operations.probe import Material, Probe, Row
from tests.unit.installer.helpers import make_context, product_bytes
from tests.unit.salt.test_modules import load

FACTS = {
    "node_name": "node2",
    "control_plane_address": "10.77.1.12",
    "control_plane_interface": "eth0",
    "control_plane_cidr": "10.77.1.0/24",
    "workload_plane_address": "10.77.2.12",
    "workload_plane_interface": "eth1",
    "workload_plane_cidr": "10.77.2.0/24",
    "nameservers": [],
    "endpoint": "api.lab.internal",
}
PORTS = Path(__file__).parents[4] / "salt/parameters/ports.yaml"
TOKEN = "abcdef.0123456789abcdef"


class Host:
    """The other host: its files, what was run on it, and what its services say."""

    def __init__(self) -> None:
        self.entry = NodeEntry("10.77.1.12", name="node2", labels={"rack": "r1"})
        self.files: dict[str, RemoteFile] = {}
        self.secret: list[str] = []
        self.ran: list[str] = []
        self.answers: dict[str, Completed] = {}

    def run(self, words: Sequence[str], **_: object) -> Completed:
        line = " ".join(words)
        self.ran.append(line)
        if line.startswith(("rm -rf /run/", "rm -f /run/")):
            self.files = {path: file for path, file in self.files.items() if not path.startswith(words[-1])}
        return next((said for part, said in self.answers.items() if part in line), Completed(0, "", ""))

    def differing(self, _: object, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        return [file for file in files if self.files.get(file.path) != file]

    def put(self, _: object, files: Sequence[RemoteFile], *, is_secret: bool = False) -> None:
        self.files.update({file.path: file for file in files})
        self.secret += [file.path for file in files if is_secret]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(remotefiles, "differing", host.differing)
    monkeypatch.setattr(remotefiles, "put", host.put)
    monkeypatch.setattr(mounting, "check_custody", lambda _: None)
    monkeypatch.setattr(node_add, "HELLO_TIMEOUT_S", 0.0)
    monkeypatch.setattr(node_add, "READY_POLL_S", 0.0)
    return host


@pytest.fixture
def context(tmp_path: Path, host: Host) -> NodeContext:
    """Return the bootstrap node with its media, its keys and the host that joins, which was looked at."""
    base = make_context(tmp_path, ui=Ui(io.StringIO(), is_terminal=False, interval_s=3600))
    for path, text in (
        ("/etc/kubernetes/pki/ca.crt", "CA"),
        ("/etc/caisson/ca.crt", "services CA"),
        ("/etc/caisson/salt/pki/master/master.pub", "master's"),
        ("/srv/caisson/0.1.0/product.json", product_bytes().decode()),
        ("/srv/caisson/0.1.0/installer/x.py", "x"),
        ("/srv/caisson/0.1.0/salt/top.sls", "base: {}"),
        ("/srv/caisson/0.1.0/salt/parameters/ports.yaml", PORTS.read_text()),
        ("/opt/caisson/0.1.0/salt/parameters/ports.yaml", PORTS.read_text()),
        ("/srv/caisson/0.1.0/keys/k.asc", "key"),
    ):
        file = base.paths.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    node = Joining(host.entry, cast("Connection", host), cast("Material", None), found_fit())
    journal = Journal(base.paths.journal_file, operation=node_add.NAME, run_id="run1")
    found = NodeContext(**{**vars(base), "journal": journal, "joining": node})
    node_add.run_probe(found)
    return found


def found_fit(*rows: Row) -> Probe:
    title = "node2 (10.77.1.12)"
    return Probe(
        Fleet((Seen(title, "worker", identity={"name": "node2"}),), (), (), {}), rows, {title: FACTS}
    )


def node_of(context: NodeContext) -> Joining:
    return joining.of(context)


# ---- as data ------------------------------------------------------------------------------------------------


def test_codes_and_names_are_one_s_own_among_all() -> None:
    phases = [phase for operation in OPERATIONS for phase in operation.phases]
    assert len({phase.code for phase in phases}) == len(phases)
    assert len({phase.name for phase in phases}) == len(phases)
    assert all(phase.code.startswith("CSP4") for phase in node_add.PHASES)
    assert all(phase.undo and phase.explanation for phase in node_add.PHASES)


@pytest.mark.parametrize("name", ["worker", "control_plane"])
def test_the_states_of_the_phases_are_those_of_the_role(name: str) -> None:
    """All of them, in the role's own order."""
    role = (PORTS.parents[1] / f"roles/{name}.sls").read_text()
    included = [line.strip()[2:] for line in role.splitlines() if line.startswith("  - ")]
    applied: list[str] = []
    for phase in node_add.PHASES:
        if name == "worker" and phase.name == "start-console":
            continue
        found = phase.applies
        if hasattr(found, "keywords"):
            found = found.keywords["states"]
        applied += found.sls if isinstance(found, Detached) else ()
    assert applied == included


def test_an_operation_without_another_host_is_a_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another host"):
        node_add.run_connect(make_context(tmp_path))


# ---- before a byte is written -------------------------------------------------------------------------------


def test_no_connection_says_why(context: NodeContext) -> None:
    assert node_add.run_connect(context) is False
    node_of(context).connected = ReachError("nobody listens")
    with pytest.raises(ReachError, match="nobody listens"):
        node_add.run_connect(context)


def test_a_host_that_is_not_fit_gets_nothing(context: NodeContext, host: Host) -> None:
    row = Row("node2 (10.77.1.12)", "CSN101", Status.FAILED, "Memory", "1 GiB", "give it more")
    node_of(context).found = found_fit(row)
    with pytest.raises(PreflightError, match="not fit") as caught:
        node_add.run_probe(context)
    assert "CSN101 Memory: 1 GiB -> give it more" in caught.value.details
    assert (host.files, host.ran) == ({}, [])


def test_what_was_found_decides_what_it_is_told(context: NodeContext) -> None:
    node = node_of(context)
    assert node.name == "node2"
    assert node.caisson["repository"]["url"] == "https://media.lab.internal:8443/repo/el9"
    assert node.caisson["cluster"]["ca_sha256"] == hashlib.sha256(b"CA").hexdigest()


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("../node1", "../node1"),
        ("node1", "node1"),
        ("node3", "node2"),
        ("node2", "node3"),
        ("node3", "node3"),
        ("n" * 64, "n" * 64),
        ("", ""),
    ],
)
def test_a_host_is_not_trusted_with_its_name(
    context: NodeContext, host: Host, name: str, identity: str
) -> None:
    """Of that name are a pillar and an accepted key on this node: the bootstrap node's own, say."""
    title = host.entry.title
    fleet = Fleet((Seen(title, "worker", identity={"name": identity}),), (), (), {})
    node_of(context).found = Probe(fleet, (), {title: {**FACTS, "node_name": name}})
    with pytest.raises(PreflightError, match="says that its name is"):
        node_add.run_probe(context)


def test_a_node_s_role_does_not_change_by_adding_it_again(
    context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control plane that is added without its role would close its ports as a worker's."""
    node_of(context).entry = replace(host.entry, role=Role.CONTROL_PLANE)
    monkeypatch.setattr(etcd_gate, "look_before", lambda *_: None)
    node_add.run_probe(context)
    pillartop.write(context.paths, "node1", node_of(context).caisson)
    node_of(context).entry = host.entry
    members: list[cluster_state.Member] = []
    monkeypatch.setattr(cluster_state, "get_members", lambda _: members)
    assert node_add.run_probe(context) is False
    members.append(cluster_state.Member("node2", "a", is_control_plane=False))
    with pytest.raises(PreflightError, match="is a node already: control-plane, not worker") as caught:
        node_add.run_probe(context)
    assert "--role control-plane" in caught.value.resolution


# ---- Salt's way to the host ---------------------------------------------------------------------------------


def test_only_what_is_not_there_is_sent(context: NodeContext, host: Host) -> None:
    assert node_add.run_send(context) is True
    assert node_add.run_send(context) is False
    own = str(context.paths.self_dir("0.1.0"))
    for name in ("installer/x.py", "product.json", "salt/top.sls", "keys/k.asc"):
        assert f"{own}/{name}" in host.files
    assert host.files["/etc/caisson/ca.crt"].data == b"services CA"
    assert host.files["/etc/caisson/pillar/caisson.sls"].mode == 0o600
    command = host.files["/usr/bin/caisson"]
    assert (command.mode, f'"{own}/installer"'.encode() in command.data) == (0o755, True)
    assert not [path for path in host.files if path.endswith(".key")]


def test_without_media_nothing_is_sent(context: NodeContext, host: Host) -> None:
    (context.media_dir / "product.json").unlink()
    with pytest.raises(MediaError, match="not mounted"):
        node_add.run_send(context)
    assert host.files == {}


def test_packages_by_salt_ssh(context: NodeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def run_raw(_: object, words: Sequence[str], **__: object) -> Completed:
        asked.append(words)
        return Completed(0, json.dumps({"has_changed": True, "public_key": "minion's"}) + "\n", "dnf ..\n")

    monkeypatch.setattr(saltssh, "run_raw", run_raw)
    assert node_add.run_install_minion(context) is True
    assert asked == [["/usr/bin/caisson", "on-node", "settle", "--json"]]
    assert node_of(context).public_key == "minion's"


def test_both_keys_are_known_before_anybody_speaks(context: NodeContext, host: Host) -> None:
    node_of(context).public_key = "minion's"
    assert node_add.run_keys(context) is True
    master_dir = context.paths.at("/etc/caisson/salt/pki/master")
    assert (master_dir / "minions/node2").read_text() == "minion's"
    assert host.files["/etc/salt/pki/minion/minion_master.pub"].data == b"master's"
    assert b'"master": "10.77.1.11"' in host.files["/etc/salt/minion.d/90-caisson.conf"].data
    assert (context.paths.pillar_dir / "nodes/node2.sls").is_file()
    assert node_of(context).must_restart_minion
    assert node_add.run_keys(context) is False


@pytest.mark.parametrize("state", ["minions_pre", "minions_rejected", "minions_denied"])
@pytest.mark.usefixtures("host")
def test_a_key_that_somebody_showed_under_the_name_bars_nobody(context: NodeContext, state: str) -> None:
    node_of(context).public_key = "minion's"
    node_add.run_keys(context)
    stranger = context.paths.at("/etc/caisson/salt/pki/master") / state / "node2"
    stranger.parent.mkdir()
    stranger.write_text("of another")
    assert node_add.run_keys(context) is True
    assert not stranger.exists()
    assert node_add.run_keys(context) is False


def hello(context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> bool:
    """Start the minion and wait for its answer; return whether it was started."""
    host.answers["ss --tcp"] = Completed(0, "ESTAB\n", "")
    left = list(answers)
    monkeypatch.setattr(bus, "ask", lambda *_: left.pop(0) if left else bus.NO_ANSWER)
    monkeypatch.setattr(node_add, "HELLO_TIMEOUT_S", 0.2)
    monkeypatch.setattr(node_add, "HELLO_POLL_S", 0.05)
    has_changed = node_add.run_hello(context)
    node_add.await_hello(context)
    return has_changed


def test_a_minion_that_answers_is_left_alone(
    context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hello(context, host, monkeypatch, {"state": "lost"}) is False
    assert not [line for line in host.ran if "restart" in line]


def test_one_that_has_new_keys_is_started_again(
    context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_of(context).must_restart_minion = True
    assert hello(context, host, monkeypatch, {"state": "lost"}) is True
    assert len([line for line in host.ran if "restart" in line]) == 1
    assert not node_of(context).must_restart_minion


def test_one_that_is_silent_is_started_twice_and_named(
    context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_of(context).must_restart_minion = True
    with pytest.raises(SaltError, match="does not answer its master") as caught:
        hello(context, host, monkeypatch)
    assert len([line for line in host.ran if "restart" in line]) == 2
    assert "salt-master are open" in caught.value.resolution


def test_one_that_answers_late_is_waited_for_while_the_host_is_prepared(
    context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it may take counts from when nothing else is left to do."""
    asked: list[float] = []
    host.answers["ss --tcp"] = Completed(0, "ESTAB\n", "")
    monkeypatch.setattr(node_add, "HELLO_TIMEOUT_S", 0.2)
    monkeypatch.setattr(node_add, "HELLO_POLL_S", 0.02)

    def ask(*_: object) -> Any:
        asked.append(time.monotonic())
        return {"state": "lost"} if asked[-1] - asked[0] > 0.5 else bus.NO_ANSWER

    monkeypatch.setattr(bus, "ask", ask)
    node_add.run_hello(context)
    time.sleep(0.6)
    node_add.await_hello(context)
    assert not [line for line in host.ran if "restart" in line]


# ---- the node -----------------------------------------------------------------------------------------------


class Tokens:
    """The cluster's tokens, and how the join went."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
        self.there: list[str] = ["of a run that was killed"]
        self.host = host
        self.seen: list[str] = []
        self.error: InstallerError | None = None
        self.lifted: list[str] = []
        monkeypatch.setattr(fencing, "lift", lambda _, name: self.lifted.append(name))
        monkeypatch.setattr(tokens, "create", self.create)
        monkeypatch.setattr(tokens, "take_back", self.take_back)
        monkeypatch.setattr(node_jobs, "carry_out", self.carry_out)

    def create(self, *_: object) -> str:
        self.there.append(TOKEN)
        return TOKEN

    def take_back(self, *_: object) -> int:
        self.there.clear()
        return 0

    def carry_out(self, _: object, sls: Sequence[str], *__: object) -> dict[str, Any]:
        self.seen = [*self.host.files, *self.there]
        assert tuple(sls) == ("kubelet.joined", "keepalived", "cluster.noted")
        if self.error is not None:
            raise self.error
        return {"total": 3, "changed": ["Join the cluster"], "error": None}


def join(context: NodeContext) -> bool:
    (phase,) = (phase for phase in node_add.PHASES if phase.name == "join")
    return phase.applies(context)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, host: Host) -> Tokens:
    host.answers["test -s"] = Completed(1, "", "")
    return Tokens(monkeypatch, host)


def test_the_token_is_there_for_the_join_and_gone_after_it(
    context: NodeContext, host: Host, made: Tokens
) -> None:
    assert join(context) is True
    assert made.seen == [node_add.DISCOVERY_FILE, TOKEN]
    assert made.lifted == ["node2"]
    assert (made.there, host.files) == ([], {})
    assert host.secret == [node_add.DISCOVERY_FILE]
    assert TOKEN not in " ".join(host.ran)


def test_it_is_gone_also_when_the_join_failed(context: NodeContext, host: Host, made: Tokens) -> None:
    made.error = SaltError("kubeadm refused")
    with pytest.raises(SaltError, match="kubeadm refused"):
        join(context)
    assert (made.there, host.files) == ([], {})


def test_a_lost_connection_hides_no_other_error(
    context: NodeContext, host: Host, made: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.error = SaltError("the job is gone")

    def lose(words: Sequence[str], **_: object) -> Completed:
        if words[0] == "rm":
            raise ReachError("the connection was lost")
        return Completed(1, "", "")

    monkeypatch.setattr(host, "run", lose)
    with pytest.raises(SaltError, match="the job is gone"):
        join(context)
    assert made.there == []


def test_a_node_gets_no_token(context: NodeContext, host: Host, made: Tokens) -> None:
    host.answers["test -s"] = Completed(0, "", "")
    join(context)
    assert node_add.DISCOVERY_FILE not in made.seen
    assert TOKEN not in made.seen


class Gate:
    """Etcd's gate: when it was passed, and what it says then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
        self.host = host
        self.passed: list[tuple[str, bool]] = []
        self.is_member = True
        self.error: InstallerError | None = None
        monkeypatch.setattr(etcd_gate, "pass_before", self.before)
        monkeypatch.setattr(etcd_gate, "look_before", self.look)
        monkeypatch.setattr(etcd_gate, "is_member", lambda *_: self.is_member)
        monkeypatch.setattr(etcd_gate, "pass_after", lambda _: self.note("after"))

    def before(self, _: object, name: str, address: str, *, has_data: bool) -> bool:
        assert (name, address) == ("node2", "10.77.1.12")
        self.note(f"before, {'with' if has_data else 'without'} data")
        if self.error is not None:
            raise self.error
        return self.is_member

    def look(self, _: object, name: str, address: str) -> None:
        assert (name, address) == ("node2", "10.77.1.12")
        self.note("look")
        if self.error is not None:
            raise self.error

    def note(self, moment: str) -> None:
        self.passed.append((moment, bool(self.host.files)))


@pytest.fixture
def gate(context: NodeContext, host: Host, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Return the gate of a host that is to become a control plane; the keys are on this node."""
    node_of(context).entry = replace(host.entry, role=Role.CONTROL_PLANE)
    host.answers["test -d"] = Completed(0, "there\n", "")
    for name in authority_keys.FILES:
        file = context.paths.at(f"/etc/kubernetes/pki/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"PRIVATE KEY {name}")
    return Gate(monkeypatch, host)


KEYS = [f"/run/caisson-join/pki/{name}" for name in authority_keys.FILES]


def test_the_keys_are_there_for_the_join_and_gone_after_it(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    assert join(context) is True
    assert made.seen == [*KEYS, node_add.DISCOVERY_FILE, TOKEN]
    assert host.secret == [*KEYS, node_add.DISCOVERY_FILE]
    assert host.files == {}
    assert gate.passed == [("before, with data", False), ("after", False)]
    assert "PRIVATE KEY" not in " ".join(host.ran)


@pytest.mark.parametrize("role", ["worker", "control-plane"])
def test_a_timer_there_removes_them_should_this_host_be_lost(
    context: NodeContext, host: Host, made: Tokens, gate: Gate, role: str
) -> None:
    """Keys, and the token that a worker gets too."""
    node_of(context).entry = replace(host.entry, role=Role(role))
    join(context)
    begun = next(place for place, line in enumerate(host.ran) if line.startswith("systemd-run"))
    assert "--on-active=30min --unit=caisson-join-forget rm -rf /run/caisson-join" in host.ran[begun]
    stop = "systemctl stop caisson-join-forget.timer"
    assert stop in host.ran[:begun]
    assert host.ran.index("rm -rf /run/caisson-join") < len(host.ran) - 1 - host.ran[::-1].index(stop)


@pytest.mark.parametrize("data", ["there", "none"])
def test_a_host_that_is_no_member_of_etcd_is_told_so(
    context: NodeContext, host: Host, made: Tokens, gate: Gate, data: str
) -> None:
    """Whatever it has of etcd is of a member that was removed: data, its manifest, the note that it has joined."""
    host.answers["test -d"] = Completed(0, f"{data}\n", "")
    join(context)
    assert authority_keys.FRESH_FILE not in made.seen
    gate.is_member = False
    join(context)
    assert authority_keys.FRESH_FILE in made.seen
    assert host.files == {}


def test_what_a_killed_run_has_said_of_etcd_is_taken_back_first(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    """It is a member by now: its data would be removed."""
    host.files[authority_keys.FRESH_FILE] = RemoteFile(authority_keys.FRESH_FILE, b"", 0o600)
    join(context)
    assert authority_keys.FRESH_FILE not in made.seen


def test_a_control_plane_that_was_taken_out_of_etcd_joins_again(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    """All its files are there: it was off when it was removed, and is on again."""
    host.answers["test -s"] = Completed(0, "", "")
    gate.is_member = False
    join(context)
    assert made.seen == [*KEYS, node_add.DISCOVERY_FILE, authority_keys.FRESH_FILE, TOKEN]
    assert gate.passed == [("before, with data", False), ("after", False)]


def test_a_host_that_does_not_say_whether_it_has_data_gets_nothing(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    """Its member of etcd would be removed."""
    host.answers["test -d"] = Completed(0, "", "")
    with pytest.raises(CommandError, match="does not say whether etcd has data"):
        join(context)
    assert (gate.passed, host.secret) == ([], [])


def test_the_keys_are_gone_also_when_the_join_failed(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    made.error = SaltError("kubeadm refused")
    with pytest.raises(SaltError, match="kubeadm refused"):
        join(context)
    assert (made.there, host.files) == ([], {})
    assert [moment for moment, _ in gate.passed] == ["before, with data"]


def test_nothing_is_sent_where_etcd_is_not_whole(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    gate.error = ClusterError("etcd is not whole")
    with pytest.raises(ClusterError, match="not whole"):
        join(context)
    assert (made.seen, host.secret, host.files) == ([], [], {})


def test_where_etcd_is_not_whole_nothing_at_all_is_sent_to_a_new_control_plane(
    context: NodeContext, host: Host, gate: Gate
) -> None:
    """Not after five minutes in which a control plane that is off was to be told of it. A worker needs no etcd."""
    gate.error = ClusterError("etcd is not whole")
    with pytest.raises(ClusterError, match="not whole"):
        node_add.run_probe(context)
    assert (gate.passed, host.files, host.ran) == ([("look", False)], {}, [])
    node_of(context).entry = host.entry
    assert node_add.run_probe(context) is False


def test_a_key_that_is_kept_elsewhere_is_named(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    context.paths.at("/etc/kubernetes/pki/ca.key").unlink()
    with pytest.raises(HostError, match=r"not on this host: ca\.key"):
        join(context)
    assert (made.seen, host.secret, gate.passed[-1][0]) == ([], [], "before, with data")


def test_a_control_plane_gets_no_key_again(
    context: NodeContext, host: Host, made: Tokens, gate: Gate
) -> None:
    host.answers["test -s"] = Completed(0, "", "")
    join(context)
    assert (host.secret, gate.passed) == ([], [("after", False)])


def test_the_two_sides_mean_the_same_files() -> None:
    module = (PORTS.parents[1] / "_modules/caisson_join.py").read_text()
    member = (PORTS.parents[1] / "_modules/caisson_member.py").read_text()
    assert f'DISCOVERY_FILE = "{node_add.DISCOVERY_FILE}"' in module
    assert f'DISCOVERY_FILE = "{node_add.DISCOVERY_FILE}"' in member
    assert f'KEYS_DIR = "{authority_keys.JOIN_DIR}/pki"' in member
    assert f'FRESH_FILE = "{authority_keys.FRESH_FILE}"' in member
    assert all(f'"{name}"' in member for name in authority_keys.FILES)
    for file in node_add.JOINED_FILES:
        assert file.removeprefix("/etc/kubernetes/") in module


def test_who_sends_the_keys_looks_at_what_the_states_look_at() -> None:
    """Else the host waits for keys that nobody sends: the same command would fail for ever."""
    member = load("caisson_member")
    made = {f"{member.KUBERNETES_DIR}/{name}" for names in member.PRODUCES.values() for name in names}
    made |= {member.CLIENT_CERTIFICATE_FILE, f"{member.KUBERNETES_DIR}/{member.KUBELET_FILE}"}
    made |= {str(member._stamp_file(phase)) for phase in member.PHASES}
    assert made <= {*node_add.JOINED_FILES, *node_add.CONTROL_PLANE_FILES}
    assert {*node_add.CONTROL_PLANE_FILES} <= made
    assert not [file for file in made if file.endswith("ca.key")]


def pod(name: str, *, is_ready: bool = True, node: str = "node2") -> PodState:
    return PodState("kube-system", name, "Running", is_ready, 0, node, is_ours=True)


READY = (
    NodeState("node1", "v1", "a", is_ready=True, roles="-"),
    NodeState("node2", "v1", "b", is_ready=True, roles="-"),
)


@pytest.mark.parametrize(
    ("nodes", "pods", "expected"),
    [
        (READY, (pod("calico-node-a"), pod("kube-proxy-b")), []),
        (READY[:1], (), ["node node2", "calico-node", "kube-proxy"]),
        (READY, (pod("calico-node-a", is_ready=False), pod("kube-proxy-b")), ["calico-node"]),
        (READY, (pod("calico-node-a"), pod("kube-proxy-b", node="node1")), ["kube-proxy"]),
        (READY, (pod("calico-node-old", is_ready=False), pod("calico-node-a"), pod("kube-proxy-b")), []),
    ],
)
def test_what_a_node_lacks(
    nodes: tuple[NodeState, ...], pods: tuple[PodState, ...], expected: list[str]
) -> None:
    assert node_add.lacking("node2", nodes, pods) == expected


class Kubectl:
    """A node as the API has it; ``label`` and ``taint`` set what they are told."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {"theirs": "x"}
        self.taints: list[dict[str, str]] = [{"key": "theirs", "effect": "NoSchedule"}]
        self.said: list[str] = []

    def run(self, words: Sequence[str], **_options: object) -> Completed:
        verb, *rest = words[3:]
        if verb != "get":
            assert rest[:3] == ["node", "node2", "--overwrite"]
            self.said.append(f"{verb} {' '.join(rest[3:])}")
        if verb == "label":
            self.labels.update({word.partition("=")[0]: word.partition("=")[2] for word in rest[3:]})
        if verb == "taint":
            for word in rest[3:]:
                found, _, effect = word.rpartition(":")
                key, _, value = found.partition("=")
                self.taints = [t for t in self.taints if (t["key"], t["effect"]) != (key, effect)]
                self.taints.append({"key": key, "effect": effect, **({"value": value} if value else {})})
        node = {"metadata": {"labels": self.labels}, "spec": {"taints": self.taints}}
        return Completed(0, json.dumps(node), "")


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    found = Kubectl()
    monkeypatch.setattr(marks, "run", found.run)
    monkeypatch.setattr(cluster_state, "get_nodes", lambda _: READY)
    monkeypatch.setattr(cluster_state, "get_pods", lambda _: (pod("calico-node-a"), pod("kube-proxy-b")))
    return found


def test_it_waits_over_an_api_that_is_away_and_labels_once(
    context: NodeContext, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [ClusterError("the Kubernetes API does not answer"), READY, READY]

    def get_nodes(_: Path) -> tuple[NodeState, ...]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("tuple[NodeState, ...]", answer)

    monkeypatch.setattr(cluster_state, "get_nodes", get_nodes)
    assert node_add.run_wait(context) is True
    assert kubectl.labels == {"rack": "r1", "theirs": "x"}
    assert node_add.run_wait(context) is False
    assert kubectl.said == ["label rack=r1"]


def test_labels_and_taints_that_changed_are_set_on_a_node_and_none_goes_silently(
    context: NodeContext, kubectl: Kubectl
) -> None:
    """What others set stays; what an earlier addition had asked for is named, with the command that takes it away."""
    node = node_of(context)
    node.public_key = "node2's"
    first = (Taint("gpu", "yes", "NoSchedule"), Taint("old", "", "NoExecute"))
    node.entry = replace(node.entry, labels={"rack": "r1", "disk": "ssd"}, taints=first)
    node_add.run_probe(context)
    node_add.run_keys(context)
    assert node_add.run_wait(context) is True
    second = (Taint("gpu", "no", "NoSchedule"), Taint("new", "", "NoSchedule"))
    node.entry = replace(node.entry, labels={"rack": "r2"}, taints=second)
    kubectl.said.clear()
    for has_changed in (True, False):
        node_add.run_probe(context)
        node_add.run_keys(context)
        assert node_add.run_wait(context) is has_changed
    assert kubectl.said == ["label rack=r2", "taint gpu=no:NoSchedule new:NoSchedule"]
    assert kubectl.labels == {"rack": "r2", "disk": "ssd", "theirs": "x"}
    assert {"key": "theirs", "effect": "NoSchedule"} in kubectl.taints
    said = cast("io.StringIO", context.ui._out._stream).getvalue()
    assert "kubectl label node node2 disk-" in said
    assert "kubectl taint node node2 old:NoExecute-" in said
    assert "node2 gpu" not in said
    assert "set on node2: taint new:NoSchedule" in said


def test_one_that_never_is_ready_is_named(context: NodeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_add, "READY_TIMEOUT_S", -1.0)
    monkeypatch.setattr(cluster_state, "get_nodes", lambda _: READY)
    monkeypatch.setattr(cluster_state, "get_pods", lambda _: ())
    with pytest.raises(ClusterError, match="node2 is not Ready") as caught:
        node_add.run_wait(context)
    assert caught.value.details.splitlines() == ["calico-node", "kube-proxy"]


def test_the_tree_of_a_node_has_no_bytecode(context: NodeContext) -> None:
    directory = context.media_dir / "salt/_modules/__pycache__"
    directory.mkdir(parents=True)
    (directory / "x.pyc").write_text("x")
    assert not [file for file in node_tree.wanted(context, node_of(context).caisson) if "pyc" in file.path]
