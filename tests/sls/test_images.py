# SPDX-License-Identifier: Apache-2.0
"""``caisson images`` against a real registry behind a real nginx: push of each kind of file, list, remove, verify."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError, HostError, InstallerError, MediaError, UsageError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.operations import images, push_login, site_images
from installer.operations.image_files import open_source
from installer.operations.images import Site
from lab import golang
from tests.sls import media
from tests.sls.compiler import Compiler
from tests.sls.media import MediaServer, digest_of
from tests.unit.installer.helpers import make_config, make_context

pytestmark = pytest.mark.parametrize("pillar", ["least"], indirect=True, scope="session")
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = {"architecture": "amd64", "os": "linux"}


@pytest.fixture(scope="module")
def server(
    compiler: Compiler, pillar: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MediaServer]:
    with media.running(compiler, pillar, tmp_path_factory.mktemp("media")) as running:
        yield running


@pytest.fixture
def site(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the site; in crictl's place the real registry collects, and the API does not answer."""
    ports = {
        "registry-push": server.push_port,
        "media-https": server.read_port,
        "registry": server.registry_port,
    }

    def run(words: Sequence[object], **_: Any) -> Completed:
        texts = [str(word) for word in words]
        if texts[:2] == ["crictl", "ps"]:
            return Completed(0, "id\n", "")
        if texts[:2] == ["crictl", "exec"]:
            program = golang.build("registry") / "registry"
            assert texts[2:] == ["id", "registry", "garbage-collect", images.CONFIGURATION_FILE]
            collecting: list[str | Path] = [program, "garbage-collect", server.run_dir / "registry.yml"]
            assert server.write("/v2/").status == 503
            subprocess.run(collecting, check=True, capture_output=True, timeout=60)
            return Completed(0, "", "")
        raise CommandError(f"{texts[0]} is not here")

    monkeypatch.setattr(images, "run", run)
    return Site(media.NODE, ports, (f"{media.NODE}:{server.push_port}",), server.paths)


@dataclass
class Layout:
    """Images to be packed in each way."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Add a blob and return its descriptor."""
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(self, text: str, media_type: str = media.OCI_MANIFEST) -> dict[str, Any]:
        """Add an image of one layer and return the descriptor of its manifest."""
        layer = self.add(text.encode() * 100, "application/vnd.oci.image.layer.v1.tar")
        config = {**CONFIG, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.add(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [layer],
        }
        return self.add(json.dumps(manifest).encode(), media_type)

    def index(self, *manifests: dict[str, Any]) -> dict[str, Any]:
        """Add an index of images."""
        data = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
        return self.add(json.dumps(data).encode(), INDEX)

    def name(self, entry: Mapping[str, Any], name: str, key: str = "io.containerd.image.name") -> None:
        """Name an image in the layout's index."""
        self.entries.append({**entry, **({"annotations": {key: name}} if name else {})})

    def files(self) -> dict[str, bytes]:
        """Return the layout's files."""
        index = json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode()
        blobs = {f"blobs/sha256/{digest.partition(':')[2]}": data for digest, data in self.blobs.items()}
        return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs}

    def directory(self, path: Path) -> Path:
        """Write it as a directory."""
        for name, data in self.files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path


def archive(
    path: Path, files: Mapping[str, bytes], *, prefix: str = "", links: Mapping[str, str] | None = None
) -> Path:
    """Write files as a tar archive."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(prefix + name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def push(site: Site, path: Path, wanted: str = "") -> list[images.Pushed]:
    return images.push(open_source(path), site, wanted=wanted, say=lambda _: None)


def pulled(server: MediaServer, path: str) -> str:
    """Pull a manifest and all that it names, as everybody does; return its digest."""
    said = server.read(f"/v2/{path}")
    assert said.status == 200, said
    name = path.partition("/manifests/")[0]
    manifest = json.loads(said.body)
    for entry in manifest.get("manifests", ()):
        assert pulled(server, f"{name}/manifests/{entry['digest']}") == entry["digest"]
    for entry in (*([manifest["config"]] if "config" in manifest else []), *manifest.get("layers", ())):
        assert digest_of(server.read(f"/v2/{name}/blobs/{entry['digest']}").body) == entry["digest"]
    return digest_of(said.body)


@pytest.mark.parametrize("packed", ["directory", "archive", "archive with ./"])
@pytest.mark.parametrize("kind", ["manifest", "index", "docker manifest"])
def test_a_layout_is_pushed_whole_with_its_digest(
    server: MediaServer, site: Site, tmp_path: Path, packed: str, kind: str
) -> None:
    layout = Layout()
    text = f"{packed} {kind}"
    entry = {
        "manifest": lambda: layout.image(text),
        "docker manifest": lambda: layout.image(text, DOCKER_MANIFEST),
        "index": lambda: layout.index(layout.image(text + "1"), layout.image(text + "2")),
    }[kind]()
    name = f"quay.io/vendor/{kind.replace(' ', '-')}"
    layout.name(entry, f"{name}:1")
    path = (
        layout.directory(tmp_path / "layout")
        if packed == "directory"
        else archive(tmp_path / "a.tar", layout.files(), prefix="./" if "./" in packed else "")
    )
    (done,) = push(site, path)
    assert (done.name, done.digest) == (f"{name}:1", entry["digest"])
    assert done.sent_blobs > 0
    assert pulled(server, f"{name}/manifests/1") == entry["digest"]
    (again,) = push(site, path)
    assert (again.sent_blobs, again.sent_bytes) == (0, 0)
    assert (done.was_there, again.was_there) == (False, True)


@pytest.mark.parametrize(
    ("wanted", "name", "path"),
    [
        ("quay.io/a/b:2", "quay.io/a/b:2", "a/b/manifests/2?ns=quay.io"),
        ("tool", "docker.io/library/tool:latest", "library/tool/manifests/latest?ns=docker.io"),
        ("a/b", "docker.io/a/b:latest", "docker.io/a/b/manifests/latest"),
        ("registry.site:5000/a:1", "registry.site:5000/a:1", "a/manifests/1?ns=registry.site%3A5000"),
        ("{own}/site/app:1", "{own}/site/app:1", "site/app/manifests/1"),
    ],
)
def test_an_image_is_pushed_under_the_name_that_is_given(
    server: MediaServer, site: Site, tmp_path: Path, wanted: str, name: str, path: str
) -> None:
    layout = Layout()
    layout.name(layout.image(wanted), "")
    (done,) = push(site, layout.directory(tmp_path), wanted.format(own=site.own))
    assert done.name == name.format(own=site.own)
    assert digest_of(server.read(f"/v2/{path}").body) == done.digest


def test_it_is_told_which_names_the_site_has_pushed(site: Site, tmp_path: Path) -> None:
    layout = Layout()
    layout.name(layout.image("asked"), "registry.site:5000/asked:1")
    (done,) = push(site, layout.directory(tmp_path))
    names = [
        site.parse(name) for name in ("registry.site:5000/asked:1", "registry.site:5000/asked:2", "none")
    ]
    assert images.pushed_digests(site, names) == {names[0]: done.digest}


def test_what_docker_save_wrote_is_pushed(server: MediaServer, site: Site, tmp_path: Path) -> None:
    layer = b"a layer" * 100
    config = json.dumps({**CONFIG, "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)] * 2}}).encode()
    entry = {
        "Config": "c.json",
        "RepoTags": ["vendor/saved:1", "saved:2"],
        "Layers": ["1/layer.tar", "2/layer.tar"],
    }
    files = {"manifest.json": json.dumps([entry]).encode(), "c.json": config, "1/layer.tar": layer}
    path = archive(tmp_path / "d.tar", files, links={"2/layer.tar": "../1/layer.tar"})
    assert [done.name for done in push(site, path)] == [
        "docker.io/vendor/saved:1",
        "docker.io/library/saved:2",
    ]
    for pull in ("vendor/saved/manifests/1", "library/saved/manifests/2"):
        pulled(server, f"docker.io/{pull}")


def test_what_is_there_of_an_index_is_pushed_when_it_is_one_image(
    server: MediaServer, site: Site, tmp_path: Path
) -> None:
    """As ``ctr images export --platform`` writes it: the index names images of other platforms, which are not in it."""
    layout = Layout()
    here, other = layout.image("here"), Layout().image("elsewhere")
    layout.name(layout.index(other, here), "quay.io/vendor/partial:1")
    (done,) = push(site, layout.directory(tmp_path))
    assert done.digest == here["digest"]
    assert pulled(server, "quay.io/vendor/partial/manifests/1") == here["digest"]


def _damaged(layout: Layout, what: str) -> None:
    layout.name(layout.image("x"), "a/x:1")
    for digest, data in layout.blobs.items():
        is_manifest = b"schemaVersion" in data
        if is_manifest == (what == "manifest"):
            layout.blobs[digest] = data[:-1] + bytes([data[-1] ^ 1])
            return


@pytest.mark.parametrize(
    ("make", "wanted", "error", "words"),
    [
        (lambda layout: layout.name(layout.image("x"), ""), "", UsageError, "--as"),
        (
            lambda layout: layout.name(layout.image("x"), "1.0", "org.opencontainers.image.ref.name"),
            "",
            UsageError,
            "--as",
        ),
        (
            lambda layout: [layout.name(layout.image(text), text) for text in ("a/x:1", "a/y:1")],
            "b",
            UsageError,
            "several",
        ),
        (lambda _: None, "", UsageError, "no image"),
        (lambda layout: layout.name(layout.image("x"), "Quay.io/x:1"), "", UsageError, "small letters"),
        (
            lambda layout: layout.name(layout.image("x"), "registry.k8s.io/pause:3.10.2"),
            "",
            HostError,
            "image of the ISO",
        ),
        (lambda layout: layout.name(layout.image("x"), ""), "nginx:1.30", HostError, "image of the ISO"),
        (
            lambda layout: _damaged(layout, "layer"),
            "",
            MediaError,
            "damaged",
        ),
        (
            lambda layout: _damaged(layout, "manifest"),
            "",
            MediaError,
            "damaged",
        ),
        (lambda layout: layout.name(Layout().image("x"), "a/x:1"), "", MediaError, "not in it"),
        (lambda layout: layout.name(layout.index(Layout().image("x")), "a/x:1"), "", MediaError, "not whole"),
        (
            lambda layout: layout.name({**layout.image("x"), "digest": "sha256:../x"}, "a/x:1"),
            "",
            MediaError,
            "index",
        ),
    ],
)
def test_what_cannot_be_pushed_is_refused_with_the_reason(
    site: Site, tmp_path: Path, make: Any, wanted: str, error: type[InstallerError], words: str
) -> None:
    layout = Layout()
    make(layout)
    with pytest.raises(error) as caught:
        push(site, layout.directory(tmp_path), wanted)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"not a tar" * 100, b"\x1f\x8b"])
def test_what_is_no_archive_is_refused(site: Site, tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(text)
    with pytest.raises(UsageError):
        open_source(file)


def test_images_are_listed_under_the_names_that_pods_use(
    server: MediaServer, site: Site, tmp_path: Path
) -> None:
    layout = Layout()
    entry = layout.image("listed")
    layout.name(entry, "")
    path = layout.directory(tmp_path)
    names = ("registry.site:5000/l:1", "docker.io/library/l:1", f"{site.own}/l:1", "quay.io/vendor/l:1")
    for name in names:
        push(site, path, name)
    with site.inside() as registry:
        found = {name.said(site.own): (digest, size) for name, digest, size in images._stored(registry)}
    assert {*names} <= {*found}
    size = sum(len(data) for digest, data in layout.blobs.items() if digest != entry["digest"])
    assert {found[name] for name in names} == {(entry["digest"], size)}


def test_what_is_removed_is_gone_with_what_only_it_needed(
    server: MediaServer, site: Site, tmp_path: Path
) -> None:
    layout = Layout()
    shared, alone = layout.image("shared"), layout.image("alone")
    layout.name(layout.index(shared, alone), "quay.io/vendor/rm:1")
    layout.name(shared, "quay.io/vendor/rm:2")
    layout.name(shared, "quay.io/vendor/rm:3")
    push(site, layout.directory(tmp_path))
    said: list[str] = []
    removed = images.remove(site, "quay.io/vendor/rm:1", say=said.append)
    assert (removed.name, removed.digest) == ("quay.io/vendor/rm:1", layout.entries[0]["digest"])
    assert removed.freed_bytes >= len("alone") * 100
    assert "pushes wait" in said[0]
    assert server.read("/v2/quay.io/vendor/rm/manifests/1").status == 404
    assert server.read(f"/v2/quay.io/vendor/rm/manifests/{alone['digest']}").status == 404
    assert pulled(server, "quay.io/vendor/rm/manifests/2") == shared["digest"]
    # A tag of two that mean the same is a tag alone.
    images.remove(site, "quay.io/vendor/rm:2", say=said.append)
    assert pulled(server, "quay.io/vendor/rm/manifests/3") == shared["digest"]
    images.remove(site, "quay.io/vendor/rm:3", say=said.append)
    with pytest.raises(UsageError, match="has no quay"):
        images.remove(site, "quay.io/vendor/rm:3", say=said.append)
    # Pushes go on, of the very same blobs.
    push(site, tmp_path)
    assert pulled(server, "quay.io/vendor/rm/manifests/1") == layout.entries[0]["digest"]


def test_a_removal_that_fails_lets_pushes_go_on(
    server: MediaServer, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout()
    layout.name(layout.image("failing"), "quay.io/vendor/failing:1")
    push(site, layout.directory(tmp_path))
    monkeypatch.setattr(images, "run", lambda *_, **__: Completed(0, "", ""))
    with pytest.raises(HostError, match="registry does not run"):
        images.remove(site, "quay.io/vendor/failing:1", say=lambda _: None)
    assert server.write("/v2/").status == 200


def test_a_pause_that_a_killed_removal_left_ends_with_the_bootstrap(server: MediaServer, site: Site) -> None:
    site.paths.pushes_paused_file.touch()
    said = server.write("/v2/")
    assert (said.status, said.code) == (503, "UNAVAILABLE")
    assert push_login.let_push_again(site.paths)
    assert server.write("/v2/").status == 200
    assert not push_login.let_push_again(site.paths)


@pytest.mark.parametrize("what", ["layer", "manifest", "gone"])
def test_a_damaged_blob_is_named_with_the_images_that_need_it(
    server: MediaServer, site: Site, tmp_path: Path, what: str
) -> None:
    layout = Layout()
    entry = layout.image(f"verified {what}")
    layout.name(entry, f"quay.io/vendor/verified-{what}:1")
    push(site, layout.directory(tmp_path))
    assert images.verify(site, say=lambda _: None).faults == ()
    layer = json.loads(layout.blobs[entry["digest"]])["layers"][0]["digest"]
    digest = entry["digest"] if what == "manifest" else layer
    file = dict(images.blob_files(site.paths))[digest]
    whole = file.read_bytes()
    if what == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        (fault,) = images.verify(site, say=lambda _: None).faults
        assert fault.digest == digest
        assert fault.images == (f"quay.io/vendor/verified-{what}:1",)
        assert fault.what == ("is not there" if what == "gone" else "has other bytes")
    finally:
        file.write_bytes(whole)


def test_an_old_password_is_said_to_be_one(server: MediaServer, site: Site, tmp_path: Path) -> None:
    layout = Layout()
    layout.name(layout.image("refused"), "quay.io/vendor/refused:1")
    hashes = site.paths.htpasswd_file.read_text()
    site.paths.htpasswd_file.write_text("")
    try:
        with pytest.raises(HostError, match="HTTP 401") as caught:
            push(site, layout.directory(tmp_path))
        assert caught.value.resolution.endswith("caisson images login --rotate")
    finally:
        site.paths.htpasswd_file.write_text(hashes)


def test_an_upload_that_is_cut_does_no_harm(server: MediaServer, site: Site, tmp_path: Path) -> None:
    """By its client, in the middle of a layer: nothing is listed, nothing is damaged, the next push is whole."""
    layout = Layout()
    entry = layout.image("cut " * 1000)
    layout.name(entry, "quay.io/vendor/cut:1")
    layer = json.loads(layout.blobs[entry["digest"]])["layers"][0]
    data = layout.blobs[layer["digest"]]
    begun = server.write("/v2/quay.io/vendor/cut/blobs/uploads/", "POST")
    place = begun.headers["Location"].partition(f":{server.push_port}")[2]
    context = ssl.create_default_context(cafile=str(server.ca_file))
    with (
        socket.create_connection((media.NODE, server.push_port), source_address=(media.HOST, 0)) as plain,
        context.wrap_socket(plain, server_hostname=media.NODE) as stream,
    ):
        head = [f"PUT {place}&digest={layer['digest']} HTTP/1.1", f"Host: {media.NODE}"]
        head += [f"Content-Length: {len(data)}", f"Authorization: {server.login['Authorization']}"]
        stream.sendall("\r\n".join([*head, "", ""]).encode() + data[: len(data) // 2])
    assert server.read("/v2/quay.io/vendor/cut/manifests/1").status == 404
    assert server.read(f"/v2/quay.io/vendor/cut/blobs/{layer['digest']}").status == 404
    assert images.verify(site, say=lambda _: None).faults == ()
    (done,) = push(site, layout.directory(tmp_path))
    assert done.sent_blobs == 2
    assert pulled(server, "quay.io/vendor/cut/manifests/1") == entry["digest"]
    # What is left of it is in the way of nothing, a collection neither.
    uploads = (
        server.run_dir
        / "var/lib/caisson/registry/docker/registry/v2/repositories/quay.io/vendor/cut/_uploads"
    )
    assert list(uploads.iterdir())
    images.remove(site, "quay.io/vendor/cut:1", say=lambda _: None)
    assert images.verify(site, say=lambda _: None).faults == ()


def test_what_was_pushed_outlives_a_registry_that_ends_in_the_middle_of_an_upload(
    server: MediaServer, tmp_path: Path
) -> None:
    """As when a newer one takes its place: the storage is the same, the upload fails, and is made again."""
    (port,) = media._free_ports(1)
    file, log = tmp_path / "config.yml", tmp_path / "log"
    text = (server.run_dir / "registry.yml").read_text()
    text = text.replace(f":{server.registry_port}\n", f":{port}\n")
    file.write_text(text.replace(f"{server.run_dir}/var/lib/caisson/registry", str(tmp_path / "storage")))
    data = b"a layer" * 10_000
    digest = digest_of(data)

    @contextmanager
    def running(*, is_cut: bool = False) -> Iterator[http.client.HTTPConnection]:
        words: list[str | Path] = [golang.build("registry") / "registry", "serve", file]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        with log.open("ab") as said, closing(connection):
            process = subprocess.Popen(words, env={"OTEL_TRACES_EXPORTER": "none"}, stderr=said)
            try:
                media._wait_for(int(port), [process], log)
                yield connection
            finally:
                process.terminate()
                process.wait(timeout=20)
            if is_cut:
                with pytest.raises((OSError, http.client.HTTPException)):
                    connection.getresponse()

    def ask(
        connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b""
    ) -> tuple[int, str]:
        headers = {"Content-Type": "application/octet-stream", **server.login}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, (answer.headers["Location"] or "").partition(str(port))[2]

    with running(is_cut=True) as connection:
        _, place = ask(connection, "POST", "/v2/a/blobs/uploads/")
        status, _ = ask(connection, "PUT", f"{place}&digest={digest}", data)
        assert status == 201
        other = data[::-1]
        _, place = ask(connection, "POST", "/v2/a/blobs/uploads/")
        connection.putrequest("PUT", f"{place}&digest={digest_of(other)}")
        connection.putheader("Content-Length", str(len(other)))
        connection.putheader("Authorization", server.login["Authorization"])
        connection.endheaders(other[: len(other) // 2])
    with running() as connection:
        assert ask(connection, "HEAD", f"/v2/a/blobs/{digest}")[0] == 200
        assert ask(connection, "HEAD", f"/v2/a/blobs/{digest_of(other)}")[0] == 404
        _, place = ask(connection, "POST", "/v2/a/blobs/uploads/")
        assert ask(connection, "PUT", f"{place}&digest={digest_of(other)}", other)[0] == 201
        assert ask(connection, "HEAD", f"/v2/a/blobs/{digest_of(other)}")[0] == 200


def test_the_images_of_a_site_are_pushed_by_the_bootstrap_and_the_second_run_sends_nothing(
    server: MediaServer, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of file in one directory; one that is there under its name is looked at and left."""
    monkeypatch.setattr(images, "site_at", lambda *_: site)
    place = tmp_path / "brought"
    place.mkdir()
    layout, other = Layout(), Layout()
    index = layout.index(layout.image("site 1"), layout.image("site 2"))
    layout.name(index, "quay.io/brought/index:1")
    layout.directory(place / "layout")
    other.name(other.image("site 3", DOCKER_MANIFEST), f"{site.own}/brought/own:1")
    archive(place / "other.tar", other.files())
    changed = make_config(f"images: {{directory: {place}}}\n")
    context = make_context(server.run_dir, config=changed, paths=Paths(Path("/")))
    context.journal.start("site-images")
    monkeypatch.setattr(Paths, "site_images_file", tmp_path / "noted.json")
    assert site_images.run_site_images(context)
    assert pulled(server, "quay.io/brought/index/manifests/1") == index["digest"]
    assert pulled(server, "brought/own/manifests/1") == other.entries[0]["digest"]
    assert not site_images.run_site_images(context)
    assert json.loads((tmp_path / "noted.json").read_text())["images"] == {
        "quay.io/brought/index:1": index["digest"],
        f"{site.own}/brought/own:1": other.entries[0]["digest"],
    }
    # A name that means another image now is set again, though every blob is there.
    layout.entries.clear()
    layout.name(json.loads(layout.blobs[index["digest"]])["manifests"][0], "quay.io/brought/index:1")
    layout.directory(place / "layout")
    assert site_images.run_site_images(context)
    assert pulled(server, "quay.io/brought/index/manifests/1") != index["digest"]
    assert not site_images.run_site_images(context)
