# SPDX-License-Identifier: Apache-2.0
"""The gate before the registry: one limit, tokens that end, no HEAD, blobs elsewhere. Talks to itself on loopback."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from lab import gate, servers

pytestmark = pytest.mark.loopback

MANIFEST = "/v2/registry.k8s.io/pause/manifests/3.10"
BLOB = f"/v2/registry.k8s.io/pause/blobs/sha256:{'a' * 64}"


class _Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.send_header("Docker-Content-Digest", "sha256:00")
        self.end_headers()
        self.wfile.write(self.headers["Accept"].encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def running() -> Iterator[gate.Gate]:
    """Return a gate before a registry that gives the types it was asked for as its manifest."""
    backend = http.server.ThreadingHTTPServer((servers.LOOPBACK, 0), _Backend)
    made = gate.Gate(0, f"http://{servers.LOOPBACK}:{backend.server_address[1]}")
    threads = [threading.Thread(target=one.serve_forever, args=(0.05,)) for one in (backend, made)]
    for thread in threads:
        thread.start()
    yield made
    for one in (made, backend):
        one.shutdown()
        one.server_close()
    for thread in threads:
        thread.join()


def ask(
    running: gate.Gate, path: str, token: str = "", method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection(servers.LOOPBACK, running.server_address[1], timeout=10)
    headers = {"Accept": "a/b"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def new_token(running: gate.Gate) -> str:
    """Return a token, asked for as the challenge says."""
    status, headers, _ = ask(running, "/v2/")
    assert status == 401
    assert headers["WWW-Authenticate"].startswith(f'Bearer realm="{running.url}/token"')
    return str(json.loads(ask(running, "/token?scope=repository:x:pull")[2])["token"])


def test_the_first_manifest_is_one_too_many(running: gate.Gate) -> None:
    token = new_token(running)
    status, headers, _ = ask(running, MANIFEST, token)
    assert (status, headers["Retry-After"]) == (429, "1")
    status, headers, body = ask(running, MANIFEST, token)
    assert (status, headers["Docker-Content-Digest"], body) == (200, "sha256:00", b"a/b")


def test_a_token_ends_in_the_middle(running: gate.Gate) -> None:
    token = new_token(running)
    statuses = [ask(running, BLOB, token)[0] for _ in range(gate.TOKEN_REQUESTS + 1)]
    assert statuses == [307] * gate.TOKEN_REQUESTS + [401]
    assert ask(running, BLOB, new_token(running))[0] == 307


def test_there_is_no_head(running: gate.Gate) -> None:
    assert ask(running, MANIFEST, new_token(running), method="HEAD")[0] == 405


def test_blobs_are_elsewhere(running: gate.Gate) -> None:
    status, headers, body = ask(running, BLOB, new_token(running))
    assert (status, headers["Location"], body) == (307, f"{running.backend}{BLOB}", b"")
