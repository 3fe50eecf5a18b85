# SPDX-License-Identifier: Apache-2.0
"""Images: which manifest is taken, what is none, and what is kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import BuildError, NotFoundError
from build.inventory.model import Digest
from build.lock.images import (
    ObjectCache,
    _parse_json,
    check_platform,
    choose_child,
    created_time,
    media_type_of,
    parse_manifest,
)

DIGEST = Digest("a" * 64)


def entry(architecture: str, variant: str | None = None, digit: str = "1") -> dict[str, object]:
    platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digit * 64}",
        "size": 7,
        "platform": platform,
    }


def test_the_plain_child_is_chosen() -> None:
    index = {"manifests": [entry("arm64"), entry("amd64", "v3", "2"), entry("amd64", digit="3")]}
    assert choose_child(index, "image x").digest == Digest("3" * 64)
    with pytest.raises(NotFoundError) as caught:
        choose_child({"manifests": [entry("arm64", "v8"), {"platform": 1}, "x"]}, "image x")
    assert "linux/arm64/v8" in caught.value.details


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"schemaVersion": 2, "manifests": []}, "application/vnd.oci.image.index.v1+json"),
        ({"schemaVersion": 2, "layers": []}, "application/vnd.oci.image.manifest.v1+json"),
        ({"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}, None),
    ],
)
def test_media_types(manifest: dict[str, object], expected: str | None) -> None:
    assert media_type_of(manifest, "image x") == (expected or manifest["mediaType"])


@pytest.mark.parametrize(
    "manifest",
    [
        {"schemaVersion": 1},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
        {"mediaType": 5},
    ],
)
def test_old_kinds_of_manifests_are_refused(manifest: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="cannot be served"):
        media_type_of(manifest, "image x")


def test_layers_elsewhere_are_refused() -> None:
    blob = {"digest": str(DIGEST), "size": 1}
    manifest = {"schemaVersion": 2, "config": blob, "layers": [blob | {"urls": ["https://example.com/x"]}]}
    with pytest.raises(BuildError, match="outside its registry"):
        parse_manifest(manifest, "image x")
    with pytest.raises(BuildError, match="cannot be read"):
        parse_manifest({"schemaVersion": 2, "config": blob, "layers": [{"digest": "md5:1"}]}, "image x")


def test_a_single_manifest_says_its_platform_in_its_configuration() -> None:
    check_platform({"os": "linux", "architecture": "amd64"}, "image x")
    with pytest.raises(NotFoundError) as caught:
        check_platform({"os": "linux", "architecture": "arm64"}, "image x")
    assert "linux/arm64" in caught.value.details


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("2026-01-02T03:04:05.123456789+01:00", 1767319445),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        (None, 0),
    ],
)
def test_when_an_image_was_made(created: str | None, expected: int) -> None:
    assert created_time({"created": created}) == expected


def test_kept_objects_are_checked_when_read(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    digest = Digest.of_bytes(b"data")
    assert cache.get(digest, lambda: b"data") == b"data"
    assert cache.get(digest, lambda: b"never") == b"data"
    (tmp_path / digest.hex).write_bytes(b"other")
    assert cache.get(digest, lambda: b"data") == b"data"


def manifest_of(config_type: str | None, **more: str) -> dict[str, object]:
    config = {"digest": str(DIGEST), "size": 1} | ({"mediaType": config_type} if config_type else {})
    return {"schemaVersion": 2, "config": config, "layers": [], **more}


@pytest.mark.parametrize(
    ("config_type", "artifact_type"),
    [
        ("application/vnd.cncf.helm.config.v1+json", ""),
        ("application/vnd.oci.empty.v1+json", "application/vnd.example.sbom"),
        ("application/vnd.oci.image.config.v1+json", "application/vnd.example.sbom"),
        ("application/vnd.dev.cosign.simplesigning.v1+json", ""),
    ],
)
def test_an_artifact_is_no_image(config_type: str, artifact_type: str) -> None:
    manifest = manifest_of(config_type, **({"artifactType": artifact_type} if artifact_type else {}))
    with pytest.raises(BuildError) as caught:
        parse_manifest(manifest, "image x")
    assert f"image x is an OCI artifact (config type {config_type}" in caught.value.message
    assert artifact_type in caught.value.message


@pytest.mark.parametrize(
    "config_type",
    [
        None,
        "application/octet-stream",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    ],
)
def test_an_image_is_one(config_type: str | None) -> None:
    assert parse_manifest(manifest_of(config_type), "image x").config.digest == DIGEST


def test_an_artifact_is_not_chosen() -> None:
    """Listed first, and for the same platform."""
    artifact = entry("amd64") | {"artifactType": "application/vnd.example.sbom"}
    assert choose_child({"manifests": [artifact, entry("amd64", digit="2")]}, "x").digest == Digest("2" * 64)
    with pytest.raises(NotFoundError) as caught:
        choose_child({"manifests": [artifact]}, "image x")
    assert caught.value.details == "its index has: no image; artifacts: application/vnd.example.sbom"


def test_another_name_of_the_architecture_is_explained() -> None:
    with pytest.raises(NotFoundError) as caught:
        choose_child({"manifests": [entry("x86_64")]}, "image x")
    assert "runtimes know it as amd64" in caught.value.resolution
    with pytest.raises(NotFoundError) as caught:
        check_platform({"os": "linux", "architecture": "x86_64"}, "image x")
    assert "runtimes know it as amd64" in caught.value.resolution


@pytest.mark.parametrize("size", [-1, "1", 1.5, True, None])
def test_sizes_are_whole_numbers(size: object) -> None:
    manifest = manifest_of(None) | {"layers": [{"digest": str(DIGEST), "size": size}]}
    with pytest.raises(BuildError, match="cannot be read"):
        parse_manifest(manifest, "image x")


def test_a_manifest_that_is_nested_too_deep_is_told() -> None:
    with pytest.raises(BuildError, match="no JSON") as caught:
        _parse_json(b"[" * 200_000, "image a")
    assert caught.value.resolution
