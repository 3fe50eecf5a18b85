# SPDX-License-Identifier: Apache-2.0
"""product.json: what the media is."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base.errors import MediaError
from installer.base.paths import Paths
from installer.media import product
from installer.media.mounting import unit_name
from tests.unit.installer.helpers import make_product, product_bytes


def test_all_of_it() -> None:
    found = make_product()
    assert (found.version, found.profile_name, found.is_lab) == ("0.1.0", "lab", True)
    image = found.images["pause"]
    assert (image.reference, image.digest) == ("registry.k8s.io/pause:3.10.2", "sha256:aa")
    assert (image.platform_digest, image.is_preloaded) == ("sha256:bb", True)
    assert found.manifests["calico"].path == "manifests/calico-vxlan.yaml"
    assert found.packages == {"kubelet": "1.36.4-150500.1.1"}
    assert found.rpm_keys == ("keys/baseos.asc", "keys/kubernetes.asc")
    assert "LAB BUNDLE" in found.title


def test_a_production_media_has_a_plain_title() -> None:
    assert make_product(profile={"name": "production", "lab": False}).title == "Caisson 0.1.0"


def test_two_builds_of_one_version_have_places_of_their_own(tmp_path: Path) -> None:
    one, other = (make_product(build=build) for build in ("20261127.1a2b3c4d", "20261201.5e6f7a8b"))
    assert one.full_version == "0.1.0-20261127.1a2b3c4d"
    assert one.title.startswith("Caisson 0.1.0-20261127.1a2b3c4d ")
    paths = Paths(tmp_path)
    for place in (paths.media_dir, paths.self_dir, lambda name: Path(unit_name(paths.media_dir(name)))):
        assert place(one.full_version) != place(other.full_version)


def test_media_from_before_builds_had_names_is_called_by_its_version() -> None:
    assert (make_product().build, make_product().full_version) == ("", "0.1.0")


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "..", ".", "a\n", "%h", '"'])
def test_a_version_or_build_never_names_another_place(name: str) -> None:
    for key in ("version", "build"):
        with pytest.raises(MediaError, match="cannot be read"):
            make_product(**{key: name})


def test_keys_of_a_later_version_are_passed_over() -> None:
    assert make_product(later={"x": 1}).version == "0.1.0"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"format": 1}', b"\xff", product_bytes(images=[1]), product_bytes(profile=None)],
)
def test_what_cannot_be_read(content: bytes) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        product.parse(content)


def test_another_format() -> None:
    with pytest.raises(MediaError, match="has format 2"):
        product.parse(product_bytes(format=2))


def test_no_media(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        product.load(tmp_path)
