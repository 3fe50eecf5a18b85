# SPDX-License-Identifier: Apache-2.0
"""What stands before a public registry: tokens that end, a limit of requests, no HEAD, blobs elsewhere.

    client --GET manifest--> gate --GET--> registry
    client --GET blob--> gate --307--> the registry itself, as a registry sends to its store of objects

The lab's images are read through it, so that each ordinary build meets what real registries do.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import json
import re
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from lab import registry, servers

PORT = 17501
URL = f"http://{servers.LOOPBACK}:{PORT}"
STATE_PATH = "/caisson-gate"
TOKEN_PATH = "/token"  # noqa: S105
TOKEN_REQUESTS = 7
"""A token is good for so many requests: it ends in the middle of an image."""
RETRY_AFTER_S = 1
PROXY_TIMEOUT_S = 30.0

_MANIFEST = re.compile(r"/v2/.+/manifests/[^/]+")
_BLOB = re.compile(r"/v2/.+/blobs/sha256:[0-9a-f]{64}")
_KEPT_HEADERS = ("Content-Type", "Docker-Content-Digest")


class Gate(http.server.ThreadingHTTPServer):
    """The gate before the registry at ``backend`` (an address without a slash at its end)."""

    daemon_threads = True

    def __init__(self, port: int, backend: str) -> None:
        super().__init__((servers.LOOPBACK, port), _Handler)
        self.backend = backend
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._is_limit_met = False

    @property
    def url(self) -> str:
        """Return where the gate is reached, without a slash at the end."""
        return f"http://{servers.LOOPBACK}:{self.server_address[1]}"

    def new_token(self) -> str:
        """Return a token for the next requests."""
        token = secrets.token_hex(16)
        with self._lock:
            self._left[token] = TOKEN_REQUESTS
        return token

    def spend(self, authorization: str) -> bool:
        """Take one request off a token; tell whether it was good."""
        with self._lock:
            token = authorization.removeprefix("Bearer ")
            left = self._left.get(token, 0)
            if left:
                self._left[token] = left - 1
            return left > 0

    def is_too_much(self) -> bool:
        """Tell whether a request for a manifest is one too many: the first one is, and no other."""
        with self._lock:
            is_first, self._is_limit_met = not self._is_limit_met, True
            return is_first


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gate

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path == STATE_PATH:
            self._answer(HTTPStatus.OK)
        elif path == TOKEN_PATH:
            body = json.dumps({"token": self.server.new_token(), "expires_in": 300}).encode()
            self._answer(HTTPStatus.OK, {"Content-Type": "application/json"}, body)
        elif not self.server.spend(self.headers.get("Authorization", "")):
            realm = f'Bearer realm="{self.server.url}{TOKEN_PATH}",service="caisson-lab"'
            self._answer(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": realm})
        elif _MANIFEST.fullmatch(path):
            self._manifest(path)
        elif _BLOB.fullmatch(path):
            self._answer(HTTPStatus.TEMPORARY_REDIRECT, {"Location": f"{self.server.backend}{path}"})
        else:
            self._answer(HTTPStatus.OK if path == "/v2/" else HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing of requests; failures are seen by those who asked."""

    def _manifest(self, path: str) -> None:
        if self.server.is_too_much():
            self._answer(HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(RETRY_AFTER_S)})
            return
        backend = urllib.parse.urlsplit(self.server.backend)
        connection = http.client.HTTPConnection(backend.netloc, timeout=PROXY_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Accept": self.headers.get("Accept", "*/*")})
            answer = connection.getresponse()
            headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
            self._answer(HTTPStatus(answer.status), headers, answer.read())
        except OSError:
            self._answer(HTTPStatus.BAD_GATEWAY)
        finally:
            connection.close()

    def _answer(self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def server(run_dir: Path) -> servers.Server:
    """Return the gate as a server."""
    return servers.Server(
        name="gate",
        args=(sys.executable, "-P", "-m", "lab.gate", "--backend", registry.URL),
        port=PORT,
        path=STATE_PATH,
        log_file=run_dir / "gate.log",
        env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )


def main(argv: Sequence[str]) -> int:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m lab.gate", description="what stands before the registry")
    parser.add_argument("--backend", required=True, help="the registry's address")
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args(argv)
    with Gate(options.port, options.backend) as gate:
        gate.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
