# SPDX-License-Identifier: Apache-2.0
"""What other ISOs have, in nginx' words: a real nginx with the maps of one ISO serves three."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from build.bundle import nginxmaps
from build.bundle.nginxmaps import ManifestType, Served, render_locations, render_maps
from build.inventory.model import Digest, Reference
from installer.base.errors import MediaError
from installer.operations import media_maps
from installer.operations.image_files import NAME_KEYS
from installer.operations.media_maps import Clash, Layout

SERVER = """
daemon off; master_process off; pid {run}/pid; error_log {run}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {run}/1; proxy_temp_path {run}/2; fastcgi_temp_path {run}/3; uwsgi_temp_path {run}/4;
  scgi_temp_path {run}/5;
  include {run}/oci-maps.conf;
  disable_symlinks on;
  server {{
    listen 127.0.0.1:{port};
    include {run}/oci-locations.conf;
    location @registry {{ return 404 "site"; }}
  }}
}}
"""
INDEX, MANIFEST = ManifestType.OCI_INDEX.value, ManifestType.OCI_MANIFEST.value


def put(media_dir: Path, data: bytes) -> str:
    """Write a blob; return its digest in hexadecimal."""
    digest = hashlib.sha256(data).hexdigest()
    file = media_dir / "oci/blobs/sha256" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return digest


def lay_out(media_dir: Path, images: Mapping[str, bytes]) -> Path:
    """Make the layout of an ISO: reference -> what its one layer holds; each is an index with a manifest."""
    entries = []
    for reference, layer in images.items():
        layers = [{"digest": f"sha256:{put(media_dir, layer)}", "size": len(layer)}]
        manifest = put(media_dir, json.dumps({"mediaType": MANIFEST, "layers": layers}).encode())
        away = {"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}"}
        below = [{"mediaType": MANIFEST, "digest": f"sha256:{manifest}"}, away]
        index = put(media_dir, json.dumps({"mediaType": INDEX, "manifests": below}).encode())
        annotations = dict.fromkeys(NAME_KEYS, reference)
        entries.append({"mediaType": INDEX, "digest": f"sha256:{index}", "annotations": annotations})
    (media_dir / "oci").mkdir(parents=True, exist_ok=True)
    (media_dir / "oci/index.json").write_text(json.dumps({"manifests": entries}))
    return media_dir


def served(layout: Layout) -> list[Served]:
    """Return a layout as the builder has it."""
    return [
        Served(
            reference=Reference.parse(f"{image.path.replace('__', ':')}:{image.tag}"),
            digest=Digest.parse(f"sha256:{image.digest}"),
            manifests=tuple(
                (Digest.parse(f"sha256:{digest}"), ManifestType(kind))
                for digest, kind in image.manifests.items()
            ),
        )
        for image in layout.images
    ]


def test_both_sides_say_the_same() -> None:
    assert {kind.value: kind.location for kind in ManifestType} == media_maps.LOCATIONS
    assert media_maps.SLOTS == nginxmaps.ADDED_SLOTS
    maps = render_maps(())
    for name in (media_maps.DIRECTORIES, media_maps.TYPES, media_maps.TAGS, media_maps.LISTS):
        assert f"{nginxmaps.ADDED_DIR}/{name.replace('.conf', '*.conf')};" in maps


def test_a_layout_is_read_with_the_manifests_that_are_there(tmp_path: Path) -> None:
    layout = media_maps.read_layout(lay_out(tmp_path, {"registry.site:5000/app:1": b"a", "nginx:RC.1": b"b"}))
    assert [image.name for image in layout.images] == [
        "registry.site__5000/app:1",
        "docker.io/library/nginx:RC.1",
    ]
    assert [len(image.manifests) for image in layout.images] == [2, 2]
    assert layout.directory == str(tmp_path / "oci")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"manifests": [{}]}', '{"manifests": [{"annotations": {}, "digest": "x"}]}', "nothing"],
)
def test_a_layout_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    lay_out(tmp_path, {})
    (tmp_path / "oci/index.json").write_text(text)
    with pytest.raises(MediaError, match="cannot be read"):
        media_maps.read_layout(tmp_path)


def test_a_name_that_nginx_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, {'quay.io/a:x" evil; "': b"a"})
    with pytest.raises(MediaError, match="cannot be read"):
        media_maps.read_layout(tmp_path)


def test_names_for_different_images_are_told(tmp_path: Path) -> None:
    one = media_maps.read_layout(lay_out(tmp_path / "1", {"quay.io/a:1": b"one", "quay.io/b:1": b"same"}))
    two = media_maps.read_layout(lay_out(tmp_path / "2", {"quay.io/a:1": b"two", "quay.io/b:1": b"same"}))
    assert media_maps.clashes([("1", one), ("2", two)]) == [Clash("quay.io/a:1", "1", "2")]


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    layout = media_maps.read_layout(lay_out(tmp_path / "1", {"quay.io/a:1": b"one"}))
    texts = media_maps.render(None, [layout])
    assert media_maps.write(tmp_path / "maps", texts)
    media_maps.told(tmp_path / "maps")
    assert not media_maps.write(tmp_path / "maps", texts)
    assert media_maps.write(tmp_path / "maps", media_maps.render(None, []))


def test_what_nginx_was_not_told_of_is_written_again(tmp_path: Path) -> None:
    texts = media_maps.render(None, [])
    assert media_maps.write(tmp_path / "maps", texts)
    assert media_maps.write(tmp_path / "maps", texts), "a run that was killed before the reload"
    media_maps.told(tmp_path / "maps")
    assert not media_maps.write(tmp_path / "maps", texts)


def test_no_key_is_there_twice_whatever_isos_share(tmp_path: Path) -> None:
    images = {"quay.io/a:1": b"one", "registry.site:5000/b:RC.1": b"two"}
    layouts = [media_maps.read_layout(lay_out(tmp_path / name, images)) for name in ("1", "2", "3")]
    own = render_maps(served(layouts[0]))
    for text in media_maps.render(layouts[0], layouts[1:]).values():
        keys = [line.split('"')[1] for line in text.splitlines()]
        assert len(keys) == len(set(keys))
        assert not [key for key in keys if f'    "{key}" ' in own and not key.startswith("~")]


@pytest.mark.parametrize("name", ['a"b', "a$b", "a;b", "a\nb"])
def test_a_directory_that_nginx_would_read_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="cannot be told"):
        media_maps.read_layout(lay_out(tmp_path, {}), directory=f"/srv/{name}")


class Nginx:
    """A real nginx with the maps of the ISO in use, and what is beside it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        images = {
            "1": {"quay.io/vendor/app:1": b"of the first", "quay.io/vendor/app:2": b"shared"},
            "2": {"quay.io/vendor/app:1": b"of the second", "quay.io/vendor/app:3": b"only second"},
            "3": {"quay.io/vendor/app:3": b"third has it too", "docker.io/library/x:2": b"shared by two"},
            "4": {"docker.io/library/y:2": b"shared by two", "quay.io/vendor/app:2": b"shared"},
        }
        self.layouts = [media_maps.read_layout(lay_out(run / key, images[key])) for key in images]
        for file, text in {
            "oci-maps.conf": render_maps(served(self.layouts[0])),
            "oci-locations.conf": render_locations(self.layouts[0].directory),
        }.items():
            (run / file).write_text(text.replace("/etc/caisson", f"{run}/etc/caisson"))
        (run / "nginx.conf").write_text(SERVER.format(run=run, port=self.port))
        maps_dir = run / nginxmaps.ADDED_DIR.lstrip("/")
        media_maps.write(maps_dir, media_maps.render(self.layouts[0], self.layouts[1:]))

    def ask(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def digest(self, media: int, name: str) -> str:
        return next(i.digest for i in self.layouts[media - 1].images if i.name == name)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("media"))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    process = subprocess.Popen(
        [program, "-p", made.run, "-c", made.run / "nginx.conf"], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", made.port), timeout=1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, (made.run / "error.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield made
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(
    ("path", "media", "name"),
    [
        ("vendor/app/manifests/1?ns=quay.io", 1, "quay.io/vendor/app:1"),
        ("quay.io/vendor/app/manifests/2", 1, "quay.io/vendor/app:2"),
        ("quay.io/vendor/app/manifests/3", 2, "quay.io/vendor/app:3"),
        ("x/manifests/2?ns=docker.io", 3, "docker.io/library/x:2"),
        ("y/manifests/2?ns=docker.io", 4, "docker.io/library/y:2"),
    ],
)
def test_the_first_that_has_a_name_serves_it_with_its_type(
    nginx: Nginx, path: str, media: int, name: str
) -> None:
    status, headers, _ = nginx.ask(f"/v2/{path}")
    assert (status, headers["Content-Type"]) == (200, INDEX)
    assert headers["Docker-Content-Digest"] == f"sha256:{nginx.digest(media, name)}"


@pytest.mark.subprocess
@pytest.mark.loopback
def test_what_a_name_hides_is_served_by_its_digest(nginx: Nginx) -> None:
    hidden = nginx.digest(2, "quay.io/vendor/app:1")
    status, headers, body = nginx.ask(f"/v2/vendor/app/manifests/sha256:{hidden}?ns=quay.io")
    assert (status, headers["Content-Type"]) == (200, INDEX)
    below = json.loads(body)["manifests"][0]["digest"]
    status, headers, body = nginx.ask(f"/v2/vendor/app/manifests/{below}?ns=quay.io")
    assert (status, headers["Content-Type"]) == (200, MANIFEST)
    layer = json.loads(body)["layers"][0]["digest"]
    assert nginx.ask(f"/v2/vendor/app/blobs/{layer}?ns=quay.io")[2] == b"of the second"


@pytest.mark.subprocess
@pytest.mark.loopback
@pytest.mark.parametrize(("data", "holders"), [(b"shared", (1, 4)), (b"shared by two", (3, 4))])
def test_what_two_have_is_served_from_either(nginx: Nginx, data: bytes, holders: tuple[int, int]) -> None:
    digest = hashlib.sha256(data).hexdigest()
    for away in holders:
        place = nginx.run / str(away)
        place.rename(nginx.run / "unmounted")
        try:
            assert nginx.ask(f"/v2/any/name/blobs/sha256:{digest}")[2] == data
        finally:
            (nginx.run / "unmounted").rename(place)


@pytest.mark.subprocess
@pytest.mark.loopback
def test_tags_are_listed_of_all(nginx: Nginx) -> None:
    assert json.loads(nginx.ask("/v2/quay.io/vendor/app/tags/list")[2])["tags"] == ["1", "2", "3"]
    assert nginx.ask("/v2/quay.io/vendor/other/tags/list")[2] == b"site"
    assert nginx.ask(f"/v2/a/blobs/sha256:{'0' * 64}")[2] == b"site"
    assert nginx.ask(f"/v2/a/manifests/sha256:{'0' * 64}")[2] == b"site"


@pytest.mark.subprocess
@pytest.mark.loopback
def test_a_link_on_an_added_iso_leads_nowhere(nginx: Nginx) -> None:
    secret = nginx.run / "secret"
    secret.write_text("secret")
    digest = "e" * 64
    link = nginx.run / "2/oci/blobs/sha256" / digest
    link.symlink_to(secret)
    assert nginx.ask(f"/v2/a/blobs/sha256:{digest}")[2] == b"site"
