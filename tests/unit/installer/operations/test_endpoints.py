# SPDX-License-Identifier: Apache-2.0
"""Each address of a node must answer what belongs there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from installer.operations import endpoints
from installer.operations.endpoints import Endpoint

PORTS = {"media-https": 8443, "registry-push": 8444, "registry": 5000}


class Registry(BaseHTTPRequestHandler):
    """Answer with the code that the path ends with."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.rpartition("/")[2]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_must_answer() -> None:
    assert [(one.name, one.url, one.needs_media) for one in endpoints.endpoints("10.77.1.11", PORTS)] == [
        ("images", "https://10.77.1.11:8443/v2/", False),
        ("packages", "https://10.77.1.11:8443/repo/el9/repodata/repomd.xml", True),
        ("pushes of images", "https://10.77.1.11:8444/v2/", False),
        ("registry", "http://127.0.0.1:5000/v2/", False),
    ]


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("code", "fault"),
    [(200, ""), (401, ""), (404, "HTTP 404 instead of 200"), (502, "HTTP 502 instead of 200")],
)
def test_the_code_is_judged(port: int, tmp_path: Path, code: int, fault: str) -> None:
    endpoint = Endpoint("registry", f"http://127.0.0.1:{port}/{code}", endpoints.REGISTRY_CODES, "registry")
    state = endpoints.ask(endpoint, tmp_path / "ca.crt")
    assert state.answer == (fault or f"HTTP {code}")
    assert (state.fault is not None) == bool(fault)


@pytest.mark.loopback
def test_nobody_listens_and_an_authority_that_is_gone(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9/v2/", "https://127.0.0.1:9/v2/"):
        state = endpoints.ask(Endpoint("images", url, (200,), "nginx"), tmp_path / "ca.crt")
        assert state.answer.startswith("no answer: ")
        assert state.fault is not None
        assert state.fault.fix.startswith(
            "see: crictl ps -a --label io.kubernetes.pod.namespace=kube-system --name '^nginx$'"
        )
