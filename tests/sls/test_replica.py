# SPDX-License-Identifier: Apache-2.0
"""A further control plane that serves packages and images: its nginx reads the ISOs, and takes nothing."""

from __future__ import annotations

import copy
import json
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.config.nodes import Role
from installer.config.ports import PORTS_FILE
from installer.engine import lock as lockfile
from installer.engine import mediaservers, pillartop
from installer.engine.mediaservers import MediaServer as MediaServerOf
from installer.operations import (
    bus,
    following_images,
    image_removals,
    images,
    replica_answers,
    replica_images,
)
from installer.operations.bus import Answer
from installer.operations.following_images import Say
from installer.operations.image_files import Root, Source
from installer.operations.image_names import ImageName
from installer.operations.image_removals import Removal
from installer.operations.images import Site
from installer.operations.replicating import SERVE
from lab import golang
from tests.sls import media
from tests.sls.compiler import Compiler
from tests.sls.conftest import pillar_of_bootstrap, pillar_of_node
from tests.sls.media import MediaServer, digest_of

ROOT_DIR = Path(__file__).parents[2]
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
    assert following_images.push_all(source, named, site_of(server), said.append) == (2, [])
    assert server.read("/v2/vendor/app/manifests/1?ns=quay.io").headers["Docker-Content-Digest"] == first
    assert server.read("/v2/site/own/manifests/2").status == 200
    assert following_images.push_all(source, named, site_of(server), said.append) == (0, []), (
        "the second time"
    )
    newer = bootstrap.push("quay.io/vendor/app", "1", b"newer")
    source, named = following_images.stored(site_of(bootstrap))
    assert following_images.push_all(source, named, site_of(server), said.append) == (1, [])
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


def test_one_that_cannot_be_brought_stops_no_other(bootstrap: MediaServer, server: MediaServer) -> None:
    """Of a damaged one; of one that was removed meanwhile; one that the ISOs there have is refused there."""
    bootstrap.push("quay.io/vendor/bad", "1", b"to be damaged")
    bootstrap.push("quay.io/vendor/gone", "1", b"to be removed")
    bootstrap.push("quay.io/vendor/whole", "1", b"whole")
    source, named = following_images.stored(site_of(bootstrap))
    for digest, data in (
        (digest_of(b"to be damaged"), b"TO BE DAMAGED"),
        (digest_of(b"to be removed"), None),
    ):
        file = dict(images.blob_files(bootstrap.paths))[digest]
        if data is None:
            file.unlink()
        else:
            file.write_bytes(data)
    wanted = ("quay.io/vendor/bad", "quay.io/vendor/gone", "quay.io/vendor/whole")
    chosen = [one for one in named if one[0].said().partition(":")[0] in wanted]
    chosen.insert(0, (ImageName("registry.k8s.io", "pause", "3.10.2"), chosen[-1][1]))
    sent, faults = following_images.push_all(source, chosen, site_of(server), lambda _: None)
    assert sent == 1
    assert [fault.partition(": ")[0].rpartition(":")[0] for fault in faults] == [
        "registry.k8s.io/pause",
        *wanted[:2],
    ]
    assert "is an image of the ISO" in faults[0]
    assert faults[2].endswith("it was removed here meanwhile")
    assert server.read("/v2/vendor/whole/manifests/1?ns=quay.io").status == 200
    with site_of(bootstrap).inside() as registry:
        for name, root in chosen[1:]:
            assert images.take_tag(registry, name.path, name.tag, root.digest)
            assert not images.take_tag(registry, name.path, name.tag, root.digest)


@dataclass
class Bus:
    """The way to the further control plane: what it was asked; the registry that collects is one of the two."""

    site: Site
    collects: MediaServer
    asked: list[str] = field(default_factory=list)

    def remove(self, text: str, bootstrap: MediaServer) -> None:
        """Remove an image on the bootstrap node."""
        there, self.collects = self.collects, bootstrap
        images.remove(self.site, text, say=lambda _: None)
        self.collects = there


@pytest.fixture
def bus_to(bootstrap: MediaServer, server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Let the bus lead to the further control plane, where the real registry collects."""
    made = Bus(site_of(bootstrap), server)
    tree_dir = server.run_dir / "tree"
    (tree_dir / PORTS_FILE).parent.mkdir(parents=True, exist_ok=True)
    table = (ROOT_DIR / PORTS_FILE).read_text().replace("5000", str(server.registry_port))
    (tree_dir / PORTS_FILE).write_text(table)
    monkeypatch.setattr(replica_images.forget, "__kwdefaults__", {"tree_dir": tree_dir})
    server.paths.pillar_dir.mkdir(parents=True, exist_ok=True)
    (server.paths.pillar_dir / "caisson.sls").write_text(
        pillartop.render({"caisson": {"node": {"name": "cp2", "media": BUILDS}}})
    )
    servers = (MediaServerOf("cp2", media.NODE),)
    monkeypatch.setattr(mediaservers, "known", lambda _: servers)
    monkeypatch.setattr(following_images, "push_all", pushing_to(site_of(server)))

    def run(words: Sequence[object], **_: Any) -> Completed:
        if list(words)[:2] == ["crictl", "ps"]:
            return Completed(0, "id\n", "")
        place = made.collects.run_dir / "registry.yml"
        program = golang.build("registry") / "registry"
        subprocess.run([program, "garbage-collect", place], check=True, capture_output=True, timeout=60)
        return Completed(0, "", "")

    def ask(name: str, function: str, given: str, **_: Any) -> Answer:
        made.asked.append(f"{name} {function}")
        return Answer(replica_answers.forget_images(json.loads(given), server.paths))

    monkeypatch.setattr(images, "run", run)
    monkeypatch.setattr(bus, "ask_why", ask)
    return made


def test_what_is_removed_here_is_removed_there_with_its_blobs_and_nothing_else(
    bootstrap: MediaServer, server: MediaServer, bus_to: Bus
) -> None:
    site = bus_to.site
    for tag in ("1", "2", "3"):
        bootstrap.push("quay.io/vendor/rm", tag, f"layer {tag}".encode())
    following_images.follow(site, say=lambda _: None)
    path = "/v2/vendor/rm/manifests"
    assert server.read(f"{path}/1?ns=quay.io").status == 200
    bus_to.remove("quay.io/vendor/rm:1", bootstrap)
    bus_to.remove("quay.io/vendor/rm:3", bootstrap)
    assert [one.to_remove for one in following_images.known(site.paths)] == [2]
    bootstrap.push("quay.io/vendor/rm", "3", b"layer 3")  # again: it stays
    with lockfile.hold(site.paths.lock_file):
        (found,) = following_images.follow(site, say=lambda _: None)
    assert (found.to_remove, bus_to.asked) == (2, []), "another job is at work: the next time"
    said: list[str] = []
    (found,) = following_images.follow(site, say=said.append)
    assert (found.fault, found.to_remove, len(bus_to.asked)) == ("", 0, 1)
    assert "cp2: 1 removed, as here" in said
    assert server.read(f"{path}/1?ns=quay.io").status == 404
    there = {digest for digest, _ in images.blob_files(server.paths)}
    assert digest_of(b"layer 1") not in there
    assert {digest_of(b"layer 2"), digest_of(b"layer 3")} <= there
    for tag in ("2", "3"):
        assert server.read(f"{path}/{tag}?ns=quay.io").status == 200
    following_images.follow(site, say=said.append)
    assert len(bus_to.asked) == 1, "nothing is left to remove"


def test_a_removal_that_did_not_arrive_is_due_again_and_shown(
    bootstrap: MediaServer, server: MediaServer, bus_to: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = bus_to.site
    bootstrap.push("quay.io/vendor/late", "1", b"late")
    following_images.follow(site, say=lambda _: None)
    bus_to.remove("quay.io/vendor/late:1", bootstrap)
    answers = bus.ask_why
    monkeypatch.setattr(bus, "ask_why", lambda *_, **__: Answer(bus.NO_ANSWER, "Not connected"))
    (found,) = following_images.follow(site, say=lambda _: None)
    assert "what was removed here is still there: cp2 does not answer" in found.fault
    assert (found.to_remove, found.age_s >= 0) == (1, True)
    assert list(following_images.known(site.paths)) == [found]
    monkeypatch.setattr(bus, "ask_why", answers)
    (found,) = following_images.follow(site, say=lambda _: None)
    assert (found.fault, found.to_remove) == ("", 0)
    monkeypatch.setattr(mediaservers, "known", lambda _: ())
    image_removals.note(Removal("x", "1", "sha256:" + "0" * 64), site.paths)
    assert following_images.follow(site, say=lambda _: None) == []
    assert following_images.read("cp2", site.paths).at == 0, "one of that name that comes later has nothing"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"images": [{"path": "../x", "tag": "1", "digest": "sha256:" + "0" * 64}]},
        {"images": [{"path": "x", "tag": "1?y", "digest": "sha256:" + "0" * 64}]},
        {"images": [{"path": "x", "tag": "1", "digest": "sha256:" + "0" * 63}]},
    ],
)
def test_what_is_no_image_is_refused_there(server: MediaServer, bus_to: Bus, given: dict[str, Any]) -> None:
    answer = replica_answers.forget_images(given, server.paths)
    assert answer["error"]["code"] == "CSE002"


def test_a_node_that_serves_nothing_removes_nothing(tmp_path: Path) -> None:
    answer = replica_answers.forget_images({"images": []}, Paths(tmp_path))
    assert "serves no packages and images" in answer["error"]["message"]


def pushing_to(site: Site) -> Callable[..., tuple[int, list[str]]]:
    """Return what pushes to the one server that there is; nobody answers elsewhere."""
    real = following_images.push_all

    def push(
        source: Source, named: list[tuple[ImageName, Root]], there: Site, say: Say
    ) -> tuple[int, list[str]]:
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
    assert {host["dial_timeout"] for host in said["host"].values()} == {"500ms"}
    assert said["server"] in said["host"]


def test_who_is_told_of_servers_asks_them(compiler: Compiler, worker_pillar: dict[str, Any]) -> None:
    compiled = compiler.compile("cluster.told", worker_pillar)
    assert list(compiled.faults) == []
    ids = [chunk["__id__"] for chunk in compiled.chunks]
    last = ids.index("Note what this node was told")
    for name in ("Send every pull to the media servers", "Let dnf know who serves packages"):
        assert ids.index(name) < last
