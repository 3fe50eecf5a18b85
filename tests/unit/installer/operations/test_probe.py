# SPDX-License-Identifier: Apache-2.0
"""Looking at other hosts before a byte is written: by a real sshd on loopback, so this machine looks at itself."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from installer.base.errors import (
    CommandError,
    HostKeyError,
    InstallerError,
    LoginError,
    MediaError,
    ReachError,
)
from installer.checks.between import Fleet, Seen
from installer.checks.preflight import Status
from installer.config import bootstrap, facts
from installer.config.nodes import NodeEntry
from installer.config.ports import Port, needed, read_ports
from installer.engine import agents
from installer.engine.ssh import Connection
from installer.operations import probe
from tests.unit.installer import sshd
from tests.unit.installer.helpers import pack_installer, product_bytes
from tests.unit.installer.sshd import PASSWORD, Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]
PORTS_FILE = Path("salt/parameters/ports.yaml")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serving() as running:
        yield running


@pytest.fixture(scope="module")
def packed(repository_dir: Path) -> bytes:
    """Return the installer as other hosts get it."""
    return pack_installer(repository_dir)


@pytest.fixture
def material(repository_dir: Path, packed: bytes) -> probe.Material:
    """Return what a cluster in this machine's own network would ask."""
    addresses = [address for address in facts.read_addresses() if address.ip.version == 4]
    network = ipaddress.IPv4Network(addresses[0].network)
    pods, services = (
        next(cidr for cidr in cidrs if not network.overlaps(ipaddress.IPv4Network(cidr)))
        for cidrs in (("10.233.0.0/16", "192.168.0.0/16"), ("10.96.0.0/12", "172.30.0.0/16"))
    )
    text = f"""\
apiVersion: caisson/v1
kind: BootstrapConfiguration
clusterName: lab
networks:
  controlPlane: {{cidrs: [{network}]}}
  pods: {{cidr: {pods}}}
  services: {{cidr: {services}}}
node: {{name: node1}}
"""
    with_files = (
        text + "authorities: {services: {certificateFile: /nonexistent/c, keyFile: /nonexistent/k}}\n"
    )
    config = replace(bootstrap.parse(text), text=with_files)
    return probe.Material(
        config,
        product_bytes().decode(),
        (repository_dir / PORTS_FILE).read_text(),
        packed,
        {"node1": "", "node7": "ab"},
        with_trials=False,
    )


def entry(server: Server, user: str = "root", name: str = "node2") -> NodeEntry:
    return replace(server.entry(user), name=name)


def rows_of(found: probe.Probe, title: str) -> dict[str, list[probe.Row]]:
    rows: dict[str, list[probe.Row]] = {}
    for row in found.rows:
        if row.host == title:
            rows.setdefault(row.code, []).append(row)
    return rows


def look(server: Server, entries: list[NodeEntry], material: probe.Material, *answers: str) -> probe.Probe:
    with probe.connections(entries, paths=server.paths, terminal=Typist(*answers)) as connected:
        return probe.probe(entries, connected, material, paths=server.paths)


def test_one_table_for_all_hosts(server: Server, material: probe.Material) -> None:
    """This machine is taken for another host: it has everything that one must not share."""
    entries = [
        entry(server, name="node7"),
        replace(entry(server, name="node3"), port=1, host_key=""),
        replace(entry(server, name="node4"), host_key="SHA256:" + "A" * 43),
        replace(entry(server, "told", name="node5")),
    ]
    found = look(server, entries, material)
    first = rows_of(found, "node7 (127.0.0.1)")
    assert {"CSN611", "CSN612", "CSN614"} <= set(first)
    assert first["CSN611"][0].evidence == "the cluster has a node 'node7' already, which is another host"
    assert "is that of this host, too" in first["CSN612"][0].evidence
    assert "CSN615" not in first
    assert "CSN605" not in first
    # The machine's own preflights came back as well: it is no EL9 host.
    assert first["CSN102"][0].status is Status.FAILED
    assert list(rows_of(found, "node3 (127.0.0.1)")) == ["CSN601"]
    assert list(rows_of(found, "node4 (127.0.0.1)")) == ["CSN602"]
    assert list(rows_of(found, "node5 (127.0.0.1)")) == ["CSN603"]
    assert not any(found.is_fit(one.title) for one in entries)
    shown = found.table()
    assert shown[0][0] == "HOST"
    assert len(shown) == len(found.rows) + 1
    data = json.loads(json.dumps(found.to_json()))
    assert [host["error"] for host in data["hosts"]] == ["", "CSE014", "CSE015", "CSE016"]


def test_a_user_with_sudo_sees_the_same_and_nothing_is_left(server: Server, material: probe.Material) -> None:
    before = _listing()
    found = look(server, [entry(server, "asked", "node9")], material, PASSWORD)
    assert "CSN101" not in rows_of(found, "node9 (127.0.0.1)")
    assert _listing() - before == set()


def _listing() -> set[str]:
    """Return the paths below the directories that an installer could leave something in, without the lab's."""
    places = ("/run", "/var/lib/caisson", "/var/log/caisson", "/opt/caisson", "/etc/caisson")
    of_lab = ("*/caisson-lab*", "/run/netns/*", "/run/systemd/nspawn/*")
    apart = [word for pattern in of_lab for word in ("-not", "-path", pattern)]
    found = subprocess.run(["find", *places, *apart], capture_output=True, text=True, check=False)
    return {line for line in found.stdout.splitlines() if "caisson" in line}


def test_a_configuration_that_does_not_fit_is_a_finding(server: Server, material: probe.Material) -> None:
    text = material.config.text
    network = text.partition("cidrs: [")[2].partition("]")[0]
    other = replace(material.config, text=text.replace(network, "203.0.113.0/24"))
    found = look(server, [entry(server)], replace(material, config=other))
    rows = rows_of(found, "node2 (127.0.0.1)")
    assert [row.evidence.partition(":")[0] for row in rows["CSN605"]] == [
        "networks.controlPlane.cidrs",
        "networks.workloadPlane.cidrs",
    ]
    assert "CSN616" not in rows


def test_the_clock_of_an_agent_is_told_within_its_bound(
    server: Server, packed: bytes, tmp_path: Path
) -> None:
    agent = agents.here(packed, running_dir=tmp_path)
    try:
        clock = probe._clock(probe._Host("other", "worker", agent, {}))
        assert clock is not None
        assert abs(clock.offset_s) <= clock.bound_s + 0.01
        assert clock.bound_s < 0.5
    finally:
        agent.close()


def test_a_host_that_stops_to_answer_is_not_fit(packed: bytes, tmp_path: Path) -> None:
    """What was not tried is not fine."""
    agent = agents.here(packed, running_dir=tmp_path)
    identity = {"name": "other", "workload_mtu": "no number"}
    facts_there = {f"{plane}_plane_address": "127.0.0.1" for plane in ("control", "workload")}
    host = probe._Host("other", "worker", agent, {"identity": identity, "facts": facts_there, "faults": []})
    os.kill(agent._talk._session.number, signal.SIGKILL)
    assert probe._clock(host) is None
    assert probe._connect(host, host, [(needed_port(), "127.0.0.1")]) == []
    found = probe._seen(host, None)
    assert isinstance(found.error, CommandError)
    assert "'clock'" in found.error.message
    assert not probe.Probe(Fleet((found,)), ()).is_fit("other")
    agent.close()


def test_what_is_answered_late_is_no_answer_to_the_next(packed: bytes, tmp_path: Path) -> None:
    agent = agents.here(packed, running_dir=tmp_path)
    try:
        with pytest.raises(CommandError, match="gave no answer to 'path'"):
            agent.ask({"do": "path", "address": "127.0.0.1", "mtu": 1500}, timeout_s=0)
        time.sleep(0.5)
        with pytest.raises(CommandError, match="gave no answer to 'clock'"):
            agent.ask({"do": "clock"}, timeout_s=10)
    finally:
        agent.close()


def needed_port() -> Port:
    return Port("kubelet", 10250, "tcp", "control_plane", "kubelet", source="control_plane")


def test_an_agent_says_what_it_ran_into_and_goes_on(packed: bytes, tmp_path: Path) -> None:
    agent = agents.here(packed, running_dir=tmp_path)
    try:
        with pytest.raises(CommandError, match="'nonesuch' failed on this host") as caught:
            agent.ask({"do": "nonesuch"}, timeout_s=10)
        assert "KeyError" in caught.value.details
        with pytest.raises(CommandError, match="'look' failed"):
            agent.ask(
                {"do": "look", "config": "", "product": "", "ports": "", "role": "", "name": ""}, timeout_s=30
            )
        assert agent.ask({"do": "clock"}, timeout_s=10)["time_s"] == pytest.approx(time.time(), abs=5)
    finally:
        agent.close()


def test_what_other_hosts_get_is_whole(packed: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = set(archive.namelist())
    source = Path(jsonschema.__file__).parent
    read = {file.relative_to(source.parent) for file in source.glob("schemas/**/*") if file.is_file()}
    assert {f"installer/vendor/{file}" for file in read} <= names
    assert "installer/config/nodes.schema.json" in names
    assert not any(name.endswith(".pyc") for name in names)


def test_an_archive_that_does_not_work_is_named(server: Server) -> None:
    broken = agents.archive(Path("/nonexistent"))
    with Connection(server.entry(), paths=server.paths, terminal=Typist()) as host:
        with pytest.raises(InstallerError, match=r"does not start on 127\.0\.0\.1") as caught:
            agents.on(host, broken)
        assert "No module named 'installer'" in caught.value.details


def test_hosts_that_are_looked_at_get_what_the_checks_read(
    server: Server, material: probe.Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no nodes yet, and may never be: the passwords in the overrides are not for them."""
    written = """\
overrides:
  containerd: "version = 3\\n[x]\\npassword = 'geheim'"
  kubeadmPatches: {etcd.json: '{"password": "geheim"}'}
  ignorePreflights: [{id: CSN102, reason: no EL9 host}]
"""
    files = "authorities: {services: {certificateFile: /root/geheim.crt, keyFile: /root/geheim.key}}\n"
    config = bootstrap.parse(material.config.text.partition("authorities:")[0] + written)
    config = replace(config, text=config.text + files)
    sent: list[str] = []
    ask = agents.Agent.ask

    def remember(agent: agents.Agent, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        sent.append(json.dumps(request))
        return ask(agent, request, timeout_s=timeout_s)

    monkeypatch.setattr(agents.Agent, "ask", remember)
    found = look(server, [entry(server)], replace(material, config=config))
    looks = [json.loads(text) for text in sent if json.loads(text)["do"] == "look"]
    assert len(looks) == 2
    assert not [text for text in sent if "geheim" in text]
    told = yaml.safe_load(looks[1]["config"])
    assert sorted(told) == ["apiVersion", "clusterName", "kind", "networks", "overrides"]
    assert told["networks"] == yaml.safe_load(material.config.text)["networks"]
    # What is accepted is told, for the report there says it.
    assert rows_of(found, "node2 (127.0.0.1)")["CSN102"][0].status is Status.IGNORED


def test_what_weighs_most_is_the_exit_code() -> None:
    def found(*errors: InstallerError | None, status: Status | None = None) -> probe.Probe:
        hosts = tuple(Seen(f"host{number}", "worker", error=error) for number, error in enumerate(errors))
        rows = () if status is None else (probe.Row("host0", "CSN612", status, "", "", ""),)
        return probe.Probe(Fleet(hosts), rows)

    unreached, stranger, refused = ReachError("x"), HostKeyError("x"), LoginError("x")
    assert found(None).exit_code == 0
    assert found(None, status=Status.WARNING).exit_code == 0
    assert found(None, status=Status.FAILED).exit_code == 4
    assert found(None, unreached, status=Status.FAILED).exit_code == 14
    assert found(unreached, refused).exit_code == 16
    assert found(unreached, refused, stranger).exit_code == 15
    assert found(None, CommandError("x")).exit_code == 9


def test_a_host_of_which_there_is_nothing_to_say_has_a_row() -> None:
    row = probe.Row("b", "CSN612", Status.FAILED, "title", "evidence", "fix")
    hosts = (Seen("this host", "bootstrap", is_member=True), Seen("a", "worker"), Seen("b", "worker"))
    shown = probe.Probe(Fleet(hosts), (row,)).table()
    assert [line[:3] for line in shown[1:]] == [("a", "-", "passed"), ("b", "CSN612", "failed")]


def test_a_tree_without_what_is_asked_with(tmp_path: Path, material: probe.Material) -> None:
    with pytest.raises(MediaError, match="is incomplete") as caught:
        probe.gather_material(tmp_path, material.config, ())
    assert "product.json" in caught.value.details


@pytest.mark.parametrize(
    ("source", "target", "names"),
    [
        (
            "worker",
            "bootstrap",
            ["kube-apiserver", "calico-vxlan", "salt-publish", "salt-return", "media-https"],
        ),
        ("bootstrap", "worker", ["kubelet", "calico-vxlan"]),
        ("worker", "worker", ["calico-vxlan"]),
        (
            "control-plane",
            "control-plane",
            ["kube-apiserver", "etcd-client", "etcd-peer", "kubelet", "calico-vxlan", "media-https"],
        ),
    ],
)
def test_who_needs_which_port(repository_dir: Path, source: str, target: str, names: list[str]) -> None:
    ports = read_ports(repository_dir / PORTS_FILE)
    assert [port.name for port in needed(ports, source, target)] == names


def test_what_a_host_says_of_itself_is_kept_for_what_it_is_told(
    server: Server, material: probe.Material
) -> None:
    one = entry(server, name="node9")
    found = look(server, [one, replace(entry(server, name="node3"), port=1)], material)
    assert set(found.facts) == {one.title}
    said = found.facts[one.title]
    gathered = facts.Facts(**{**said, "nameservers": tuple(said["nameservers"])})
    assert gathered.node_name == "node9"
    assert gathered.control_plane_address in {address.address for address in facts.read_addresses()}
    (seen,) = (host for host in found.fleet.hosts if host.title == one.title)
    assert seen.identity["name"] == "node9"
