# SPDX-License-Identifier: Apache-2.0
"""Write the layer of a composed image: the payload of locked RPMs, fitted to the base.

RPM --rpm2archive--> tar, header --> one member a path: owners by number, one date, file capabilities -> gzip
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Protocol, cast

from build.base import ui
from build.base.errors import BuildError
from build.base.files import replacing
from build.bundle import filecaps
from build.bundle.accounts import merge_group, merge_passwd, numbers_of
from build.bundle.basesystem import GROUP, PASSWD, BaseSystem
from build.inventory.model import Blob, ComposedImage, Digest, LockedImage, LockedPackage
from build.store import layers
from build.store.layers import plain_path, printable
from build.store.objects import Store
from build.upstream.rpmpayload import unpack_payload

_GZIP_LEVEL = 6
_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that one composed image is made of."""

    image: ComposedImage
    base: LockedImage
    packages: tuple[LockedPackage, ...]
    source_date_epoch: int

    @property
    def label(self) -> str:
        """Return how messages name the image."""
        return f"image {self.image.reference}"


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Tee:
    """A write-only stream that passes bytes on and hashes and counts them."""

    def __init__(self, target: _Sink) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self.size_bytes += len(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the target is closed by its owner."""

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.hexdigest())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer that was written: its blob, and the digest of what is packed in it."""

    blob: Blob
    diff_id: Digest


def write_layer(recipe: Recipe, store: Store, system: BaseSystem, file: Path) -> Layer:
    """Write the layer, packages in the order of their names, files in the order of each payload."""
    with replacing(file) as temporary, temporary.open("wb") as raw:
        packed = _Tee(raw)
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=cast("IO[bytes]", packed), compresslevel=_GZIP_LEVEL, mtime=0
        ) as zipper:
            plain = _Tee(zipper)
            with tarfile.open(
                mode="w|", fileobj=cast("IO[bytes]", plain), format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES
            ) as archive:
                writer = _LayerWriter(recipe, system, archive)
                for package in recipe.packages:
                    blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
                    writer.add_package(package, store.checked(blob, f"package {package.nevra}"))
                writer.add_accounts()
    return Layer(blob=Blob(digest=packed.digest, size_bytes=packed.size_bytes), diff_id=plain.digest)


class _LayerWriter:
    """Adds payloads to one tar: every path once, owners by number, one date."""

    def __init__(self, recipe: Recipe, system: BaseSystem, archive: tarfile.TarFile) -> None:
        self._recipe = recipe
        self._system = system
        self._archive = archive
        self._uids = {**numbers_of(system.passwd), **{user.name: user.uid for user in recipe.image.users}}
        self._gids = {**numbers_of(system.group), **{user.name: user.gid for user in recipe.image.users}}
        self._seen: dict[str, tuple[str, str]] = {}  # path -> what it is, package
        self._said = time.monotonic()
        self._done_bytes = 0

    def add_package(self, package: LockedPackage, rpm_file: Path) -> None:
        capabilities = filecaps.read_file_capabilities(rpm_file, f"package {package.nevra}")
        with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
            archive_file = unpack_payload(rpm_file, Path(scratch))
            try:
                for archive, member in layers.members(archive_file):
                    text = capabilities.get(plain_path(member.name), "") if member.isreg() else ""
                    self._add(package, archive, member, self._capability(text, package, member))
            except layers.ArchiveError as exc:
                raise BuildError(
                    f"{self._recipe.label}: the payload of package {package.nevra} cannot be read",
                    details=str(exc),
                    resolution="run './doit.sh lock': upstream may have another build of it",
                ) from exc

    def _capability(self, text: str, package: LockedPackage, member: tarfile.TarInfo) -> bytes:
        try:
            return filecaps.encode(text)
        except ValueError as exc:
            raise BuildError(
                f"{self._recipe.label}: the file capabilities of /{printable(plain_path(member.name))} are unknown",
                details=f"package {package.nevra}: {exc}",
                resolution="take the package out of the image, or add the capability to build/bundle/filecaps.py",
            ) from exc

    def _add(
        self, package: LockedPackage, archive: tarfile.TarFile, member: tarfile.TarInfo, capability: bytes
    ) -> None:
        name = self._system.resolve(plain_path(member.name))
        if name in (PASSWD, GROUP):
            raise BuildError(
                f"{self._recipe.label}: package {package.nevra} has its own /{name}",
                details="the accounts of a composed image are those of its base and of the inventory",
                resolution="choose a base image that has this package's accounts",
            )
        if member.isdir() and name in self._system.links:
            return
        stream = archive.extractfile(member) if member.isreg() else None
        data = stream.read() if stream is not None else b""
        identity = _identity(member, data, capability)
        known = self._seen.setdefault(name, (identity, package.nevra))
        if known[0] != identity:
            raise BuildError(
                f"{self._recipe.label}: two packages have different files at /{printable(name)}",
                details=f"{known[1]} and {package.nevra}",
                resolution="take one of them out of the image's packages",
            )
        if known[1] != package.nevra:
            return
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size = member.type, member.mode, len(data)
        info.linkname = member.linkname
        if member.islnk():
            info.linkname = self._system.resolve(plain_path(member.linkname))
        if capability:
            info.pax_headers = {filecaps.PAX_NAME: filecaps.pax_value(capability)}
        info.uid = self._number(self._uids, member.uname, package, name, "user")
        info.gid = self._number(self._gids, member.gname, package, name, "group")
        self._write(info, data)

    def add_accounts(self) -> None:
        users = self._recipe.image.users
        if not users:
            return
        for name, text in ((PASSWD, merge_passwd(self._system.passwd, users, self._recipe.label)),
                           (GROUP, merge_group(self._system.group, users, self._recipe.label))):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o644, len(text.encode())
            self._write(info, text.encode())

    def _write(self, info: tarfile.TarInfo, data: bytes) -> None:
        info.mtime = self._recipe.source_date_epoch
        source = _Bytes(data)
        self._archive.addfile(info, cast("IO[bytes]", source) if info.isreg() else None)
        self._done_bytes += len(data)
        if time.monotonic() - self._said > 2:
            self._said = time.monotonic()
            ui.note(f"{self._recipe.image.id}: {ui.bytes_text(self._done_bytes)} packed")

    def _number(
        self, table: Mapping[str, int], owner: str, package: LockedPackage, path: str, kind: str
    ) -> int:
        if owner in table:
            return table[owner]
        if owner in ("root", ""):
            return 0
        raise BuildError(
            f"{self._recipe.label}: the {kind} '{owner}' of /{printable(path)} is unknown",
            details=f"package {package.nevra}; known: {', '.join(sorted(table)) or 'none'}",
            resolution="add it under 'users' of the image in images.yaml",
        )


class _Bytes:
    """Bytes as a stream, read in pieces without a copy of the whole."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)

    def read(self, size: int) -> bytes:
        chunk, self._view = self._view[:size], self._view[size:]
        return bytes(chunk)


def _identity(member: tarfile.TarInfo, data: bytes, capability: bytes) -> str:
    """Return what has to be equal when two packages have one path; a directory only has to be one."""
    if member.isdir():
        return "directory"
    content = hashlib.sha256(data).hexdigest() if member.isreg() else member.linkname
    return f"{member.type!r} {member.mode:o} {member.uname} {member.gname} {content} {capability.hex()}"
