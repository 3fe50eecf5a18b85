# SPDX-License-Identifier: Apache-2.0
"""etcd is asked over TLS, with a client's certificate; its answers are judged."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from installer.operations import etcd_state
from tests.authorities import make_authority, make_leaf

STATUS: dict[str, Any] = {
    "header": {"member_id": "8"}, "version": "3.6.8", "dbSize": "2400000", "leader": "8", "dbSizeQuota": "2147483648",
}  # fmt: skip
MEMBERS: dict[str, Any] = {
    "members": [{"ID": "8", "name": "node1", "clientURLs": ["https://10.77.1.11:2379"]}],
}


def texts(status: dict[str, Any], alarms: dict[str, Any], members: dict[str, Any]) -> list[str]:
    return [fault.text for fault in etcd_state.parse(status, alarms, members).faults]


def test_a_healthy_member() -> None:
    state = etcd_state.parse(STATUS, {"header": {}}, MEMBERS)
    assert (state.shown, state.faults) == ("1 member, 2.3 MiB, no alarm", ())
    assert state.members == (
        etcd_state.EtcdMember("node1", is_learner=False, client_urls=("https://10.77.1.11:2379",)),
    )


def test_what_is_a_fault() -> None:
    alarm = {"alarms": [{"memberID": "8", "alarm": "NOSPACE"}]}
    full = {**STATUS, "dbSize": "2000000000", "errors": ["etcdserver: mvcc: database space exceeded"]}
    assert texts(full, alarm, MEMBERS) == [
        "etcd has raised the alarm NOSPACE",
        "the database of etcd has 1.9 GiB of at most 2.0 GiB",
    ]
    assert texts({**STATUS, "leader": "0"}, {}, MEMBERS) == [
        "etcd has no leader: more than half of its members must run"
    ]
    started = {"members": [*MEMBERS["members"], {"ID": "9"}]}
    assert texts(STATUS, {}, started) == ["a member of etcd has never started or is a learner: (no name)"]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Make the certificates that kubeadm makes of etcd."""
    directory = tmp_path / "etc/kubernetes/pki/etcd"
    authority = make_authority(directory)
    for name in ("healthcheck-client", "server"):
        (tmp_path / name).mkdir()
        certificate, key = make_leaf(tmp_path / name, authority)
        shutil.copy(certificate, directory / f"{name}.crt")
        shutil.copy(key, directory / f"{name}.key")
    return Paths(tmp_path)


class Etcd(BaseHTTPRequestHandler):
    """Answer the three calls."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answers = {"status": STATUS, "alarm": {"header": {}}, "list": MEMBERS}
        content = json.dumps(answers[self.path.rpartition("/")[2]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def port(paths: Paths) -> Iterator[int]:
    """Serve as etcd does: only for those who show a certificate of its authority."""
    directory = paths.at("/etc/kubernetes/pki/etcd")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Etcd)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.loopback
def test_it_is_asked_with_the_certificate_of_the_health_check(paths: Paths, port: int) -> None:
    state = etcd_state.ask_etcd(paths, port)
    assert state is not None
    assert (state.shown, state.version) == ("1 member, 2.3 MiB, no alarm", "3.6.8")


@pytest.mark.loopback
def test_nobody_listens(paths: Paths) -> None:
    state = etcd_state.ask_etcd(paths, 9)
    assert state is not None
    assert state.faults[0].text.startswith("etcd does not answer at 127.0.0.1:9: ")


def test_a_host_without_etcd(tmp_path: Path) -> None:
    assert etcd_state.ask_etcd(Paths(tmp_path), 9) is None
