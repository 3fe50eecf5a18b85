# SPDX-License-Identifier: Apache-2.0
"""keepalived's files as the tree writes them; its check is run, against servers that answer as API servers do."""

from __future__ import annotations

import copy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.authorities import make_authority, make_leaf
from tests.sls.compiler import Compiler

SERVER = """
import http.server, ssl, sys, time
kind, address, certificate, key = sys.argv[1:5]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if kind == "hangs":
            time.sleep(60)
        assert self.path == "/readyz"
        self.send_response(200 if kind == "ready" else 500)
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer((address, int(sys.argv[5])), Handler)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
"""
OWN, PEERS = "127.0.0.1", ("127.0.0.2", "127.0.0.3")
LIMIT_S = 5.0


def facts_of(compiler: Compiler, pillar: dict[str, Any], *, others: dict[str, str]) -> dict[str, Any]:
    """Return what the files are rendered with on a node that has these others beside it."""
    given = copy.deepcopy(pillar)
    given["caisson"]["networks"]["vip"] = "192.0.2.200"
    given["caisson"]["control_planes"] += [{"name": name, "address": others[name]} for name in others]
    compiled = compiler.compile("keepalived.configured", given)
    assert list(compiled.faults) == []
    (chunk,) = (chunk for chunk in compiled.chunks if chunk["name"].endswith("/keepalived.conf"))
    context: dict[str, Any] = chunk["context"]
    return context


def text_of(compiler: Compiler, pillar: dict[str, Any], name: str, context: dict[str, Any]) -> str:
    return compiler.render(f"salt://keepalived/files/{name}.j2", context, pillar)


def test_every_other_control_plane_is_a_peer(compiler: Compiler, pillar: dict[str, Any]) -> None:
    context = facts_of(compiler, pillar, others={"node3": "192.0.2.13", "node4": "192.0.2.14"})
    text = text_of(compiler, pillar, "keepalived.conf", context)
    assert "unicast_peer {\n    192.0.2.13\n    192.0.2.14\n  }" in text
    assert "unicast_src_ip 192.0.2.11" in text
    assert "192.0.2.200/32 dev eth0" in text
    assert "state BACKUP\n  nopreempt" in text


def test_a_single_one_speaks_to_nobody(compiler: Compiler, pillar: dict[str, Any]) -> None:
    text = text_of(compiler, pillar, "keepalived.conf", facts_of(compiler, pillar, others={}))
    assert "unicast_src_ip 127.0.0.1" in text, "the kubelet drops what goes to the loopback from elsewhere"
    assert text.split("unicast_peer {")[1].split("}")[0].split() == ["127.0.0.2"]


def test_there_is_none_without_an_address(compiler: Compiler, pillar: dict[str, Any]) -> None:
    compiled = compiler.compile("keepalived", pillar)
    pods = [chunk for chunk in compiled.chunks if chunk["state"] == "caisson_static_pod"]
    assert bool(pods) is bool(pillar["caisson"]["networks"]["vip"])


def test_only_peers_are_let_in(compiler: Compiler, pillar: dict[str, Any]) -> None:
    given = copy.deepcopy(pillar)
    given["caisson"]["control_planes"].append({"name": "node3", "address": "192.0.2.13"})
    for vip, expected in (("192.0.2.200", ["192.0.2.13/32"]), (None, [])):
        given["caisson"]["networks"]["vip"] = vip
        chunks = compiler.compile("firewall.ports", given).chunks
        (written,) = (chunk for chunk in chunks if chunk["name"].endswith("/caisson-nodes.xml"))
        opened = [one for one in written["context"]["openings"] if one["protocol"] == "vrrp"]
        assert [one["cidr"] for one in opened] == expected
        text = compiler.render(written["source"], written["context"], given)
        assert text.count('<protocol value="vrrp"/>') == len(expected)


# ---- the check ---------------------------------------------------------------------------------------------


def common_port(addresses: Sequence[str]) -> int:
    """Return a port that is free at each of these addresses; others may have it at one of them."""
    for _ in range(100):
        with ExitStack() as stack, suppress(OSError):
            port = 0
            for address in addresses:
                port = stack.enter_context(socket.create_server((address, port))).getsockname()[1]
            return int(port)
    pytest.fail(f"no port is free at all of {addresses}")


@contextmanager
def server(kind: str, address: str, pair: tuple[Path, Path], port: int) -> Iterator[int]:
    """Run what answers at an address as an API server does; yield its port."""
    words = [sys.executable, "-c", SERVER, kind, address, *map(str, pair), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("own", "others", "is_fit"),
    [
        ("ready", ("ready", "ready"), True),
        ("ready", ("gone", "gone"), True),
        ("not ready", ("gone", "ready"), False),
        ("gone", ("ready", "not ready"), False),
        ("hangs", ("ready", "ready"), False),
        ("of another cluster", ("ready", "ready"), False),
        # No quorum, or all of them start: it stays where it is.
        ("not ready", ("not ready", "not ready"), True),
        ("hangs", ("hangs", "hangs"), True),
        ("gone", ("gone", "gone"), True),
        ("not ready", ("of another cluster", "gone"), True),
        ("not ready", (), True),
    ],
)
def test_it_lets_the_address_go_only_to_one_that_is_ready(
    compiler: Compiler,
    pillar: dict[str, Any],
    tmp_path: Path,
    own: str,
    others: tuple[str, ...],
    is_fit: bool,
) -> None:
    authority, stranger = make_authority(tmp_path / "ca"), make_authority(tmp_path / "stranger")
    kinds = {OWN: own, **dict(zip(PEERS, others, strict=False))}
    with ExitStack() as stack:
        port = common_port((OWN, *PEERS))
        for address, kind in kinds.items():
            if kind == "gone":
                continue
            is_strange = kind == "of another cluster"
            pair = _leaf(tmp_path, stranger if is_strange else authority, address)
            stack.enter_context(server("ready" if is_strange else kind, address, pair, port))
        context = facts_of(compiler, pillar, others={})
        context = {**context, "address": OWN, "peers": list(PEERS[: len(others)]), "port": port}
        script = text_of(compiler, pillar, "check.sh", context)
        script = script.replace("/etc/caisson-ca/ca.crt", str(authority[0]))
        script = script.replace("/run/keepalived/asked", str(tmp_path / "asked"))
        began = time.monotonic()
        done = subprocess.run(["bash", "-c", script], check=False, timeout=60)
    assert (done.returncode == 0) is is_fit
    assert (tmp_path / "asked").exists()
    assert time.monotonic() - began < LIMIT_S, "keepalived ends it after two seconds on a calm host"


def _leaf(directory: Path, authority: tuple[Path, Path], address: str) -> tuple[Path, Path]:
    (directory / address).mkdir()
    return make_leaf(directory / address, authority, address=address)


def test_the_scripts_are_sound(
    compiler: Compiler, pillar: dict[str, Any], tmp_path: Path, repository_dir: Path
) -> None:
    for others in ({}, {"node3": "192.0.2.13"}):
        file = tmp_path / "check.sh"
        file.write_text(text_of(compiler, pillar, "check.sh", facts_of(compiler, pillar, others=others)))
        scripts = [file, repository_dir / "salt/keepalived/files/run.sh"]
        done = subprocess.run(["shellcheck", *scripts], check=False, capture_output=True, text=True)
        assert done.stdout == ""
