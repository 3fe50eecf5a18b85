# SPDX-License-Identifier: Apache-2.0
"""A further control plane that serves packages and images: its nginx reads the ISOs, and takes nothing."""

from __future__ import annotations

import copy
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from build.bundle import nginxmaps
from installer.operations.replicating import SERVE
from tests.sls import media
from tests.sls.compiler import Compiler
from tests.sls.media import MediaServer, digest_of

BUILDS = ["0.1.0-aa", "0.1.0-bb"]
SERVERS = [{"address": "10.0.0.2"}, {"address": "media.lab.internal"}]


@pytest.fixture
def replica_pillar(control_plane_pillar: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(control_plane_pillar)
    changed["caisson"]["node"]["media"] = BUILDS
    return changed


def test_its_states_serve_the_iso_in_use_from_its_own_place(
    compiler: Compiler, replica_pillar: dict[str, Any]
) -> None:
    for sls in SERVE.sls:
        compiled = compiler.compile(sls, replica_pillar)
        assert list(compiled.faults) == []
    chunks = {chunk["__id__"]: chunk for chunk in compiler.compile("nginx.running", replica_pillar).chunks}
    assert chunks["Copy oci-maps.conf"]["source"] == "/srv/caisson/0.1.0-aa/nginx/oci-maps.conf"
    assert chunks["Write nginx configuration"]["context"]["media_dir"] == "/srv/caisson/0.1.0-aa"
    assert chunks["Run nginx"]["name"] == "nginx"
    assert not [name for name in chunks if "renew" in name.lower()], "who has the authority's key renews"


def test_no_control_plane_serves_without_being_told(
    compiler: Compiler, control_plane_pillar: dict[str, Any]
) -> None:
    compiled = compiler.compile("roles.control_plane", control_plane_pillar)
    assert "nginx" not in {chunk["name"] for chunk in compiled.chunks}


@pytest.fixture(scope="module")
def server(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaServer]:
    """Run a real nginx by what the states write there; nothing listens where images are pushed."""
    from installer.config.nodes import Role  # noqa: PLC0415
    from tests.sls.conftest import _pillar_of  # noqa: PLC0415  one pillar is enough

    pillar = copy.deepcopy(_pillar_of("least", Role.CONTROL_PLANE, tmp_path_factory))
    pillar["caisson"]["node"]["media"] = BUILDS
    run_dir = tmp_path_factory.mktemp("replica")
    ports = dict(zip(("8443", "8444", "5000"), media._free_ports(3), strict=True))
    made = media._prepared(compiler, pillar, run_dir, ports)
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    with (run_dir / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", run_dir, "-c", run_dir / "nginx.conf", "-g", "daemon off; user root;"],
            stdout=log,
            stderr=log,
        )
        try:
            media._wait_for(made.read_port, [process], run_dir / "log")
            yield made
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_it_serves_images_and_packages_of_the_iso(server: MediaServer) -> None:
    said = server.read("/v2/pause/manifests/3.10.2?ns=registry.k8s.io")
    assert (said.status, digest_of(said.body)) == (200, digest_of(media.ON_ISO))
    assert server.read("/repo/el9/repodata/repomd.xml").status == 200
    assert server.read("/v2/").status == 200


def test_what_no_iso_has_is_asked_elsewhere(server: MediaServer) -> None:
    """Containerd goes on to the next server after a 404."""
    said = server.read("/v2/vendor/app/manifests/1?ns=quay.io")
    assert (said.status, said.code) == (404, "NAME_UNKNOWN")
    assert server.read(f"/v2/a/blobs/sha256:{'0' * 64}").status == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_it_takes_nothing(server: MediaServer, method: str) -> None:
    assert server.read("/v2/vendor/app/manifests/1", method, body=b"{}").status in (404, 405)
    with pytest.raises(ConnectionRefusedError):
        server.ask(server.push_port, "/v2/")


def test_it_needs_no_password_of_the_registry(compiler: Compiler, replica_pillar: dict[str, Any]) -> None:
    text = compiler.render(
        "salt://nginx/files/nginx.conf.j2", {"address": "192.0.2.12", "media_dir": "/srv/x"}, replica_pillar
    )
    assert "registry-login" not in text
    assert "8444" not in text
    assert nginxmaps.ADDED_DIR.startswith("/etc/caisson/nginx/")


def test_every_pull_goes_to_each_of_them_in_turn(compiler: Compiler, worker_pillar: dict[str, Any]) -> None:
    changed = copy.deepcopy(worker_pillar)
    changed["caisson"]["media_servers"] = SERVERS
    (chunk,) = compiler.compile("containerd.mirrors", changed).chunks
    said = tomllib.loads(compiler.render(chunk["source"], chunk["context"], changed))
    assert list(said["host"]) == ["https://10.0.0.2:8443", "https://media.lab.internal:8443"]
    assert {host["dial_timeout"] for host in said["host"].values()} == {"1s"}
    assert said["server"] in said["host"]


def test_who_is_told_of_servers_asks_them(compiler: Compiler, worker_pillar: dict[str, Any]) -> None:
    compiled = compiler.compile("cluster.told", worker_pillar)
    assert list(compiled.faults) == []
    ids = [chunk["__id__"] for chunk in compiled.chunks]
    last = ids.index("Note what this node was told")
    for name in ("Send every pull to the media servers", "Let dnf know who serves packages"):
        assert ids.index(name) < last
