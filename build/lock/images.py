# SPDX-License-Identifier: Apache-2.0
"""Pin images: from a tag to the digests of index, linux/amd64 manifest, configuration and layers.

    tag --HEAD--> digest --skopeo--> index? -> linux/amd64 manifest -> configuration, layers

Manifests and configurations of earlier runs are kept by digest, so that an image whose tag has not moved
costs one HEAD request.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from build.base.errors import BuildError, NotFoundError
from build.base.files import write_atomically
from build.inventory.model import Blob, Descriptor, Digest, LockedImage, WantedImage
from build.upstream.registry import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST, RegistryClient

PLATFORM = ("linux", "amd64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinnedImage:
    """A locked image, and when it was made (Unix time; 0 when it does not say)."""

    image: LockedImage
    created: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a platform manifest names."""

    config: Blob
    layers: tuple[Blob, ...]


class ObjectCache:
    """Small registry objects by digest; read back only when they are still what their name says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, digest: Digest, fetch: Callable[[], bytes]) -> bytes:
        """Return an object from the cache, or fetched and then kept."""
        file = self._directory / digest.hex
        if file.is_file():
            data = file.read_bytes()
            if Digest.of_bytes(data) == digest:
                return data
        data = fetch()
        write_atomically(file, data)
        return data


def pin_image(wanted: WantedImage, client: RegistryClient, cache: ObjectCache) -> PinnedImage:
    """Find out what an image's tag names now.

    Raises: NotFoundError, CredentialsError, NetworkError, IntegrityError, BuildError.
    """
    reference = wanted.reference
    digest = client.resolve(reference)
    if digest is None:
        top_data = client.manifest(reference, None)
        digest = Digest.of_bytes(top_data)
    else:
        named = digest
        top_data = cache.get(named, lambda: client.manifest(reference, named))
    what = f"image {reference}"
    top = _parse_json(top_data, what)
    media_type = media_type_of(top, what)
    child: Descriptor | None = None
    platform_digest, platform = digest, top
    if media_type in INDEX_TYPES:
        child = choose_child(top, what)
        child_digest = child.digest
        platform_data = cache.get(child_digest, lambda: client.manifest(reference, child_digest))
        platform_digest, platform = child_digest, _parse_json(platform_data, what)
    manifest = parse_manifest(platform, what)
    config_data = cache.get(
        manifest.config.digest, lambda: client.config(reference, platform_digest, manifest.config.digest)
    )
    config = _parse_json(config_data, what)
    check_platform(config, what)
    return PinnedImage(
        image=LockedImage(
            id=wanted.id,
            reference=reference,
            digest=digest,
            media_type=media_type,
            size_bytes=len(top_data),
            child=child,
            config=manifest.config,
            layers=manifest.layers,
        ),
        created=created_time(config),
    )


def media_type_of(manifest: Mapping[str, object], what: str) -> str:
    """Return the media type; OCI allows that a manifest does not say it.

    Raises: BuildError for anything but the two kinds of manifest and index.
    """
    found = manifest.get("mediaType")
    if found is None and manifest.get("schemaVersion") == 2:
        found = OCI_INDEX if "manifests" in manifest else OCI_MANIFEST
    if not isinstance(found, str) or found not in INDEX_TYPES | MANIFEST_TYPES:
        raise BuildError(
            f"{what} has a manifest of a kind that cannot be served",
            details=f"media type {found!r}, schema version {manifest.get('schemaVersion')!r}",
            resolution="use another tag: OCI and Docker version 2 manifests are known",
        )
    return found


def choose_child(index: Mapping[str, object], what: str) -> Descriptor:
    """Return the descriptor of the linux/amd64 manifest of an index; the plain one before its variants.

    Raises: NotFoundError when the index has none.
    """
    entries = index.get("manifests")
    children = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    fitting = [entry for entry in children if _platform(entry)[:2] == PLATFORM]
    if not fitting:
        known = sorted({"/".join(part for part in _platform(entry) if part) for entry in children})
        raise NotFoundError(
            f"{what} does not exist for linux/amd64",
            details=f"its index has: {', '.join(known) or 'nothing'}",
            resolution="use a tag that has it",
        )
    chosen = min(fitting, key=lambda entry: _platform(entry)[2])
    blob = _blob(chosen, what)
    return Descriptor(
        digest=blob.digest, size_bytes=blob.size_bytes, media_type=str(chosen.get("mediaType", OCI_MANIFEST))
    )


def parse_manifest(manifest: Mapping[str, object], what: str) -> Manifest:
    """Return the configuration and the layers, base first.

    Raises: BuildError when it is no manifest, or has layers that are not in the registry.
    """
    media_type = media_type_of(manifest, what)
    config, layers = manifest.get("config"), manifest.get("layers")
    if media_type not in MANIFEST_TYPES or not isinstance(config, dict) or not isinstance(layers, list):
        raise BuildError(f"{what} has a manifest without layers", details=f"media type {media_type}")
    for layer in layers:
        if isinstance(layer, dict) and layer.get("urls"):
            raise BuildError(
                f"{what} has a layer outside its registry",
                details=f"layer {layer.get('digest')}: {layer.get('urls')}",
                resolution="use another image: such layers may not be passed on",
            )
    return Manifest(config=_blob(config, what), layers=tuple(_blob(layer, what) for layer in layers))


def check_platform(config: Mapping[str, object], what: str) -> None:
    """Check that a configuration is for linux/amd64: a single manifest says it nowhere else.

    Raises: NotFoundError.
    """
    found = (config.get("os"), config.get("architecture"))
    if found != PLATFORM:
        raise NotFoundError(
            f"{what} does not exist for linux/amd64",
            details=f"it is for {found[0]}/{found[1]}",
            resolution="use a tag that has it",
        )


def created_time(config: Mapping[str, object]) -> int:
    """Return when an image was made as a Unix time; 0 when its configuration does not say."""
    text = config.get("created")
    if not isinstance(text, str):
        return 0
    try:
        return max(0, int(dt.datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _platform(entry: Mapping[str, object]) -> tuple[str, str, str]:
    platform = entry.get("platform")
    if not isinstance(platform, dict):
        return ("", "", "")
    return (
        str(platform.get("os", "")),
        str(platform.get("architecture", "")),
        str(platform.get("variant", "")),
    )


def _blob(descriptor: object, what: str) -> Blob:
    try:
        if not isinstance(descriptor, dict):
            raise ValueError("it is no mapping")  # noqa: TRY004, TRY301  # one message for all faults
        return Blob(digest=Digest.parse(str(descriptor["digest"])), size_bytes=int(descriptor["size"]))
    except (KeyError, ValueError, TypeError) as exc:
        raise BuildError(f"{what} has a descriptor that cannot be read", details=str(exc)) from exc


def _parse_json(data: bytes, what: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(data)
    except ValueError as exc:
        raise BuildError(f"{what} has a manifest that is no JSON", details=str(exc)) from exc
    if not isinstance(parsed, dict):
        raise BuildError(f"{what} has a manifest that is no JSON object")
    return parsed
