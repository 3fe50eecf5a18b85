# SPDX-License-Identifier: Apache-2.0
"""Say in nginx' words what other ISOs have that lie on this host beside the one in use.

    layouts of the ISOs -> lines of the maps that the ISO in use brings (build/bundle/nginxmaps.py includes them)

The ISO in use comes first: of two images of one name its own is served. Blobs are looked for by their digest in every
layout, so that one which two ISOs have is served from either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import MediaError, UsageError
from installer.base.files import write_file
from installer.operations import image_names
from installer.operations.image_files import MAX_MANIFEST_BYTES, NAME_KEYS

SLOTS = 4
"""How many ISOs beside the one in use nginx looks into."""
LOCATIONS: Mapping[str, str] = {
    "application/vnd.oci.image.manifest.v1+json": "@caisson_oci_manifest",
    "application/vnd.oci.image.index.v1+json": "@caisson_oci_index",
    "application/vnd.docker.distribution.manifest.v2+json": "@caisson_docker_manifest",
    "application/vnd.docker.distribution.manifest.list.v2+json": "@caisson_docker_list",
}
"""Type of a manifest -> the location that serves it with that type."""
OCI_DIR = "oci"
DIRECTORIES, TYPES, TAGS, LISTS = "directories.conf", "types.conf", "tags.conf", "lists.conf"
PENDING = ".pending"
"""A file that says: nginx has not been told of these maps, or has not been seen to serve them."""
_DOT = r"\."
_UNQUOTABLE = set('"\\$;{}') | {chr(number) for number in range(32)}


@dataclass(frozen=True)
class LaidOut:
    """An image of an ISO: its name in a registry's spelling, its tag, its digest, its manifests with their types."""

    path: str
    tag: str
    digest: str
    manifests: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return name and tag, as they are stored."""
        return f"{self.path}:{self.tag}"


@dataclass(frozen=True)
class Layout:
    """What an ISO has; ``directory`` is where nginx finds its OCI layout."""

    directory: str
    images: tuple[LaidOut, ...]


@dataclass(frozen=True)
class Clash:
    """A name that two ISOs have for different images: that of the first is served."""

    name: str
    served_from: str
    hidden_from: str


def read_layout(media_dir: Path, *, directory: str = "") -> Layout:
    """Read the OCI layout of a mounted ISO; ``directory`` says where nginx finds it, if not there.

    Raises:
        MediaError: it cannot be read, or has names that no registry has.
    """
    oci_dir = media_dir / OCI_DIR
    if _UNQUOTABLE & set(directory or str(oci_dir)):
        raise MediaError(
            f"nginx cannot be told of the directory {directory or oci_dir}",
            details="it has a character that means something else there",
            resolution="this is a fault of the build: report it",
        )
    try:
        entries = json.loads((oci_dir / "index.json").read_bytes())["manifests"]
        images = tuple(_laid_out(oci_dir, entry) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as exc:
        raise MediaError(
            f"the images of the media {media_dir} cannot be read",
            details=f"{oci_dir}: {exc}",
            resolution="the media is damaged: copy the ISO again and compare its checksum",
        ) from exc
    return Layout(directory or str(oci_dir), images)


def _laid_out(oci_dir: Path, entry: Mapping[str, Any]) -> LaidOut:
    annotations = entry["annotations"]
    name = image_names.parse(next((str(annotations[key]) for key in NAME_KEYS if annotations.get(key)), ""))
    manifests = dict(_manifests(oci_dir, entry))
    return LaidOut(name.path, name.tag, _hex(entry), manifests)


def _manifests(oci_dir: Path, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the digest and the type of a manifest and of those below it that are there."""
    digest, kind = _hex(entry), str(entry["mediaType"])
    file = oci_dir / "blobs/sha256" / digest
    if kind not in LOCATIONS or not file.is_file():
        return
    yield digest, kind
    if file.stat().st_size <= MAX_MANIFEST_BYTES:
        for below in json.loads(file.read_bytes()).get("manifests", ()):
            yield from _manifests(oci_dir, below)


def _hex(entry: Mapping[str, Any]) -> str:
    digest = str(entry["digest"])
    if not image_names.DIGEST.fullmatch(digest):
        raise ValueError(f"digest {digest!r}")
    return digest.partition(":")[2]


def clashes(layouts: Sequence[tuple[str, Layout]]) -> list[Clash]:
    """Return the names that stand for different images; ``layouts`` are titles with layouts, the ISO in use first."""
    served: dict[str, tuple[str, str]] = {}
    found = []
    for title, layout in layouts:
        for image in layout.images:
            first, digest = served.setdefault(image.name, (title, image.digest))
            if digest != image.digest:
                found.append(Clash(image_names.of_path(image.path, image.tag).said(), first, title))
    return found


def render(in_use: Layout | None, added: Sequence[Layout]) -> dict[str, str]:
    """Return name of a file -> its lines, for the ISOs beside the one in use. Pure."""
    tags = {image.name: image.digest for layout in reversed(added) for image in layout.images}
    types = {
        digest: LOCATIONS[kind] for one in added for i in one.images for digest, kind in i.manifests.items()
    }
    lists: dict[str, set[str]] = {}
    for layout in [*([in_use] if in_use else []), *added]:
        for image in layout.images:
            lists.setdefault(image.path, set()).add(image.tag)
    mixed = {image.path for layout in added for image in layout.images}
    texts = {name: "'" + ",".join(f'"{tag}"' for tag in sorted(lists[name])) + "'" for name in mixed}
    return {
        DIRECTORIES: _lines(
            {str(number): f'"{layout.directory}"' for number, layout in enumerate(added, start=1)}
        ),
        TYPES: _lines(_patterns(types)),
        TAGS: _lines(_patterns(tags)),
        LISTS: _lines(_patterns(texts)),
    }


def _patterns(values: Mapping[str, str]) -> dict[str, str]:
    """Return the keys as patterns: they may be there twice, and nginx tells upper from lower case in them alone."""
    return {f"~^{key.replace('.', _DOT)}$": value for key, value in values.items()}


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f'"{key}" {value};\n' for key, value in sorted(values.items()))


def write(maps_dir: Path, texts: Mapping[str, str]) -> bool:
    """Write the files, where the blobs are first and names last; return whether anything is for nginx to read.

    That is noted before the first is written, and :func:`told` ends it: a run that is killed in between is seen.
    """
    names = (DIRECTORIES, TYPES, TAGS, LISTS)
    if all(_holds(maps_dir / name, texts[name]) for name in names):
        return (maps_dir / PENDING).exists()
    write_file(maps_dir / PENDING, "")
    for name in names:
        write_file(maps_dir / name, texts[name])
    return True


def told(maps_dir: Path) -> None:
    """Note that nginx serves what the maps say."""
    (maps_dir / PENDING).unlink(missing_ok=True)


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() == text.encode()
    except OSError:
        return False
