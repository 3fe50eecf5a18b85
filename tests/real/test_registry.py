# SPDX-License-Identifier: Apache-2.0
"""Manifests of real registries: which are images, and which child of an index is taken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from build.base.errors import BuildError, NotFoundError
from build.inventory.model import Digest, Endpoint, Reference, Registry, WantedImage
from build.lock.images import ObjectCache, choose_child, media_type_of, parse_manifest, pin_image
from build.upstream.http import HttpClient
from build.upstream.registry import INDEX_TYPES, RegistryClient
from tests.unit.build.fakeupstream import FakeUpstream, Trouble, serve

KUBE_DIGEST = "4b3e69973a1d58d3c1f670d3477a9b9f14a03a271823113e8e0c9a333eb84f48"


def read(file: Path) -> Mapping[str, Any]:
    parsed = json.loads(file.read_bytes())
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    with serve() as running:
        yield running


def test_the_index_of_a_release_is_what_its_registry_names(real_dir: Path) -> None:
    file = real_dir / "registry" / "kube-apiserver-v1.36.5.index.json"
    assert Digest.of_file(file).hex == KUBE_DIGEST
    index = read(file)
    assert media_type_of(index, "kube-apiserver") in INDEX_TYPES
    child = choose_child(index, "kube-apiserver")
    (named,) = [entry for entry in index["manifests"] if entry["platform"]["architecture"] == "amd64"]
    assert str(child.digest) == named["digest"]


@pytest.mark.parametrize("head_status", [200, 405])
def test_a_real_image_is_pinned(
    real_dir: Path, upstream: FakeUpstream, tmp_path: Path, head_status: int
) -> None:
    """Busybox as Docker Hub has it: an index, a manifest without media type of its own, a configuration."""
    folder = real_dir / "registry" / "busybox-1.37.0"
    index, manifest, config = (
        (folder / name).read_bytes() for name in ("index.json", "image-manifest.json", "image-config.json")
    )
    upstream.put_image("library/busybox", "1.37.0", {"top": (index, "x"), "child": (manifest, "x")})
    upstream.put_blob("library/busybox", config)
    if head_status != 200:
        upstream.troubles["/v2/library/busybox/manifests/1.37.0"] = [Trouble(status=head_status)]
    registry = Registry(host="docker.io", endpoints=(Endpoint(url=upstream.url),))
    wanted = WantedImage(id="busybox", reference=Reference.parse("docker.io/busybox:1.37.0"), purpose="x")
    pinned = pin_image(wanted, RegistryClient(registry, HttpClient()), ObjectCache(tmp_path))
    assert pinned.image.digest == Digest.of_bytes(index)
    assert pinned.image.platform.digest == Digest.of_bytes(manifest)
    assert pinned.image.config.digest == Digest.of_bytes(config)
    assert pinned.created > 1_700_000_000


@pytest.mark.parametrize("name", ["index.arm64v8.json", "index.s390x.json"])
def test_an_index_for_other_machines_is_refused(real_dir: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="linux/amd64"):
        choose_child(read(real_dir / "registry" / "busybox-1.37.0" / name), "busybox")


def test_every_manifest_is_taken_or_refused_with_words(real_dir: Path) -> None:
    """Fixtures of the library that podman and skopeo read registries with."""
    taken, words = set(), {}
    for file in sorted((real_dir / "registry" / "containers-image").glob("*.json")):
        name = file.name.partition("_")[2].rpartition(".json")[0]
        try:
            document = read(file)
            if media_type_of(document, name) in INDEX_TYPES:
                choose_child(document, name)
            else:
                parse_manifest(document, name)
            taken.add(name)
        except BuildError as exc:
            words[name] = exc.message
        except ValueError:
            words[name] = f"{name} is no JSON"
    assert all(name in text for name, text in words.items())
    assert "is an OCI artifact" in words["image_fixtures_oci1-artifact"]
    assert "layer outside its registry" in words["image_fixtures_oci1"]
    assert {
        "image_fixtures_oci1-all-media-types",
        "image_fixtures_schema2",
        "manifest_testdata_ociv1.manifest",
        "manifest_testdata_ociv1nomime.manifest",
        "manifest_testdata_schema2list",
        "manifest_testdata_v2s2.manifest",
    } <= taken
    assert not {name for name in taken if "artifact" in name or "schema1" in name or "v2s1" in name}
