# SPDX-License-Identifier: Apache-2.0
"""Read images out of a file or a directory: an OCI layout, packed or not, or what ``docker save`` writes.

open_source(Path("app.tar")) -> Source: what is in it by name, and each blob by its digest
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from installer.base.errors import MediaError, UsageError
from installer.operations.image_names import DIGEST

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
MAX_MANIFEST_BYTES = 4 << 20
"""Source: distribution 3.1, registry/handlers, ``maxManifestBodySize``."""
PIECE = 1 << 20
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
"""Where a layout says what an image is called; the second may be a tag alone."""


@dataclass(frozen=True)
class Root:
    """One image of a source: what it is called there (may be empty, or a tag alone) and its descriptor."""

    name: str
    digest: str
    media_type: str


@dataclass(frozen=True)
class Place:
    """Where the bytes of a blob are: in a file, from ``offset`` on; or they are here."""

    size_bytes: int
    file: Path | None = None
    offset: int = 0
    data: bytes = b""


class Part(io.RawIOBase):
    """A part of a file, to be read once from its beginning."""

    def __init__(self, file: Path, offset: int, size_bytes: int) -> None:
        """Open the file at ``offset``."""
        self._stream = file.open("rb")
        self._stream.seek(offset)
        self._left = size_bytes

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is room for, and no more than the part has."""
        wanted = min(len(buffer), self._left)
        data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()


class Source:
    """Images by name, blobs by digest."""

    def __init__(self, title: str, roots: Sequence[Root], places: Mapping[str, Place]) -> None:
        """``title`` is what it is called in errors."""
        self.title, self.roots, self._places = title, roots, places

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""
        return digest in self._places

    def size(self, digest: str) -> int:
        """Return the size of a blob in bytes.

        Raises:
            MediaError: it is not there.
        """
        return self._place(digest).size_bytes

    @contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """Open a blob for one reading.

        Raises:
            MediaError: it is not there.
        """
        with _reader(self._place(digest)) as stream:
            yield stream

    def manifest(self, digest: str) -> bytes:
        """Return a manifest, of which the digest was compared.

        Raises:
            MediaError: it is not there, too large, or damaged.
        """
        if self.size(digest) > MAX_MANIFEST_BYTES:
            raise MediaError(
                f"{digest} in {self.title} is too large for a manifest",
                details=f"{self.size(digest)} bytes; a registry takes {MAX_MANIFEST_BYTES}",
                resolution="save the image again",
            )
        with self.open(digest) as stream:
            data = stream.read()
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise _damaged(self.title, f"{digest} has other bytes")
        return data

    def _place(self, digest: str) -> Place:
        try:
            return self._places[digest]
        except KeyError:
            raise _damaged(self.title, f"{digest} is not in it") from None


def open_source(path: Path) -> Source:
    """Open what ``path`` is: a directory with an OCI layout, or a tar archive.

    Raises:
        UsageError: it is neither.
        MediaError: it cannot be read, or is damaged.
    """
    try:
        if path.is_dir():
            return _of_directory(path)
        return _of_archive(path)
    except tarfile.TarError as exc:
        raise UsageError(
            f"{path} is no tar archive",
            details=str(exc),
            resolution="give an archive of 'podman save', 'docker save', 'skopeo copy' or 'ctr images export'; unpack "
            "one that is compressed first",
        ) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _damaged(str(path), f"its index cannot be read: {exc}") from exc
    except OSError as exc:
        raise MediaError(
            f"{path} cannot be read: {exc.strerror or exc}", resolution="check the file and its disk"
        ) from exc


def _of_directory(path: Path) -> Source:
    if not (path / "index.json").is_file():
        raise UsageError(
            f"{path} is no OCI layout",
            details="it has no index.json",
            resolution="give an archive or an OCI layout",
        )
    files = [file for file in (path / "blobs/sha256").glob("*") if file.is_file()]
    places = {f"sha256:{file.name}": Place(file.stat().st_size, file) for file in files}
    return Source(str(path), _roots((path / "index.json").read_bytes()), places)


def _of_archive(path: Path) -> Source:
    """Find the members of an archive where they are; nothing is unpacked."""
    with tarfile.open(path, "r:") as archive:
        members = {member.name.lstrip("./"): member for member in archive if member.isfile()}
        linked = {member.name.lstrip("./"): member for member in archive if member.issym() or member.islnk()}
    places = {name: Place(member.size, path, member.offset_data) for name, member in members.items()}
    for name, member in linked.items():
        target = members.get(_target(name, member))
        if target is not None:
            places[name] = Place(target.size, path, target.offset_data)
    if "index.json" in places:
        blobs = {
            f"sha256:{name.rpartition('/')[2]}": place
            for name, place in places.items()
            if name.startswith("blobs/sha256/")
        }
        return Source(str(path), _roots(_bytes(places["index.json"])), blobs)
    if "manifest.json" in places:
        return _of_docker(path, places)
    raise UsageError(
        f"{path} holds no image",
        details="it has neither index.json nor manifest.json",
        resolution="give an archive of 'podman save', 'docker save', 'skopeo copy' or 'ctr images export'",
    )


def _target(name: str, member: tarfile.TarInfo) -> str:
    """Return what a link of an archive means; docker save links a layer that two images share."""
    if member.islnk():
        return member.linkname.lstrip("./")
    parts: list[str] = []
    for part in f"{name.rpartition('/')[0]}/{member.linkname}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _bytes(place: Place) -> bytes:
    with _reader(place) as stream:
        data: bytes = stream.read()
    return data


def _reader(place: Place) -> Any:
    """Return a stream of a place's bytes."""
    if place.file is None:
        return io.BytesIO(place.data)
    return io.BufferedReader(Part(place.file, place.offset, place.size_bytes), PIECE)


def _roots(index: bytes) -> tuple[Root, ...]:
    found = []
    for entry in json.loads(index)["manifests"]:
        if not DIGEST.fullmatch(entry["digest"]):
            raise ValueError(f"digest {entry['digest']!r}")
        annotations = entry.get("annotations") or {}
        name = next((str(annotations[key]) for key in NAME_KEYS if annotations.get(key)), "")
        found.append(Root(name, str(entry["digest"]), str(entry.get("mediaType", OCI_MANIFEST))))
    return tuple(found)


def _of_docker(path: Path, places: Mapping[str, Place]) -> Source:
    """Make manifests for what ``docker save`` writes: layers as they lie there, which are not compressed."""
    blobs: dict[str, Place] = {}
    known: dict[str, str] = {}

    def describe(name: str, media_type: str) -> dict[str, Any]:
        if name not in known:
            known[name] = _digest(places[name])
        blobs[known[name]] = places[name]
        return {"mediaType": media_type, "digest": known[name], "size": places[name].size_bytes}

    roots = []
    for entry in json.loads(_bytes(places["manifest.json"])):
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": describe(entry["Config"], OCI_CONFIG),
                "layers": [describe(name, LAYER_TAR) for name in entry["Layers"]],
            }
        ).encode()
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        blobs[digest] = Place(len(manifest), data=manifest)
        roots += [Root(str(name), digest, OCI_MANIFEST) for name in entry.get("RepoTags") or [""]]
    return Source(str(path), tuple(roots), blobs)


def _digest(place: Place) -> str:
    digest = hashlib.sha256()
    with _reader(place) as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _damaged(title: str, details: str) -> MediaError:
    return MediaError(f"{title} is damaged or incomplete", details=details, resolution="save the image again")
