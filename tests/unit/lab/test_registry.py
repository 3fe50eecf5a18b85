# SPDX-License-Identifier: Apache-2.0
"""A push sends every byte verbatim, in the order that a registry needs."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lab import images, registry
from lab.errors import LabError


class _Handler(BaseHTTPRequestHandler):
    """As much of the distribution API as a push uses."""

    protocol_version = "HTTP/1.1"
    server: _Registry

    def do_HEAD(self) -> None:
        known = self.path.rpartition("/")[2] in self.server.blobs
        self._answer(200 if known else 404)

    def do_POST(self) -> None:
        self._answer(202, Location=f"{self.path}uploads-1?_state=abc")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        self.server.puts.append(url.path)
        if "/manifests/" in url.path:
            if self.server.refuses:
                self._answer(400, body=b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
                return
            self.server.manifests[url.path] = (self.headers["Content-Type"], body)
        else:
            query = parse_qs(url.query)
            assert query["_state"] == ["abc"]
            self.server.blobs[query["digest"][0]] = body
        self._answer(201)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Registry(ThreadingHTTPServer):
    """A registry that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.puts: list[str] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def fake() -> Iterator[_Registry]:
    with _Registry() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def made(tmp_path: Path) -> images.MadeImage:
    """Return an image with an index and one layer from a file."""
    file = tmp_path / "layer.tar.gz"
    file.write_bytes(b"layer" * 50_000)
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    blob = images.Blob(digest=digest, size_bytes=file.stat().st_size, file=file)
    layer = images.MadeLayer(blob=blob, diff_id=digest, comment="a layer")
    image = images.Image(id="tool", reference="quay.io/acme/tool:v1", layers=(), index=images.Index.FOREIGN)
    return images.compose(image, [layer])


@pytest.mark.loopback
def test_push_sends_blobs_then_children_then_the_tag(fake: _Registry, made: images.MadeImage) -> None:
    registry.push([made], fake.url)
    assert fake.blobs == {
        blob.digest: blob.file.read_bytes() if blob.file else blob.data for blob in made.blobs
    }
    prefix = "/v2/quay.io/acme/tool/manifests/"
    names = [*(manifest.digest for manifest in made.manifests[:-1]), "v1"]
    assert fake.puts[-3:] == [prefix + name for name in names]
    for name, manifest in zip(names, made.manifests, strict=True):
        assert fake.manifests[prefix + name] == (manifest.media_type, manifest.text.encode())


@pytest.mark.loopback
def test_push_skips_blobs_that_are_there(fake: _Registry, made: images.MadeImage) -> None:
    registry.push([made], fake.url)
    fake.puts.clear()
    registry.push([made], fake.url)
    assert all("/manifests/" in path for path in fake.puts)


@pytest.mark.loopback
def test_a_refusal_says_what_the_registry_said(fake: _Registry, made: images.MadeImage) -> None:
    fake.refuses = True
    with pytest.raises(LabError, match=r"answered 400 to PUT /v2/quay\.io/acme/tool/manifests/") as caught:
        registry.push([made], fake.url)
    assert "MANIFEST_BLOB_UNKNOWN" in caught.value.details


@pytest.mark.loopback
def test_a_registry_that_is_gone_is_a_lab_error(fake: _Registry, made: images.MadeImage) -> None:
    url = fake.url
    fake.shutdown()
    fake.server_close()
    with pytest.raises(LabError, match="broke off at HEAD"):
        registry.push([made], url)


@pytest.mark.parametrize("is_read_only", [False, True])
def test_configuration(is_read_only: bool, golden: Callable[[str, str], None]) -> None:
    text = registry.render_config(Path("/cache/storage"), is_read_only=is_read_only)
    golden(f"registry-{'read' if is_read_only else 'push'}.yml", text)


def test_a_storage_is_named_by_what_it_holds(made: images.MadeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAISSON_CACHE", "/cache")
    one = registry.storage_dir([made])
    assert one.parent == Path("/cache/lab/registry/storage")
    assert one != registry.storage_dir([])


def test_only_the_newest_storages_stay(tmp_path: Path) -> None:
    for age in range(5):
        directory = tmp_path / f"{age:032}"
        directory.mkdir()
        (tmp_path / f"{age:032}.json").write_text("{}")
        os.utime(directory, (1000 - age, 1000 - age))
    (tmp_path / "unrelated").mkdir()
    registry.forget_old_storages(tmp_path)
    kept = {f"{age:032}" for age in range(registry.KEPT_STORAGES)}
    assert {path.name for path in tmp_path.iterdir()} == {
        "unrelated",
        *kept,
        *(f"{name}.json" for name in kept),
    }
