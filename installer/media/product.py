# SPDX-License-Identifier: Apache-2.0
"""Read ``product.json``: what the media is and what it holds."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import MediaError

FORMAT = 1
FILE_NAME = "product.json"
_PATH_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._+~-")


@dataclass(frozen=True)
class ImageEntry:
    """One container image of the media, under upstream's own name."""

    name: str
    reference: str
    digest: str
    platform_digest: str
    size_bytes: int
    is_preloaded: bool


@dataclass(frozen=True)
class Manifest:
    """One upstream manifest of the media; ``path`` is relative to the media's root."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Product:
    """The content of product.json; ``sha256`` is that of the file itself.

    ``build`` tells the bundles of one version apart; it is empty for media from before there was one.
    """

    version: str
    build: str
    profile_name: str
    is_lab: bool
    lock_sha256: str
    source_date_epoch: int
    versions: Mapping[str, str]
    images: Mapping[str, ImageEntry]
    packages: Mapping[str, str]
    manifests: Mapping[str, Manifest]
    rpm_keys: tuple[str, ...]
    sha256: str

    @property
    def full_version(self) -> str:
        """Return version and build, as the places on the host are named: two bundles never share one.

        >>> parse(b'{"format": 1, "version": "1.2", "build": "20261127.ab", "profile": {"name": "x"}}').full_version
        '1.2-20261127.ab'
        """
        return f"{self.version}-{self.build}" if self.build else self.version

    @property
    def summary(self) -> dict[str, Any]:
        """What tells this bundle from others, as JSON data."""
        return {
            "version": self.version,
            "build": self.build,
            "profile": self.profile_name,
            "lab": self.is_lab,
        }

    @property
    def title(self) -> str:
        """Return name and version as shown everywhere; a lab bundle says so.

        >>> parse(b'{"format": 1, "version": "1.2", "profile": {"name": "lab", "lab": true}}').title
        'Caisson 1.2 (LAB BUNDLE, profile lab: not for production)'
        """
        if self.is_lab:
            return (
                f"Caisson {self.full_version} (LAB BUNDLE, profile {self.profile_name}: not for production)"
            )
        return f"Caisson {self.full_version}"


def parse(content: bytes, *, origin: str = FILE_NAME) -> Product:
    """Parse the bytes of product.json.

    Keys that this version does not know are ignored: a newer media may carry more.

    Raises:
        MediaError: no JSON, another format, or a value of the wrong shape.
    """
    try:
        data = json.loads(content)
        if data["format"] != FORMAT:
            raise MediaError(
                f"{origin} has format {data['format']!r}, this installer reads format {FORMAT}",
                resolution="start bootstrap.sh of the same media",
            )
        return _product(data, hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise MediaError(
            f"{origin} cannot be read",
            details=f"{type(exc).__name__}: {exc}",
            resolution="the media is damaged or not Caisson's: copy the ISO again and compare its checksum",
        ) from exc


def load(media_dir: Path) -> Product:
    """Read product.json below ``media_dir``.

    Raises:
        MediaError: it is missing or cannot be read.
    """
    file = media_dir / FILE_NAME
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise MediaError(
            f"{file} cannot be read: {exc.strerror}",
            details=f"{media_dir} is no media of Caisson, or the media is not mounted",
            resolution="mount the ISO and start its bootstrap.sh",
        ) from exc
    return parse(content, origin=str(file))


def _product(data: Mapping[str, Any], sha256: str) -> Product:
    images = {
        name: ImageEntry(
            name=name,
            reference=str(entry["reference"]),
            digest=str(entry["digest"]),
            platform_digest=str(entry.get("platform_digest") or entry["digest"]),
            size_bytes=int(entry.get("size_bytes", 0)),
            is_preloaded=bool(entry.get("preload", False)),
        )
        for name, entry in data.get("images", {}).items()
    }
    manifests = {
        name: Manifest(name=name, path=str(entry["path"]), sha256=str(entry["sha256"]))
        for name, entry in data.get("manifests", {}).items()
    }
    return Product(
        version=_part_of_path(str(data["version"])),
        build=_part_of_path(str(data.get("build", ""))),
        profile_name=str(data["profile"]["name"]),
        is_lab=bool(data["profile"].get("lab", False)),
        lock_sha256=str(data.get("lock_sha256", "")),
        source_date_epoch=int(data.get("source_date_epoch", 0)),
        versions={str(key): str(value) for key, value in data.get("versions", {}).items()},
        images=images,
        packages={str(key): str(value) for key, value in data.get("packages", {}).items()},
        manifests=manifests,
        rpm_keys=tuple(str(key) for key in data.get("rpm_keys", ())),
        sha256=sha256,
    )


def _part_of_path(text: str) -> str:
    """Return a text that directories are named by. Raises: ValueError when it could name another place."""
    if text.startswith(".") or not set(text) <= _PATH_CHARACTERS:
        raise ValueError(f"no version or build: {text!r}")
    return text
