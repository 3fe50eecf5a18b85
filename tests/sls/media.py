# SPDX-License-Identifier: Apache-2.0
"""The media server as the states write it: a real nginx before a real registry, on addresses of the loopback network.

127.0.0.1 is the bootstrap node, 127.0.1.0/24 the control plane's network, 127.0.2.0/24 that of pods, 127.0.3.0/24 that
of services; 127.0.1.66 is a further node.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.bundle.nginxmaps import ManifestType, Served, render_locations, render_maps
from build.inventory.model import Digest, Reference
from installer.base.paths import Paths
from installer.operations import push_login
from lab import golang
from tests.authorities import make_authority, make_leaf
from tests.sls.compiler import Compiler

NODE, HOST, FURTHER_NODE, POD, SERVICE, OTHER = (
    "127.0.0.1",
    "127.0.1.9",
    "127.0.1.66",
    "127.0.2.7",
    "127.0.3.7",
    "127.0.9.9",
)
OCI_MANIFEST = ManifestType.OCI_MANIFEST.value
START_S = 20.0
ON_ISO = b'{"schemaVersion":2,"mediaType":"%s","of":"the ISO"}' % OCI_MANIFEST.encode()
PLACES = re.compile(r"/etc/caisson\b|/var/lib/registry\b|/tmp/(?=nginx\.pid|body|proxy|fastcgi|uwsgi|scgi)")
ISO_IMAGES = ("registry.k8s.io/pause:3.10.2", "docker.io/library/nginx:1.30")


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """What a client of a registry shows of an error."""
        return str(json.loads(self.body)["errors"][0]["message"])

    @property
    def code(self) -> str:
        """The code of the error, as the protocol names it."""
        return str(json.loads(self.body)["errors"][0]["code"])


@dataclass(frozen=True)
class MediaServer:
    """Where nginx and the registry listen, and how one asks them."""

    run_dir: Path
    read_port: int
    push_port: int
    registry_port: int
    ca_file: Path

    @property
    def paths(self) -> Paths:
        """Return the paths of the host that they serve."""
        return Paths(self.run_dir)

    @property
    def login(self) -> dict[str, str]:
        """Return the header of whoever knows the password."""
        return basic(push_login.PUSH_USER, push_login.get(self.paths))

    def ask(
        self,
        port: int,
        path: str,
        method: str = "GET",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = HOST,
        tls: bool = True,
    ) -> Answer:
        """Send one request as it stands, from an address, and return what is answered."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = (
            http.client.HTTPSConnection(NODE, port, timeout=30, context=context, source_address=(source, 0))
            if tls
            else http.client.HTTPConnection(NODE, port, timeout=30, source_address=(source, 0))
        )
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            said = connection.getresponse()
            return Answer(said.status, dict(said.headers), said.read())
        finally:
            connection.close()

    def read(self, path: str, method: str = "GET", **more: Any) -> Answer:
        """Ask where everybody reads, as a client that takes every kind of manifest."""
        headers = {"Accept": ", ".join(ManifestType), **more.pop("headers", {})}
        return self.ask(self.read_port, path, method, headers=headers, **more)

    def write(self, path: str, method: str = "GET", *, logged_in: bool = True, **more: Any) -> Answer:
        """Ask where images are pushed, with the password."""
        headers = {**(self.login if logged_in else {}), **more.pop("headers", {})}
        return self.ask(self.push_port, path, method, headers=headers, **more)

    def push(self, name: str, tag: str, text: bytes, *, query: str = "") -> str:
        """Push a manifest with one layer, as clients do; return the manifest's digest."""
        layer = self.push_blob(name, text, query=query)
        descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}
        config = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **self.push_blob(name, b"{}", query=query),
        }
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [descriptor]}
        ).encode()
        said = self.write(
            f"/v2/{name}/manifests/{tag}{query}", "PUT", body=manifest, headers={"Content-Type": OCI_MANIFEST}
        )
        assert said.status == 201, said
        return digest_of(manifest)

    def push_blob(self, name: str, data: bytes, *, query: str = "") -> dict[str, Any]:
        """Upload a blob where the registry says; return digest and size of it."""
        begun = self.write(f"/v2/{name}/blobs/uploads/{query}", "POST")
        assert begun.status == 202, begun
        place = begun.headers["Location"].partition(f":{self.push_port}")[2]
        more = f"&{query[1:]}" if query else ""
        said = self.write(f"{place}&digest={digest_of(data)}{more}", "PUT", body=data)
        assert said.status == 201, said
        return {"digest": digest_of(data), "size": len(data)}


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of a login."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def digest_of(data: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def running(compiler: Compiler, pillar: dict[str, Any], run_dir: Path) -> Iterator[MediaServer]:
    """Run both by what the states write for a node of this pillar; ports and places are this machine's."""
    ports = dict(zip(("8443", "8444", "5000"), _free_ports(3), strict=True))
    server = _prepared(compiler, pillar, run_dir, ports)
    registry = golang.build("registry") / "registry"
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    # With a master, which reads its files again as the pod does; its workers must see what only who runs this may.
    commands: tuple[list[str | Path], ...] = (
        [registry, "serve", run_dir / "registry.yml"],
        [nginx, "-p", run_dir, "-c", run_dir / "nginx.conf", "-g", "daemon off; user root;"],
    )
    processes = []
    with (run_dir / "log").open("wb") as log:
        try:
            for command in commands:
                environment = {"OTEL_TRACES_EXPORTER": "none", "HOME": str(run_dir)}
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            for port in (server.registry_port, server.read_port, server.push_port):
                _wait_for(port, processes, run_dir / "log")
            yield server
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=20)


def _prepared(
    compiler: Compiler, pillar: dict[str, Any], run_dir: Path, ports: Mapping[str, str]
) -> MediaServer:
    changed = copy.deepcopy(pillar)
    caisson = changed["caisson"]
    caisson["node"] = {**caisson["node"], "control_plane_address": NODE}
    caisson["networks"] = {
        **caisson["networks"],
        "control_plane": ["127.0.1.0/24"],
        "pods": "127.0.2.0/24",
        "services": "127.0.3.0/24",
    }
    (run_dir / "etc/caisson/tls").mkdir(parents=True)
    authority, key = make_authority(run_dir / "etc/caisson/pki")
    leaf, leaf_key = make_leaf(run_dir / "etc/caisson/tls", (authority, key), names=[NODE])
    shutil.copy(authority, run_dir / "etc/caisson/ca.crt")
    leaf.rename(run_dir / "etc/caisson/tls/media.crt")
    leaf_key.rename(run_dir / "etc/caisson/tls/media.key")
    push_login.ensure(Paths(run_dir))
    nodes = Paths(run_dir).barred_nodes_dir
    nodes.mkdir(parents=True)
    (nodes / FURTHER_NODE).touch()
    _lay_out(run_dir / "media")
    texts = {
        "nginx.conf": compiler.render(
            "salt://nginx/files/nginx.conf.j2",
            {"address": NODE, "media_dir": str(run_dir / "media")},
            changed,
        ),
        "registry.yml": compiler.render("salt://registry/files/config.yml.j2", {}, changed),
        "etc/caisson/nginx/oci-maps.conf": render_maps(_served()),
        "etc/caisson/nginx/oci-locations.conf": render_locations(str(run_dir / "media/oci")),
    }
    for chunk in compiler.compile("nginx.configured", changed).chunks:
        if "contents" in chunk:
            texts[chunk["name"].lstrip("/")] = chunk["contents"]
    for name, text in texts.items():
        (run_dir / name).write_text(_placed(text, run_dir, ports))
    (run_dir / "var/lib/caisson/registry").mkdir(parents=True)
    (run_dir / "tmp").mkdir()
    numbers = {name: int(port) for name, port in ports.items()}
    return MediaServer(
        run_dir, numbers["8443"], numbers["8444"], numbers["5000"], run_dir / "etc/caisson/ca.crt"
    )


def _placed(text: str, run_dir: Path, ports: Mapping[str, str]) -> str:
    """Return a rendered text with the places and the ports of this machine."""
    for number, port in ports.items():
        text = text.replace(number, port)
    text = PLACES.sub(lambda found: f"{run_dir}{found.group()}", text)
    return text.replace(f"{run_dir}/var/lib/registry", f"{run_dir}/var/lib/caisson/registry")


def _served() -> list[Served]:
    digest = Digest.of_bytes(ON_ISO)
    return [
        Served(
            reference=Reference.parse(name), digest=digest, manifests=((digest, ManifestType.OCI_MANIFEST),)
        )
        for name in ISO_IMAGES
    ]


def _lay_out(media_dir: Path) -> None:
    """Make what the ISO has: an image, a repository, keys, a page."""
    for name, data in {
        f"oci/blobs/sha256/{Digest.of_bytes(ON_ISO).hex}": ON_ISO,
        "repo/el9/repodata/repomd.xml": b"<repomd/>",
        "keys/a.key": b"a key",
        "index.html": b"<p>a page",
        "product.json": b"{}",
    }.items():
        file = media_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _free_ports(count: int) -> list[str]:
    servers = [socket.create_server((NODE, 0)) for _ in range(count)]
    found = [str(server.getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return found


def _wait_for(port: int, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((NODE, port), timeout=1).close()
        except ConnectionRefusedError:
            assert all(process.poll() is None for process in processes), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
