# SPDX-License-Identifier: Apache-2.0
"""Make an image of a base image and the payload of locked RPMs; no container tool, no root, no scriptlet.

    base image (store) --scan--> links, users, groups
    locked RPMs (store) --rpm2archive--> one sorted-by-package tar, owners by name -> gzip layer
    base configuration + entrypoint, diff_id -> configuration -> manifest -> work/composed/ID/

The base's layers stay as they are. The new layer depends on the packages, the inventory and the lock's date
alone. No %pre runs: users are those of the base and of the inventory, and any other owner is an error.
Source: OCI image-spec 1.1, layer.md and config.md; rpm2archive(8), 4.16 and later.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import json
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from build.base import ui
from build.base.errors import BuildError
from build.base.files import replacing, write_atomically
from build.base.plan import Step, Workspace
from build.bundle import oci
from build.bundle.nginxmaps import ManifestType
from build.inventory.model import (
    Blob,
    ComposedImage,
    Descriptor,
    Digest,
    Inventory,
    Lock,
    LockedImage,
    LockedPackage,
    User,
)
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store
from build.upstream.rpmpayload import unpack_payload

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
#: The same bytes under OCI's name: a Docker base becomes part of an OCI image.
_OCI_LAYER_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
_GZIP_LEVEL = 6
_COPY_BYTES = 1 << 20
_PASSWD, _GROUP = "etc/passwd", "etc/group"
_WHITEOUT = ".wh."


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


def plan_composed(lock: Lock, inventory: Inventory, store: Store, workspace: Workspace) -> tuple[Step, ...]:
    """Plan every composed image of the lock."""
    wanted = {image.id: image for image in inventory.composed}
    return tuple(
        _plan(
            Recipe(
                image=wanted[locked.id],
                base=lock.image(locked.base),
                packages=tuple(lock.package(name) for name in sorted(locked.packages)),
                source_date_epoch=lock.source_date_epoch,
            ),
            store,
            workspace,
        )
        for locked in lock.composed
    )


def _plan(recipe: Recipe, store: Store, workspace: Workspace) -> Step:
    image, base = recipe.image, recipe.base
    part = oci.part_file(workspace, image.id)
    directory = workspace.work_dir / "composed" / image.id
    digests = (base.platform.digest, base.config.digest, *(layer.digest for layer in base.layers))
    return Step(
        name=image.id,
        doc=f"{image.reference} ({base.reference} and {len(recipe.packages)} packages)",
        run=functools.partial(run_compose, recipe, store, directory, part),
        inputs=tuple(store.path(digest) for digest in (*digests, *(p.digest for p in recipe.packages))),
        outputs=(directory, part),
        config={
            "image": {**dataclasses.asdict(image), "source": ""},
            "base": str(base.platform.digest),
            "packages": [str(package.digest) for package in recipe.packages],
            "source_date_epoch": recipe.source_date_epoch,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
        },
    )


def run_compose(recipe: Recipe, store: Store, directory: Path, part: Path) -> None:
    """Make the image's three files in ``directory`` and write its table.

    Raises: MissingError; IntegrityError; CommandError; BuildError when two packages disagree about a file or
    a file's owner is unknown.
    """
    base_manifest = oci.read_manifest(store, recipe.base.platform, f"image {recipe.base.reference}")
    base_config = json.loads(store.read(recipe.base.config, f"image {recipe.base.reference}"))
    layers = [store.checked(blob, f"image {recipe.base.reference}: layer") for blob in recipe.base.layers]
    system = scan_base(layers)
    directory.mkdir(parents=True, exist_ok=True)
    layer_file = directory / "layer.tar.gz"
    layer = _write_layer(recipe, store, system, layer_file)
    config = render_config(recipe, base_config, layer.diff_id)
    manifest = render_manifest(recipe, base_manifest, config, layer)
    files = {"config.json": config, "manifest.json": manifest}
    for name, data in files.items():
        write_atomically(directory / name, data)
    top = Descriptor(
        digest=Digest.of_bytes(manifest), size_bytes=len(manifest), media_type=ManifestType.OCI_MANIFEST.value
    )
    entries = [
        Entry(
            path=oci.blob_path(Digest.of_bytes(data)),
            source=directory / name,
            size_bytes=len(data),
            digest=Digest.of_bytes(data),
            owners=(recipe.label,),
        )
        for name, data in files.items()
    ]
    entries += [
        Entry(
            path=oci.blob_path(blob.digest),
            source=source,
            size_bytes=blob.size_bytes,
            digest=blob.digest,
            owners=(recipe.label,),
        )
        for blob, source in (
            *zip(recipe.base.layers, layers, strict=True),
            (layer.blob, layer_file),
        )
    ]
    unique = {entry.path: entry for entry in entries}
    kinds = [(top.digest, ManifestType.OCI_MANIFEST)]
    facts = oci.image_facts(recipe.image.id, recipe.image.reference, top, kinds)
    filelist.write_part(part, unique.values(), facts)


# ---------------------------------------------------------------- the base


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseSystem:
    """What the payload has to fit to: symbolic links by path, and the text of the account files."""

    links: Mapping[str, str]
    passwd: str
    group: str

    def resolve(self, path: str) -> str:
        """Return where a path of a package ends up: through links of directories (``lib`` -> ``usr/lib``)."""
        done = PurePosixPath()
        rest = list(PurePosixPath(path).parts)
        for _ in range(64):  # a base whose links run in circles gives a path that simply stays
            if not rest:
                break
            done /= rest.pop(0)
            target = self.links.get(str(done)) if rest else None
            if target is not None:
                joined = PurePosixPath(target) if target.startswith("/") else done.parent / target
                rest = [*_normal(joined), *rest]
                done = PurePosixPath()
        return str(done.joinpath(*rest))


def _normal(path: PurePosixPath) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            del parts[-1:]
        elif part not in ("/", "."):
            parts.append(part)
    return parts


def scan_base(layers: Sequence[Path]) -> BaseSystem:
    """Read the layers of a base image, lowest first.

    Raises: BuildError for a layer that is neither gzip nor plain tar.
    """
    links: dict[str, str] = {}
    texts = {_PASSWD: "", _GROUP: ""}
    for file in layers:
        for archive, member in _members(file):
            path = PurePosixPath(member.name)
            name = "/".join(_normal(path))
            if path.name.startswith(_WHITEOUT):
                hidden = path.with_name(path.name.removeprefix(_WHITEOUT))
                links.pop("/".join(_normal(hidden)), None)
                continue
            links.pop(name, None)
            if member.issym():
                links[name] = member.linkname
            elif name in texts and member.isfile():
                stream = archive.extractfile(member)
                texts[name] = stream.read().decode() if stream else ""
    return BaseSystem(links=links, passwd=texts[_PASSWD], group=texts[_GROUP])


def _members(file: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    try:
        with tarfile.open(file, mode="r|*") as archive:
            for member in archive:
                yield archive, member
    except tarfile.ReadError as exc:
        raise BuildError(
            "a layer of the base image cannot be read",
            details=f"{file.name}: {exc}",
            resolution="take a base image whose layers are gzip or plain tar",
        ) from exc


# ---------------------------------------------------------------- the layer


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
class _Layer:
    blob: Blob
    diff_id: Digest


def _write_layer(recipe: Recipe, store: Store, system: BaseSystem, file: Path) -> _Layer:
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
    return _Layer(blob=Blob(digest=packed.digest, size_bytes=packed.size_bytes), diff_id=plain.digest)


class _LayerWriter:
    """Adds payloads to one tar: every path once, owners by number, one date."""

    def __init__(self, recipe: Recipe, system: BaseSystem, archive: tarfile.TarFile) -> None:
        self._recipe = recipe
        self._system = system
        self._archive = archive
        self._uids = {**_ids(system.passwd), **{user.name: user.uid for user in recipe.image.users}}
        self._gids = {**_ids(system.group), **{user.name: user.gid for user in recipe.image.users}}
        self._seen: dict[str, tuple[str, str]] = {}  # path -> what it is, package
        self._said = time.monotonic()
        self._done_bytes = 0

    def add_package(self, package: LockedPackage, rpm_file: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
            for archive, member in _members(unpack_payload(rpm_file, Path(scratch))):
                self._add(package, archive, member)

    def _add(self, package: LockedPackage, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self._system.resolve("/".join(_normal(PurePosixPath(member.name))))
        if name in (_PASSWD, _GROUP):
            raise BuildError(
                f"{self._recipe.label}: package {package.nevra} has its own /{name}",
                details="the accounts of a composed image are those of its base and of the inventory",
                resolution="choose a base image that has this package's accounts",
            )
        if member.isdir() and name in self._system.links:
            return
        stream = archive.extractfile(member) if member.isreg() else None
        data = stream.read() if stream is not None else b""
        identity = _identity(member, data)
        known = self._seen.setdefault(name, (identity, package.nevra))
        if known[0] != identity:
            raise BuildError(
                f"{self._recipe.label}: two packages have different files at /{name}",
                details=f"{known[1]} and {package.nevra}",
                resolution="take one of them out of the image's packages",
            )
        if known[1] != package.nevra:
            return
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size = member.type, member.mode, len(data)
        info.linkname = member.linkname
        if member.islnk():
            info.linkname = self._system.resolve("/".join(_normal(PurePosixPath(member.linkname))))
        info.uid = self._number(self._uids, member.uname, package, name, "user")
        info.gid = self._number(self._gids, member.gname, package, name, "group")
        self._write(info, data)

    def add_accounts(self) -> None:
        users = self._recipe.image.users
        if not users:
            return
        for name, text in ((_PASSWD, merge_passwd(self._system.passwd, users, self._recipe.label)),
                           (_GROUP, merge_group(self._system.group, users, self._recipe.label))):  # fmt: skip
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
            f"{self._recipe.label}: the {kind} '{owner}' of /{path} is unknown",
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


def _identity(member: tarfile.TarInfo, data: bytes) -> str:
    """Return what has to be equal when two packages have one path; a directory only has to be one."""
    if member.isdir():
        return "directory"
    content = hashlib.sha256(data).hexdigest() if member.isreg() else member.linkname
    return f"{member.type!r} {member.mode:o} {member.uname} {member.gname} {content}"


def _ids(table: str) -> dict[str, int]:
    """Return names and numbers of an /etc/passwd or /etc/group."""
    rows = (line.split(":") for line in table.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}


def merge_passwd(base: str, users: Sequence[User], label: str) -> str:
    r"""Return /etc/passwd with the users added.

    Raises: BuildError when the base gives a name or a number to somebody else.

    >>> user = User(name="salt", uid=450, gid=450, home="/opt/salt", shell="/sbin/nologin")
    >>> merge_passwd("root:x:0:0:root:/root:/bin/sh\n", [user], "image x").splitlines()[1]
    'salt:x:450:450:salt:/opt/salt:/sbin/nologin'
    """
    rows = {
        user.name: f"{user.name}:x:{user.uid}:{user.gid}:{user.name}:{user.home}:{user.shell}"
        for user in users
    }
    return _merge(base, {user.name: user.uid for user in users}, rows, f"{label}: user")


def merge_group(base: str, users: Sequence[User], label: str) -> str:
    """Return /etc/group with the group of each user added. Raises: BuildError, as :func:`merge_passwd`."""
    rows = {user.name: f"{user.name}:x:{user.gid}:" for user in users}
    return _merge(base, {user.name: user.gid for user in users}, rows, f"{label}: group")


def _merge(base: str, numbers: Mapping[str, int], rows: Mapping[str, str], what: str) -> str:
    known = _ids(base)
    names = {number: name for name, number in known.items()}
    lines = base.splitlines()
    for name, number in numbers.items():
        if known.get(name) == number:
            continue
        if name in known or number in names:
            raise BuildError(
                f"{what} '{name}' ({number}) collides with the base image",
                details=f"the base has '{names.get(number, name)}' with number {known.get(name, number)}",
                resolution="give it the base's number, or another name or number, in images.yaml",
            )
        lines.append(rows[name])
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- configuration and manifest


def render_config(recipe: Recipe, base: Mapping[str, Any], diff_id: Digest) -> bytes:
    """Render the image configuration: the base's, with the recipe's settings and one more layer."""
    image = recipe.image
    created = datetime.fromtimestamp(recipe.source_date_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    settings: dict[str, Any] = dict(base.get("config") or {})
    environment = dict(entry.partition("=")[::2] for entry in settings.get("Env") or ())
    settings["Env"] = [f"{name}={value}" for name, value in {**environment, **image.environment}.items()]
    if image.entrypoint:
        settings["Entrypoint"] = list(image.entrypoint)
        settings.pop("Cmd", None)
    if image.command:
        settings["Cmd"] = list(image.command)
    if image.user:
        settings["User"] = image.user
    if image.working_dir:
        settings["WorkingDir"] = image.working_dir
    packages = " ".join(package.nevra for package in recipe.packages)
    return _canonical(
        {
            "architecture": base.get("architecture", oci.PLATFORM[1]),
            "os": base.get("os", oci.PLATFORM[0]),
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [*base["rootfs"]["diff_ids"], str(diff_id)]},
            "history": [
                *(base.get("history") or ()),
                {"created": created, "created_by": "caisson build", "comment": packages},
            ],
        }
    )


def render_manifest(recipe: Recipe, base: Mapping[str, Any], config: bytes, layer: _Layer) -> bytes:
    """Render the OCI manifest: the base's layers, as they are, and the new one."""
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": ManifestType.OCI_MANIFEST.value,
            "config": {
                "mediaType": _CONFIG_TYPE,
                "digest": str(Digest.of_bytes(config)),
                "size": len(config),
            },
            "layers": [
                *(
                    {
                        "mediaType": _OCI_LAYER_TYPES.get(entry["mediaType"], entry["mediaType"]),
                        "digest": entry["digest"],
                        "size": entry["size"],
                    }
                    for entry in base["layers"]
                ),
                {
                    "mediaType": _LAYER_TYPE,
                    "digest": str(layer.blob.digest),
                    "size": layer.blob.size_bytes,
                },
            ],
            "annotations": {
                "org.opencontainers.image.base.digest": str(recipe.base.platform.digest),
                "org.opencontainers.image.base.name": str(recipe.base.reference),
            },
        }
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
