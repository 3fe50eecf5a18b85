# SPDX-License-Identifier: Apache-2.0
"""Probes: good and bad certificates, under the defaults of an old Python and of a new one."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.authorities import make_authority, make_leaf
from tests.unit.salt.test_modules import load

pytestmark = pytest.mark.loopback


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.path == "/v2/" else 503
        self.send_response(status)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"text")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(leaf: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve on loopback, by HTTPS with ``leaf``; yield the URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        if leaf:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*leaf)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if leaf else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["as of 3.11", "as of 3.13"], autouse=True)
def defaults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give Python's default context the flags that it has in one release or the other."""
    is_new, original = request.param == "as of 3.13", ssl.create_default_context
    flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    def create(*, cafile: str | None = None) -> ssl.SSLContext:
        context = original(cafile=cafile)
        context.verify_flags = context.verify_flags | flags if is_new else context.verify_flags & ~flags
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)
    return str(request.param)


def probe(url: str, ca_file: Path | str = "") -> str:
    return str(load("caisson_wait").probe_url(url, str(ca_file)))


def test_a_good_server(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with serving(make_leaf(tmp_path, authority)) as url:
        assert probe(f"{url}/v2/", authority[0]) == ""
        assert probe(f"{url}/other", authority[0]) == f"{url}/other: HTTP 503 text"


def test_an_authority_without_key_identifier(tmp_path: Path) -> None:
    """Whether it is good enough for a site is what config check says; the probe asks whether the server is up."""
    authority = make_authority(tmp_path, key_usage=None, has_key_identifier=False)
    with serving(make_leaf(tmp_path, authority)) as url:
        assert probe(f"{url}/v2/", authority[0]) == ""


def test_an_authority_that_another_has_issued(tmp_path: Path) -> None:
    issued = make_authority(tmp_path / "issued", issuer=make_authority(tmp_path / "root", subject="a root"))
    with serving(make_leaf(tmp_path, issued)) as url:
        assert probe(f"{url}/v2/", issued[0]) == ""


def test_another_s_certificate_and_another_s_address(tmp_path: Path) -> None:
    authority, other = make_authority(tmp_path), make_authority(tmp_path / "other", subject="another")
    with serving(make_leaf(tmp_path, authority)) as url:
        assert "CERTIFICATE_VERIFY_FAILED" in probe(f"{url}/v2/", other[0])
    with serving(make_leaf(tmp_path, authority, address="127.0.0.2")) as url:
        assert "127.0.0.1" in probe(f"{url}/v2/", authority[0])


def test_a_server_without_tls_and_no_server() -> None:
    with serving() as url:
        assert probe(f"{url}/v2/") == ""
    assert "refused" in probe(f"{url}/v2/")
    assert probe("https:///v2/") == "https:///v2/: no host in the URL"
