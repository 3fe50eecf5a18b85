# SPDX-License-Identifier: Apache-2.0
"""A real nginx over the layout of the ISO, with the two generated files: what a runtime asks for."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

START_TIMEOUT_S = 10.0
CONFIGURATION = """
daemon off; master_process off; pid {run}/pid; error_log {run}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
  include {run}/oci-maps.conf;
  server {{
    listen 127.0.0.1:{port};
    include {run}/oci-locations.conf;
    location @registry {{ return 404 "the site's registry\\n"; }}
  }}
}}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def base_url(tree_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the layout on loopback; of the generated files only the place of the layout is changed."""
    run, port = tmp_path_factory.mktemp("nginx"), _free_port()
    product = json.loads((tree_dir / "product.json").read_text())
    full_version = f"{product['version']}-{product['build']}"
    for name in ("oci-maps.conf", "oci-locations.conf"):
        text = (tree_dir / "nginx" / name).read_text()
        (run / name).write_text(text.replace(f"/srv/caisson/{full_version}/", f"{tree_dir}/"))
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    (run / "nginx.conf").write_text(CONFIGURATION.format(run=run, port=port))
    subprocess.run([nginx, "-p", run, "-c", run / "nginx.conf", "-t"], check=True, timeout=30)
    process = subprocess.Popen([nginx, "-p", run, "-c", run / "nginx.conf"])
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, (run / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def images(tree_dir: Path) -> dict[str, str]:
    """Return reference to digest of every image."""
    entries = json.loads((tree_dir / "oci" / "index.json").read_text())["manifests"]
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}


def _split(reference: str) -> tuple[str, str, str]:
    registry, _, rest = reference.partition("/")
    repository, _, tag = rest.rpartition(":")
    return registry, repository, tag


def _get(url: str, method: str = "GET") -> requests.Response:
    return requests.request(method, url, timeout=10)


def test_the_protocol_is_announced(base_url: str) -> None:
    answer = _get(f"{base_url}/v2/")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_every_image_can_be_pulled_by_tag_and_by_digest(base_url: str, images: dict[str, str]) -> None:
    """As containerd does: the registry's name in ``ns``; HEAD first, the manifest, then what it names."""
    assert images
    for reference, digest in images.items():
        registry, repository, tag = _split(reference)
        url = f"{base_url}/v2/{repository}"
        by_tag = _get(f"{url}/manifests/{tag}?ns={registry}", "HEAD")
        assert by_tag.status_code == 200, reference
        assert by_tag.headers["Docker-Content-Digest"] == digest
        by_digest = _get(f"{url}/manifests/{digest}?ns={registry}")
        assert f"sha256:{hashlib.sha256(by_digest.content).hexdigest()}" == digest
        assert by_digest.headers["Content-Type"] == by_tag.headers["Content-Type"]
        manifest = by_digest.json()
        assert by_digest.headers["Content-Type"] == manifest.get(
            "mediaType", by_digest.headers["Content-Type"]
        )
        if "config" in manifest:
            config = _get(f"{url}/blobs/{manifest['config']['digest']}?ns={registry}")
            assert f"sha256:{hashlib.sha256(config.content).hexdigest()}" == manifest["config"]["digest"]


def test_a_client_may_put_the_registry_into_the_path(base_url: str, images: dict[str, str]) -> None:
    reference, digest = next(iter(sorted(images.items())))
    registry, repository, tag = _split(reference)
    answer = _get(f"{base_url}/v2/{registry}/{repository}/manifests/{tag}", "HEAD")
    assert answer.headers["Docker-Content-Digest"] == digest


def test_a_part_of_a_blob_can_be_asked_for(base_url: str, tree_dir: Path, images: dict[str, str]) -> None:
    """Runtimes go on with a layer where a connection broke."""
    blob = max((tree_dir / "oci" / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    url = f"{base_url}/v2/any/blobs/sha256:{blob.name}"
    answer = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=10)
    assert answer.status_code == 206
    with blob.open("rb") as stream:
        stream.seek(100)
        assert answer.content == stream.read(100)


@pytest.mark.parametrize(
    "path",
    [
        "none/manifests/1?ns=registry.example.com",
        "pause/manifests/no-such-tag?ns=registry.k8s.io",
        f"pause/manifests/sha256:{'0' * 64}?ns=registry.k8s.io",
        f"pause/blobs/sha256:{'0' * 64}?ns=registry.k8s.io",
    ],
)
def test_what_the_iso_does_not_have_is_left_to_the_site(base_url: str, path: str) -> None:
    answer = _get(f"{base_url}/v2/{path}")
    assert (answer.status_code, answer.text) == (404, "the site's registry\n")


def test_an_image_is_not_given_out_under_another_registry_s_name(
    base_url: str, images: dict[str, str]
) -> None:
    _, repository, tag = _split(next(name for name in images if name.startswith("registry.k8s.io/")))
    assert _get(f"{base_url}/v2/{repository}/manifests/{tag}?ns=quay.io").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_layout_cannot_be_written_to(base_url: str, method: str) -> None:
    assert _get(f"{base_url}/v2/pause/manifests/1?ns=registry.k8s.io", method).status_code == 405
    assert _get(f"{base_url}/v2/pause/blobs/sha256:{'0' * 64}", method).status_code == 405
