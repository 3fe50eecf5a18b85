# SPDX-License-Identifier: Apache-2.0
"""nginx's two files: their text, and what a real nginx answers with them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from build.base.errors import BuildError
from build.bundle.nginxmaps import ManifestType, Served, render_locations, render_maps
from build.inventory.model import Digest, Reference

PAUSE_INDEX, PAUSE, NGINX = (Digest.of_bytes(text) for text in (b"index", b"manifest", b"docker"))
SERVED = (
    Served(
        reference=Reference.parse("registry.k8s.io/pause:3.10.2"),
        digest=PAUSE_INDEX,
        manifests=((PAUSE_INDEX, ManifestType.OCI_INDEX), (PAUSE, ManifestType.OCI_MANIFEST)),
    ),
    Served(
        reference=Reference.parse("docker.io/library/nginx:1.30"),
        digest=NGINX,
        manifests=((NGINX, ManifestType.DOCKER_MANIFEST),),
    ),
    # Two tags that differ only in case are two tags.
    Served(
        reference=Reference.parse("docker.io/site/tool:RC.1"),
        digest=PAUSE,
        manifests=((PAUSE, ManifestType.OCI_MANIFEST),),
    ),
    Served(
        reference=Reference.parse("docker.io/site/tool:rc.1"),
        digest=NGINX,
        manifests=((NGINX, ManifestType.DOCKER_MANIFEST),),
    ),
    Served(
        reference=Reference.parse("registry.site:5000/app:1"),
        digest=PAUSE,
        manifests=((PAUSE, ManifestType.OCI_MANIFEST),),
    ),
)
BLOB = b"a layer" * 100
BLOB_DIGEST = Digest.of_bytes(BLOB)
#: The second server stands for the site's registry: it says what it was asked.
SERVER = """
daemon off; master_process off; pid {run}/pid; error_log {run}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {run}/1; proxy_temp_path {run}/2; fastcgi_temp_path {run}/3; uwsgi_temp_path {run}/4;
  scgi_temp_path {run}/5;
  include {run}/oci-maps.conf;
  server {{
    listen unix:{run}/site;
    location / {{ return 404 "site: $request_method $request_uri"; }}
  }}
  server {{
    listen 127.0.0.1:{port};
    include {run}/oci-locations.conf;
    location @registry {{ add_header Full "$oci_name $oci_rest" always; proxy_pass http://unix:{run}/site:; }}
  }}
}}
"""


def test_maps(golden: Callable[[str, str], None]) -> None:
    golden("oci-maps.conf", render_maps(SERVED))


def test_locations(golden: Callable[[str, str], None]) -> None:
    golden("oci-locations.conf", render_locations("/srv/caisson/0.1.0/oci"))


def test_maps_of_an_empty_layout_are_maps(golden: Callable[[str, str], None]) -> None:
    golden("oci-maps-empty.conf", render_maps(()))


@pytest.mark.parametrize(
    "change",
    [
        {"tag": 'x" evil; }'},
        {"tag": "x\ny"},
        {"repository": "a;b"},
        {"registry": 'r"; include /etc/passwd; "'},
        {"registry": "$host"},
        {"tag": "a.*"},
        {"tag": "x\\"},
    ],
)
def test_a_name_that_nginx_would_read_otherwise_is_refused(change: dict[str, str]) -> None:
    """Whoever made the reference: a manifest of a vendor names images too."""
    reference = dataclasses.replace(SERVED[0].reference)
    for name, value in change.items():
        object.__setattr__(reference, name, value)  # past its own checks
    with pytest.raises(BuildError, match="cannot be served by nginx"):
        render_maps([dataclasses.replace(SERVED[0], reference=reference)])


class Client:
    """Asks nginx, and keeps what it answered."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}"

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(  # noqa: S310 - a server of our own
            f"{self.base_url}{path}", method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run nginx over a layout of three manifests and a layer."""
    run = tmp_path_factory.mktemp("nginx")
    blobs = run / "oci" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (b"index", b"manifest", b"docker", BLOB):
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (run / "oci-maps.conf").write_text(render_maps(SERVED))
    (run / "oci-locations.conf").write_text(render_locations(str(run / "oci")))
    (run / "nginx.conf").write_text(SERVER.format(run=run, port=port))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    process = subprocess.Popen([program, "-p", run, "-c", run / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port, run / "error.log")
        yield Client(port)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(
    ("path", "kind", "digest"),
    [
        ("pause/manifests/3.10.2?ns=registry.k8s.io", ManifestType.OCI_INDEX, PAUSE_INDEX),
        ("registry.k8s.io/pause/manifests/3.10.2", ManifestType.OCI_INDEX, PAUSE_INDEX),
        (f"pause/manifests/{PAUSE}?ns=registry.k8s.io", ManifestType.OCI_MANIFEST, PAUSE),
        (f"any/name/manifests/{NGINX}", ManifestType.DOCKER_MANIFEST, NGINX),
        ("library/nginx/manifests/1.30?ns=docker.io", ManifestType.DOCKER_MANIFEST, NGINX),
        ("nginx/manifests/1.30?ns=docker.io", ManifestType.DOCKER_MANIFEST, NGINX),
        ("docker.io/nginx/manifests/1.30", ManifestType.DOCKER_MANIFEST, NGINX),
        ("index.docker.io/library/nginx/manifests/1.30", ManifestType.DOCKER_MANIFEST, NGINX),
        # As containerd writes a colon in a query, as a person does, and as a client whose names have none.
        ("app/manifests/1?ns=registry.site%3A5000", ManifestType.OCI_MANIFEST, PAUSE),
        ("app/manifests/1?ns=registry.site:5000", ManifestType.OCI_MANIFEST, PAUSE),
        ("registry.site:5000/app/manifests/1", ManifestType.OCI_MANIFEST, PAUSE),
        ("registry.site__5000/app/manifests/1", ManifestType.OCI_MANIFEST, PAUSE),
        ("site/tool/manifests/RC.1?ns=docker.io", ManifestType.OCI_MANIFEST, PAUSE),
        ("site/tool/manifests/rc.1?ns=docker.io", ManifestType.DOCKER_MANIFEST, NGINX),
    ],
)
def test_manifests_are_served_with_their_type(
    client: Client, path: str, kind: ManifestType, digest: Digest
) -> None:
    for method in ("GET", "HEAD"):
        status, headers, body = client.ask(f"/v2/{path}", method)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert headers["Docker-Content-Digest"] == str(digest)
        assert headers["ETag"] == f'"{digest}"'
        assert not body or Digest.of_bytes(body) == digest
        assert int(headers["Content-Length"]) > 0


@pytest.mark.subprocess
@pytest.mark.loopback
def test_blobs_are_served_whole_in_part_and_by_condition(client: Client) -> None:
    path = f"/v2/pause/blobs/{BLOB_DIGEST}?ns=registry.k8s.io"
    assert client.ask(path)[2] == BLOB
    status, headers, body = client.ask(path, headers={"Range": "bytes=7-13"})
    assert (status, headers["Content-Type"], body) == (206, "application/octet-stream", BLOB[7:14])
    # The dates of files say nothing: a client's date gives no 304.
    since = "Fri, 31 Dec 2049 00:00:00 GMT"
    assert client.ask(path, headers={"If-Modified-Since": since})[0] == 200


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(
    "path",
    [
        "/v2/pause/manifests/3.10.2?ns=docker.io",
        "/v2/pause/manifests/other?ns=registry.k8s.io",
        "/v2/pause/manifests/3.10.2?ns=registry.k8s.io%20",
        f"/v2/pause/manifests/sha256:{'0' * 64}?ns=registry.k8s.io",
        f"/v2/pause/blobs/sha256:{'0' * 64}?ns=registry.k8s.io",
        "/v2/site/app/tags/list",
        "/v2/_catalog",
    ],
)
def test_the_site_s_registry_gets_everything_else_unchanged(client: Client, path: str) -> None:
    assert client.ask(path)[::2] == (404, f"site: GET {path}".encode())


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("vendor/app/manifests/1?ns=quay.io", "quay.io/vendor/app manifests/1"),
        ("quay.io/vendor/app/manifests/1", "quay.io/vendor/app manifests/1"),
        ("vendor/app/manifests/1?ns=docker.io", "docker.io/vendor/app manifests/1"),
        ("app/manifests/1?ns=index.docker.io", "docker.io/library/app manifests/1"),
        ("registry-1.docker.io/a/b/c/manifests/1", "docker.io/a/b/c manifests/1"),
        ("vendor/app/tags/list?ns=r.site%3a5000", "r.site__5000/vendor/app tags/list"),
        ("r.site__5000/app/tags/list", "r.site__5000/app tags/list"),
        ("registry__5000/app/tags/list", "registry__5000/app tags/list"),
        ("localhost/app/tags/list", "localhost/app tags/list"),
        (f"quay.io/a/blobs/sha256:{'0' * 64}", f"quay.io/a blobs/sha256:{'0' * 64}"),
        (f"a/manifests/sha256:{'0' * 64}?ns=quay.io", f"quay.io/a manifests/sha256:{'0' * 64}"),
        # A registry inside a registry's name is one name, whoever writes which part where.
        ("quay.io/vendor/app/manifests/1?ns=docker.io", "docker.io/quay.io/vendor/app manifests/1"),
        # No registry, or no name.
        ("vendor/app/manifests/1", " manifests/1"),
        ("app/manifests/1", " manifests/1"),
        ("quay.io/manifests/1", " manifests/1"),
        ("Quay.io/app/manifests/1", " manifests/1"),
        ("quay.io/App/manifests/1", " manifests/1"),
        ("app/manifests/1?ns=quay.io%20", " manifests/1"),
        ("quay.io/app/manifests/1?ns=quay.io/x", " manifests/1"),
        ("quay.io/a%0ab/manifests/1", "none"),
        ("quay.io/app%0a/manifests/1", "none"),
        ("quay.io/app%20HTTP/manifests/1", " manifests/1"),
        ("quay.io/app%3fx/manifests/1", " manifests/1"),
        ("quay.io/-app/manifests/1", " manifests/1"),
        ("-quay.io/app/manifests/1", " manifests/1"),
        ("quay.io:x/app/manifests/1", " manifests/1"),
        ("_catalog", "none"),
    ],
)
def test_a_full_name_begins_with_its_registry_in_one_spelling(client: Client, path: str, full: str) -> None:
    said = client.ask(f"/v2/{path}")[1]["Full"]
    assert said == {"none": ""}.get(full, full).strip()


@pytest.mark.subprocess
@pytest.mark.loopback
def test_tags_are_listed_under_the_name_that_was_asked_for(client: Client) -> None:
    for path in ("pause", "registry.k8s.io/pause"):
        query = "" if "." in path else "?ns=registry.k8s.io"
        _, headers, body = client.ask(f"/v2/{path}/tags/list{query}")
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body) == {"name": path, "tags": ["3.10.2"]}


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/a/blobs/uploads/", "/v2/pause/manifests/3.10.2?ns=registry.k8s.io"]
)
def test_nothing_can_be_written(client: Client, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.ask(path, method)[0] == 405


@pytest.mark.subprocess
@pytest.mark.loopback
def test_the_version_of_the_protocol_is_announced(client: Client) -> None:
    status, headers, body = client.ask("/v2/")
    assert (status, headers["Docker-Distribution-Api-Version"], body) == (200, "registry/2.0", b"{}")
