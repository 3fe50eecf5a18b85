# SPDX-License-Identifier: Apache-2.0
"""The OCI layout: images checked against the lock, listed and never copied, one canonical index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from build.base.errors import BuildError, IntegrityError, MissingError
from build.base.plan import Workspace
from build.bundle import oci
from build.bundle.nginxmaps import ManifestType
from build.inventory.model import Digest, LockedImage
from build.store import filelist
from build.store.objects import Store
from tests.unit.build.factory import Pot, inventory_of, make_world, tar_layer

LAYERS = [tar_layer({"a": b"1"}), tar_layer({"b": b"2"})]


@pytest.fixture
def pot(tmp_path: Path) -> Pot:
    return Pot(Store(tmp_path / "store"))


@pytest.mark.parametrize("is_indexed", [False, True])
@pytest.mark.parametrize("kind", [ManifestType.OCI_MANIFEST, ManifestType.DOCKER_MANIFEST])
def test_every_blob_of_an_image_is_listed_in_place(
    pot: Pot, tmp_path: Path, kind: ManifestType, *, is_indexed: bool
) -> None:
    image = pot.image("app", "quay.io/site/app:1", layers=LAYERS, kind=kind, is_indexed=is_indexed)
    oci.run_image(image, pot.store, tmp_path / "part")
    entries = filelist.read_part(tmp_path / "part")
    expected = {image.digest, image.platform.digest, image.config.digest, *(b.digest for b in image.layers)}
    assert {entry.digest for entry in entries} == expected
    for entry in entries:
        assert entry.path == f"oci/blobs/sha256/{entry.digest.hex}"
        assert entry.source == pot.store.path(entry.digest)
        assert entry.owners == ("image quay.io/site/app:1",)
    facts = oci.read_image_facts(tmp_path / "part")
    assert facts.digest == str(image.digest)
    assert set(facts.manifests) == {str(image.digest), str(image.platform.digest)}


def test_equal_layers_are_listed_once(pot: Pot, tmp_path: Path) -> None:
    image = pot.image("app", "quay.io/site/app:1", layers=[LAYERS[0], LAYERS[0]])
    oci.run_image(image, pot.store, tmp_path / "part")
    assert len(filelist.read_part(tmp_path / "part")) == 3


def _without_first_layer(image: LockedImage) -> LockedImage:
    return dataclasses.replace(image, layers=image.layers[1:])


def _with_other_config(image: LockedImage) -> LockedImage:
    return dataclasses.replace(image, config=dataclasses.replace(image.config, size_bytes=1))


def _with_other_type(image: LockedImage) -> LockedImage:
    return dataclasses.replace(image, media_type=ManifestType.DOCKER_LIST.value)


def _with_other_child(image: LockedImage) -> LockedImage:
    assert image.child is not None
    return dataclasses.replace(
        image, child=dataclasses.replace(image.child, digest=Digest.of_bytes(b"another architecture"))
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_without_first_layer, "2 layers, lock says 1"),
        (_with_other_config, "configuration: sha256:"),
        (_with_other_type, "lock says application/vnd.docker.distribution.manifest.list.v2+json"),
        (_with_other_child, "locked manifest sha256:"),
    ],
)
def test_a_lock_that_says_otherwise_is_refused(
    pot: Pot, tmp_path: Path, change: Callable[[LockedImage], LockedImage], fault: str
) -> None:
    image = pot.image("app", "quay.io/site/app:1", layers=LAYERS, is_indexed=True)
    with pytest.raises(IntegrityError) as caught:
        oci.run_image(change(image), pot.store, tmp_path / "part")
    assert fault in caught.value.details
    assert "quay.io/site/app:1" in caught.value.message
    assert not (tmp_path / "part").exists()


def test_an_image_that_was_not_fetched_is_named(pot: Pot, tmp_path: Path) -> None:
    image = pot.image("app", "quay.io/site/app:1", layers=LAYERS)
    layer = pot.store.path(image.layers[1].digest)
    layer.chmod(0o644)
    layer.unlink()
    with pytest.raises(MissingError, match=r"image quay.io/site/app:1: layer 2 is not in the store"):
        oci.run_image(image, pot.store, tmp_path / "part")


def test_a_manifest_of_an_old_kind_is_refused(pot: Pot, tmp_path: Path) -> None:
    image = dataclasses.replace(
        pot.image("app", "quay.io/site/app:1", layers=LAYERS),
        media_type="application/vnd.docker.distribution.manifest.v1+prettyjws",
    )
    with pytest.raises(BuildError, match="manifest of type"):
        oci.run_image(image, pot.store, tmp_path / "part")


def test_a_manifest_that_is_no_json_is_refused(pot: Pot, tmp_path: Path) -> None:
    blob = pot.put(b"<html>sign in</html>")
    image = dataclasses.replace(
        pot.image("app", "quay.io/site/app:1", layers=LAYERS), digest=blob.digest, size_bytes=blob.size_bytes
    )
    with pytest.raises(IntegrityError, match="not JSON"):
        oci.run_image(image, pot.store, tmp_path / "part")


def test_the_index_is_canonical() -> None:
    facts = [
        {
            "reference": reference,
            "descriptor": {"mediaType": ManifestType.OCI_INDEX.value, "digest": "sha256:00", "size": 2},
        }
        for reference in ("quay.io/b:1", "quay.io/a:1")
    ]
    text = oci.render_index(facts)
    assert text == oci.render_index(list(reversed(facts)))
    assert text.endswith("]," + '"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}\n')
    names = [
        entry["annotations"]["org.opencontainers.image.ref.name"] for entry in json.loads(text)["manifests"]
    ]
    assert names == ["quay.io/a:1", "quay.io/b:1"]
    assert all(
        entry["annotations"]["io.containerd.image.name"] == name
        for entry, name in zip(json.loads(text)["manifests"], names, strict=True)
    )


def test_a_base_is_not_on_the_iso_by_itself(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    ids = oci.ids_on_iso(world.lock, world.inventory)
    assert "base-os" not in ids
    assert "salt-master" in ids
    assert list(ids) == sorted(ids)


def test_the_layout_keeps_its_name(tmp_path: Path) -> None:
    pot = Pot(Store(tmp_path))
    image = pot.image("layout", "quay.io/a:1", layers=LAYERS)
    lock = dataclasses.replace(make_world(tmp_path).lock, images=(image,), composed=())
    with pytest.raises(BuildError, match="image id 'layout' is taken"):
        oci.plan_layout(lock, inventory_of(lock), Workspace(tmp_path, "test"), "0.1.0")


def test_planning_reads_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    steps = oci.plan_images(
        world.lock, world.inventory, Store(tmp_path / "empty"), Workspace(tmp_path, "test")
    )
    assert [step.name for step in steps] == sorted(set(world.lock_image_ids) - {"base-os"})
    assert not (tmp_path / "empty").exists()
    assert "registry.k8s.io/pause:3.10.2 (0.0 MB)" in [step.doc for step in steps]


def test_a_builder_with_other_rules_renders_the_maps_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ISO that is built again has nginx's files of this builder, not those of the one before it."""
    world = make_world(tmp_path)

    def config() -> object:
        return oci.plan_layout(world.lock, world.inventory, Workspace(tmp_path, "test"), "0.1.0").config

    before = config()
    assert config() == before
    monkeypatch.setattr(oci, "render_locations", lambda _: "other rules")
    assert config() != before
