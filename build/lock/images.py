# SPDX-License-Identifier: Apache-2.0
"""Pin images: from a tag to the digests of index, linux/amd64 manifest, configuration and layers.

    tag --HEAD--> digest --GET--> index? -> linux/amd64 manifest -> configuration, layers

Manifests and configurations of earlier runs are kept by digest, so that an image whose tag has not moved
costs one HEAD request.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from build.base.errors import BuildError, NotFoundError
from build.base.files import write_atomically
from build.inventory.model import Blob, Descriptor, Digest, LockedImage, WantedImage
from build.store.ociindex import PLATFORM
from build.upstream.registry import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST, RegistryClient

#: Types of the configuration of an image; old Docker registries know no better than bytes.
CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        "application/octet-stream",
    }
)


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
        data = self.kept(digest)
        if data is None:
            data = fetch()
            self.keep(data)
        return data

    def kept(self, digest: Digest) -> bytes | None:
        """Return an object when the cache has it, whole."""
        try:
            data = (self._directory / digest.hex).read_bytes()
        except OSError:
            return None
        return data if Digest.of_bytes(data) == digest else None

    def keep(self, data: bytes) -> None:
        """Put an object into the cache."""
        write_atomically(self._directory / Digest.of_bytes(data).hex, data)


def pin_image(wanted: WantedImage, client: RegistryClient, cache: ObjectCache) -> PinnedImage:
    """Find out what an image's tag names now.

    Raises: NotFoundError, CredentialsError, NetworkError, IntegrityError, BuildError.
    """
    reference = wanted.reference
    resolved = client.resolve(reference)
    digest = resolved.digest
    if resolved.data is not None:
        cache.keep(resolved.data)
    top_data = cache.get(digest, lambda: client.manifest(reference, digest))
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

    Entries that are artifacts (signatures, charts) are no images, whatever platform they name.

    Raises: NotFoundError when the index has none.
    """
    entries = index.get("manifests")
    children = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    images = [entry for entry in children if not entry.get("artifactType")]
    fitting = [entry for entry in images if _platform(entry)[:2] == PLATFORM]
    if not fitting:
        known = sorted({"/".join(part for part in _platform(entry) if part) or "?" for entry in images})
        artifacts = sorted({str(entry["artifactType"]) for entry in children if entry.get("artifactType")})
        others = f"; artifacts: {', '.join(artifacts)}" if artifacts else ""
        raise NotFoundError(
            f"{what} does not exist for linux/amd64",
            details=f"its index has: {', '.join(known) or 'no image'}{others}",
            resolution=_platform_advice(_platform(entry)[1] for entry in images),
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
    if media_type in MANIFEST_TYPES and isinstance(config, dict):
        _check_image(manifest, config, what)
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


def _check_image(manifest: Mapping[str, object], config: Mapping[str, object], what: str) -> None:
    """Check that a manifest is that of an image: registries hold charts, signatures and others too.

    Source: OCI image specification 1.1, "Guidelines for Artifact Usage".
    """
    config_type, artifact_type = config.get("mediaType"), manifest.get("artifactType")
    is_image = config_type is None or config_type in CONFIG_TYPES
    if not is_image or (artifact_type and artifact_type not in CONFIG_TYPES):
        artifact = f", artifact type {artifact_type}" if artifact_type else ""
        raise BuildError(
            f"{what} is an OCI artifact (config type {config_type}{artifact}), not an image",
            details="a chart, a signature or another thing that is kept in a registry: containers do not run from it",
            resolution="name the image itself in images.yaml; "
            "what the artifact holds can be put on the ISO as a manifest",
        )


def _platform_advice(architectures: Iterable[str]) -> str:
    """Return what to do about an image for another platform; some makers write other names for amd64."""
    if any(name.lower() in ("x86_64", "x86-64", "x64") for name in architectures):
        return (
            "its maker calls the architecture x86_64; runtimes know it as amd64 and would not start it: "
            "have the image corrected"
        )
    return "use a tag that has it"


def check_platform(config: Mapping[str, object], what: str) -> None:
    """Check that a configuration is for linux/amd64: a single manifest says it nowhere else.

    Raises: NotFoundError.
    """
    found = (config.get("os"), config.get("architecture"))
    if found != PLATFORM:
        raise NotFoundError(
            f"{what} does not exist for linux/amd64",
            details=f"it is for {found[0]}/{found[1]}",
            resolution=_platform_advice([str(found[1])]),
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
        size_bytes = descriptor["size"]
        if type(size_bytes) is not int or size_bytes < 0:
            raise ValueError(f"size {size_bytes!r}")  # noqa: TRY301
        return Blob(digest=Digest.parse(str(descriptor["digest"])), size_bytes=size_bytes)
    except (KeyError, ValueError, TypeError) as exc:
        raise BuildError(f"{what} has a descriptor that cannot be read", details=str(exc)) from exc


def _parse_json(data: bytes, what: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise BuildError(
            f"{what} has a manifest that is no JSON",
            details=str(exc),
            resolution="see whether a proxy stands between, or use a mirror",
        ) from exc
    if not isinstance(parsed, dict):
        raise BuildError(f"{what} has a manifest that is no JSON object")
    return parsed
