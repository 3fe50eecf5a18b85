# SPDX-License-Identifier: Apache-2.0
"""A further control plane that serves packages and images: its nginx reads the ISOs, and takes nothing."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from installer.base.errors import HostError
from installer.config.nodes import Role
from installer.engine import mediaservers
from installer.engine.mediaservers import MediaServer as MediaServerOf
from installer.operations import following_images
from installer.operations.following_images import Say
from installer.operations.image_files import Root, Source
from installer.operations.image_names import ImageName
from installer.operations.images import Site
from installer.operations.replicating import SERVE
from tests.sls import media
from tests.sls.compiler import Compiler
from tests.sls.conftest import pillar_of_bootstrap, pillar_of_node
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
    """Run a real nginx and a real registry by what the states write there."""
    pillar = copy.deepcopy(pillar_of_node("least", Role.CONTROL_PLANE, tmp_path_factory))
    pillar["caisson"]["node"]["media"] = BUILDS
    pillar["caisson"]["elsewhere"][pillar["caisson"]["media_name"]] = [media.NODE]
    with media.running(compiler, pillar, tmp_path_factory.mktemp("replica")) as running:
        yield running


@pytest.fixture(scope="module")
def bootstrap(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaServer]:
    """Run those of the bootstrap node beside it."""
    pillar = pillar_of_bootstrap("least", tmp_path_factory)
    with media.running(compiler, pillar, tmp_path_factory.mktemp("bootstrap")) as running:
        yield running


def site_of(server: MediaServer) -> Site:
    ports = {
        "registry-push": server.push_port,
        "media-https": server.read_port,
        "registry": server.registry_port,
    }
    return Site(media.NODE, ports, (f"{media.NODE}:{server.push_port}",), server.paths)


def test_it_has_the_site_s_images_after_they_were_brought(
    bootstrap: MediaServer, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bootstrap.push("quay.io/vendor/app", "1", b"one")
    bootstrap.push("site/own", "2", b"two")
    source, named = following_images.stored(site_of(bootstrap))
    assert sorted(name.said() for name, _ in named) == ["quay.io/vendor/app:1", "site/own:2"]
    said: list[str] = []
    assert following_images.push_all(source, named, site_of(server), said.append) == 2
    assert server.read("/v2/vendor/app/manifests/1?ns=quay.io").headers["Docker-Content-Digest"] == first
    assert server.read("/v2/site/own/manifests/2").status == 200
    assert following_images.push_all(source, named, site_of(server), said.append) == 0, "the second time"
    newer = bootstrap.push("quay.io/vendor/app", "1", b"newer")
    source, named = following_images.stored(site_of(bootstrap))
    assert following_images.push_all(source, named, site_of(server), said.append) == 1
    assert server.read("/v2/vendor/app/manifests/1?ns=quay.io").headers["Docker-Content-Digest"] == newer


def test_how_far_it_follows_is_noted_and_one_that_cannot_stops_no_other(
    bootstrap: MediaServer, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.push("quay.io/vendor/noted", "1", b"one")
    servers = (MediaServerOf("cp2", media.NODE), MediaServerOf("cp3", "127.0.0.9"))
    monkeypatch.setattr(mediaservers, "known", lambda _: servers)
    monkeypatch.setattr(following_images, "push_all", pushing_to(site_of(server)))
    found = following_images.follow(site_of(bootstrap), say=lambda _: None)
    assert [(one.name, bool(one.fault), one.age_s >= 0) for one in found] == [
        ("cp2", False, True),
        ("cp3", True, False),
    ]
    assert list(following_images.known(bootstrap.paths)) == found
    error = following_images.failure(found)
    assert error is not None
    assert "cp3 does not follow" in error.message


def pushing_to(site: Site) -> Callable[..., int]:
    """Return what pushes to the one server that there is; nobody answers elsewhere."""
    real = following_images.push_all

    def push(source: Source, named: list[tuple[ImageName, Root]], there: Site, say: Say) -> int:
        if there.address != site.address:
            raise HostError(f"the registry at {there.address} does not answer")
        return real(source, named, site, say)

    return push


def test_it_serves_images_and_packages_of_the_iso(server: MediaServer) -> None:
    said = server.read("/v2/pause/manifests/3.10.2?ns=registry.k8s.io")
    assert (said.status, digest_of(said.body)) == (200, digest_of(media.ON_ISO))
    assert server.read("/repo/el9/repodata/repomd.xml").status == 200
    assert server.read("/v2/").status == 200


def test_what_no_iso_has_is_asked_elsewhere(server: MediaServer) -> None:
    """Who pulls goes on to the next server after a 404."""
    assert server.read("/v2/vendor/none/manifests/1?ns=quay.io").status == 404
    assert server.read(f"/v2/a/blobs/sha256:{'0' * 64}").status == 404


@pytest.mark.parametrize("source", [media.HOST, media.FURTHER_NODE, media.POD, media.OTHER])
def test_it_takes_nothing_but_from_the_bootstrap_node(server: MediaServer, source: str) -> None:
    said = server.write("/v2/vendor/app/blobs/uploads/", "POST", source=source)
    assert (said.status, said.code) == (403, "DENIED")
    assert server.write("/v2/vendor/app/blobs/uploads/", "POST", source=media.NODE).status == 202
    assert (
        server.write("/v2/vendor/app/blobs/uploads/", "POST", source=media.NODE, logged_in=False).status
        == 401
    )
    assert server.read("/v2/vendor/app/manifests/1", "PUT", body=b"{}").status == 405


def test_what_is_the_bootstrap_node_s_own_is_its_own_too(
    compiler: Compiler, replica_pillar: dict[str, Any]
) -> None:
    address = replica_pillar["caisson"]["elsewhere"][replica_pillar["caisson"]["media_name"]][0]
    chunks = {chunk["__id__"]: chunk for chunk in compiler.compile("nginx.configured", replica_pillar).chunks}
    assert address.replace(".", "[.]") in chunks["Write names of the media server"]["contents"]


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
