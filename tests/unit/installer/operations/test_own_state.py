# SPDX-License-Identifier: Apache-2.0
"""A further node says how it is, and which host to ask about the cluster; it misses nothing of the bootstrap node."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from installer.base.errors import HostError, UnhealthyError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config import facts
from installer.config.facts import Address
from installer.engine import pillartop, saltcall
from installer.operations import (
    cluster_state,
    endpoints,
    host_state,
    own_state,
    replica,
    schemas,
)
from installer.operations.asking import Fault
from installer.operations.endpoints import Endpoint, EndpointState
from tests.unit.installer.helpers import make_context, make_product
from tests.unit.installer.hosts import Host
from tests.unit.installer.workers import make_worker

CONNECTED = "0 0 10.77.1.12:4711 10.77.1.11:4505\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository_dir: Path) -> Host:
    fake = Host()
    for module in (host_state, cluster_state):
        monkeypatch.setattr(module, "run", fake)
    monkeypatch.setattr(own_state, "run", lambda *_, **__: Completed(0, CONNECTED, ""))
    monkeypatch.setattr(own_state, "TREE_DIR", repository_dir)
    monkeypatch.setattr(facts, "read_addresses", lambda: [Address("eth0", "10.77.1.12", 24)])
    monkeypatch.setattr(host_state, "ask_disks", lambda _: ())
    monkeypatch.setattr(endpoints, "ask", lambda one, _: EndpointState(one.name, one.url, "HTTP 200"))
    make_worker(tmp_path)
    return fake


def look(tmp_path: Path, repository_dir: Path) -> own_state.OwnState:
    found = own_state.gather(Paths(tmp_path), tree_dir=repository_dir)
    schema = schemas.load("status")
    jsonschema.validate(json.loads(json.dumps(found.to_json(make_product()))), schema)
    own = {**schema, "$ref": "#/definitions/own", "oneOf": [{}]}
    jsonschema.validate(json.loads(json.dumps(found.to_data())), own)
    return found


def test_all_is_well(host: Host, tmp_path: Path, repository_dir: Path) -> None:
    """Neither a missing media, nor a missing admin.conf, nor a salt-master that is elsewhere is a fault there."""
    found = look(tmp_path, repository_dir)
    assert found.error() is None
    shown = [line for title, rows in found.tables(make_product()) for line in (title, *map(" ".join, rows))]
    assert "node2 is a worker of the cluster lab; ask about all of it on 10.77.1.11" in shown
    assert "images, packages, https://media.lab.internal:8443/v2/ HTTP 200" in shown
    assert "salt-master connected to 10.77.1.11:4505" in shown
    assert "caisson 0.1.0-b1" in shown
    node = found.to_data()["node"]
    assert (node["addresses"], node["bootstrap_node"]) == (["10.77.1.12"], "10.77.1.11")


def test_a_copy_that_a_media_server_lost_is_told(
    host: Host, tmp_path: Path, repository_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Fault("the copy of 0.1.0-b1: nothing is mounted there", "caisson media replicate node2")
    monkeypatch.setattr(replica, "faults", lambda _, name: (lost,) if name == "node2" else ())
    assert look(tmp_path, repository_dir).all_faults == (), "it serves nothing"
    file = Paths(tmp_path).pillar_dir / "caisson.sls"
    data = json.loads(file.read_text().partition("\n")[2])
    data["caisson"]["node"]["media"] = ["0.1.0-b1"]
    file.write_text(pillartop.render(data))
    assert look(tmp_path, repository_dir).all_faults == (lost,)


def test_what_is_wrong_is_said_with_what_to_do_on_such_a_node(
    host: Host, tmp_path: Path, repository_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.services["kubelet"] = "failed"
    host.services["firewalld"] = "inactive"
    monkeypatch.setattr(own_state, "run", lambda *_, **__: Completed(0, "", ""))
    fault = Fault("x", "see: crictl ps")
    monkeypatch.setattr(
        endpoints, "ask", lambda one, _: EndpointState(one.name, one.url, "no answer: refused", fault)
    )
    error = look(tmp_path, repository_dir).error()
    assert isinstance(error, UnhealthyError)
    assert error.details.splitlines() == [
        "kubelet.service is failed",
        "firewalld is installed, but inactive: every host that reaches this one reaches its ports",
        "the salt-minion is not connected to its master: no job can be started here",
        "images, packages: https://media.lab.internal:8443/v2/: no answer: refused",
        "Kubernetes API: https://api.lab.internal:6443/livez: no answer: refused",
    ]
    assert "'caisson bootstrap'" not in error.resolution
    assert "'caisson node add' on the bootstrap node" in error.resolution
    assert "'caisson status' on 10.77.1.11" in error.resolution


def test_no_nameserver_is_asked_for_a_name_that_is_not_in_etc_hosts(
    host: Host, tmp_path: Path, repository_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(one: Endpoint, _: Path) -> EndpointState:
        asked.append(one.name)
        return EndpointState(one.name, one.url, "HTTP 200")

    monkeypatch.setattr(endpoints, "ask", ask)
    (tmp_path / "etc/hosts").write_text("10.77.1.11 api.lab.internal\n# 10.77.1.11 media.lab.internal\n")
    (fault,) = look(tmp_path, repository_dir).all_faults
    assert fault.text.startswith("media.lab.internal is not in /etc/hosts")
    assert "caisson hosts" in fault.fix
    assert asked == ["Kubernetes API"]


def test_one_part_that_fails_hides_no_other(
    host: Host, tmp_path: Path, repository_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("odd")

    monkeypatch.setattr(host_state, "ask_firewall", fail)
    found = look(tmp_path, repository_dir)
    assert [fault.text for fault in found.all_faults] == ["firewalld could not be asked: RuntimeError: odd"]
    assert found.services.states["kubelet"] == "active"


def test_the_bootstrap_node_is_no_further_node(tmp_path: Path) -> None:
    assert not own_state.is_further_node(Paths(tmp_path))
    saltcall.write_configuration(make_context(tmp_path))
    assert own_state.role(Paths(tmp_path)) == "bootstrap"
    assert not own_state.is_further_node(Paths(tmp_path))
    own_state.refuse_here(Paths(tmp_path), "nodes are added")
    with pytest.raises(HostError, match="no further node"):
        own_state.identify(Paths(tmp_path))


@pytest.mark.loopback
def test_a_real_name_and_a_real_port(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the answer says so, with the host to look at."""
    monkeypatch.undo()
    (tmp_path / "etc/hosts").write_text("127.0.0.1 localhost\n")
    ca_file = Path(__file__).parents[3] / "authorities.py"
    assert ca_file.exists()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    one = Endpoint("images, packages", f"http://localhost:{port}/v2/", (200,), "nginx")
    found = own_state._ask_by_name(
        one, own_state.identify(Paths(tmp_path)), Paths(tmp_path), "/etc/caisson/ca.crt"
    )
    assert found.fault is not None
    assert "no answer" in found.answer
    assert "10.77.1.11" in found.fault.fix
