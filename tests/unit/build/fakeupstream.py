# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback that does what a test tells it: content, ranges, and every kind of trouble."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from typing_extensions import override


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trouble:
    """What happens instead of a good answer, once; ``cut_after`` is where the connection is closed."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut_after: int | None = None
    body: bytes = b""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A request that came in. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: str = ""
    body: str = ""


class FakeUpstream:
    """Content by path, and troubles by path that are used up one by one."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.extra_headers: dict[str, dict[str, str]] = {}
        self.troubles: dict[str, list[Trouble]] = {}
        self.seen: list[Seen] = []
        self.token: str | None = None
        self.has_ranges = True
        self.bytes_per_s: int | None = None
        self.sent_bytes = 0
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        """Return the address, without a slash at its end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def put(self, path: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        """Serve data under a path."""
        self.content[path] = data
        self.types[path] = media_type

    def requests(self, path: str) -> list[Seen]:
        """Return the requests for a path."""
        return [seen for seen in self.seen if seen.path == path]

    def put_image(self, repository: str, tag: str, manifests: Mapping[str, tuple[bytes, str]]) -> None:
        """Serve manifests by digest; the one named ``top`` by its tag too."""
        for name, (data, media_type) in manifests.items():
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            for reference in (digest, tag) if name == "top" else (digest,):
                path = f"/v2/{repository}/manifests/{reference}"
                self.put(path, data, media_type)
                self.extra_headers[path] = {"Docker-Content-Digest": digest}

    def put_blob(self, repository: str, data: bytes) -> str:
        """Serve a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.put(f"/v2/{repository}/blobs/{digest}", data)
        return digest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: FakeUpstream

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    @override
    def handle(self) -> None:
        """Answer until the client goes away, which it may do at any time."""
        with suppress(ConnectionError):
            super().handle()

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_POST(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        headers = {name.lower(): value for name, value in self.headers.items()}
        upstream = self.upstream
        body = self.rfile.read(int(headers.get("content-length", "0"))).decode()
        upstream.seen.append(Seen(method=self.command, path=path, headers=headers, query=query, body=body))
        troubles = upstream.troubles.get(path, [])
        trouble = troubles.pop(0) if troubles else Trouble()
        if trouble.status != 200:
            self._send(trouble.status, dict(trouble.headers), trouble.body, has_body=has_body)
            return
        if path == "/token":
            token = "anonymous" if upstream.token is None else upstream.token
            self._send(200, {}, json.dumps({"token": token}).encode(), has_body=has_body)
            return
        is_refused = upstream.token is not None and headers.get("authorization") != f"Bearer {upstream.token}"
        if path.startswith("/v2/") and is_refused:
            challenge = f'Bearer realm="{upstream.url}/token",service="fake"'
            self._send(401, {"WWW-Authenticate": challenge}, b"", has_body=has_body)
            return
        if path == "/v2/":
            self._send(200, {}, b"{}", has_body=has_body)
            return
        if path not in upstream.content:
            self._send(404, {}, b"", has_body=has_body)
            return
        self._send_content(path, headers, trouble, has_body=has_body)

    def _send_content(
        self, path: str, headers: Mapping[str, str], trouble: Trouble, *, has_body: bool
    ) -> None:
        data = self.upstream.content[path]
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        answer = {
            "Content-Type": self.upstream.types[path],
            "ETag": etag,
            **self.upstream.extra_headers.get(path, {}),
        }
        if headers.get("if-none-match") == etag:
            self._send(304, answer, b"", has_body=False)
            return
        status = 200
        wanted = headers.get("range", "")
        if wanted and self.upstream.has_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data)), len(data) - 1)
            answer["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data = data[start : end + 1]
            status = 206
        self._send(status, answer, data, has_body=has_body, cut_after=trouble.cut_after)

    def _send(
        self,
        status: int,
        headers: Mapping[str, str],
        data: bytes,
        *,
        has_body: bool,
        cut_after: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if has_body:
            self._write(data if cut_after is None else data[:cut_after])
        if cut_after is not None:
            self.close_connection = True

    def _write(self, data: bytes) -> None:
        """Send a body, slowly if the test wants it; a client that goes away is no trouble of ours."""
        size = len(data) if self.upstream.bytes_per_s is None else 1 << 16
        try:
            for start in range(0, len(data), max(size, 1)):
                piece = data[start : start + size]
                self.wfile.write(piece)
                self.upstream.sent_bytes += len(piece)
                if self.upstream.bytes_per_s is not None:
                    time.sleep(len(piece) / self.upstream.bytes_per_s)
        except ConnectionError:
            self.close_connection = True


@contextmanager
def serve(tls: tuple[Path, Path] | None = None, *, clients_of: Path | None = None) -> Iterator[FakeUpstream]:
    """Run a server until the end of the block; with TLS where its certificate and key are given.

    ``clients_of`` is the authority whose clients alone are let in.
    """
    upstream = FakeUpstream()
    handler = type("Handler", (_Handler,), {"upstream": upstream})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    upstream.port = server.server_address[1]
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        if clients_of is not None:
            context.load_verify_locations(clients_of)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        upstream.scheme = "https"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
