# SPDX-License-Identifier: Apache-2.0
"""What an ISO has that was added is served by the nginx that runs, by a reload, and is gone after another."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from build.bundle.nginxmaps import ManifestType
from installer.base.mounts import Mount
from installer.base.run import Completed
from installer.media import notes
from installer.operations import installed, media, media_serving
from installer.operations.images import Site
from tests.sls import media as media_server
from tests.sls.compiler import Compiler
from tests.sls.media import ISO_IMAGES, NODE, MediaServer
from tests.unit.installer.helpers import PRODUCT, make_product, make_tree
from tests.unit.installer.operations.test_media_maps import lay_out

pytestmark = pytest.mark.parametrize("pillar", ["least"], indirect=True, scope="session")
OWN, APP = "0.1.0-20261101.aa", "quay.io/vendor/beside:1"
SECOND = "0.1.0-20261102.bb"


@pytest.fixture(scope="module")
def server(
    compiler: Compiler, pillar: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MediaServer]:
    with media_server.running(compiler, pillar, tmp_path_factory.mktemp("media")) as running:
        yield running


@pytest.fixture
def site(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the server's node, on which a second ISO is mounted and noted; crictl reaches the nginx that runs."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"

    def run(args: Sequence[str | Path], *, timeout_s: float) -> Completed:
        words = [str(word) for word in args]
        if words[1] == "ps":
            return Completed(0, "9937cf8701a1\n", "")
        assert words[3:] == ["nginx", "-c", "/etc/caisson/nginx/nginx.conf", "-s", "reload"]
        command: list[str | Path] = [
            nginx,
            "-p",
            server.run_dir,
            "-c",
            server.run_dir / "nginx.conf",
            "-s",
            "reload",
        ]
        subprocess.run(command, check=True, timeout=timeout_s)
        return Completed(0, "", "")

    monkeypatch.setattr(media_serving, "run", run)
    paths = server.paths
    place = lay_out(paths.media_dir(SECOND), {APP: b"beside", ISO_IMAGES[0]: b"another"})
    make_tree(place, {"product.json": json.dumps({**PRODUCT, "build": "20261102.bb"})})
    monkeypatch.setattr(media, "read_mounts", lambda: (Mount(str(place), "/", "iso9660", "/dev/loop9"),))
    installed.note(own(), paths)
    notes.write(notes.make(make_product(build="20261102.bb"), place, Path("/none")), paths.media_notes_dir)
    return Site(NODE, {"media-https": server.read_port, "registry-push": server.push_port}, (), paths)


def own() -> Any:
    digest = media_server.digest_of(media_server.ON_ISO)
    images = {name: {"reference": name, "digest": digest} for name in ISO_IMAGES}
    return make_product(build="20261101.aa", images=images)


def test_it_is_served_after_a_reload_and_gone_after_another(server: MediaServer, site: Site) -> None:
    said: list[str] = []
    path = "/v2/vendor/beside/manifests/1?ns=quay.io"
    assert server.read(path).status == 404
    assert media_serving.publish(site, own(), say=said.append)
    assert said == ["nginx reads its maps again"]
    answer = server.read(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, ManifestType.OCI_INDEX)
    assert not media_serving.publish(site, own(), say=said.append), "nothing is told twice"
    first = server.read("/v2/pause/manifests/3.10.2?ns=registry.k8s.io")
    assert first.body == media_server.ON_ISO, "of two images of one name that of the ISO in use"
    refused = server.write("/v2/quay.io/vendor/beside/manifests/1", "PUT", body=b"{}")
    assert (refused.status, "is an image of the ISO" in refused.message) == (403, True)
    assert media_serving.publish(site, own(), say=said.append, without=SECOND, is_sure=False)
    assert server.read(path).status == 404
