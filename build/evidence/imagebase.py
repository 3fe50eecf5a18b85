# SPDX-License-Identifier: Apache-2.0
"""Prove that a composed image has what its packages require, against what its base says is installed in it.

    layers of the base --> rpmdb.sqlite, as the layers together leave it --+
    headers of the locked RPMs ---------------------------------------------+--> what nobody gives

A host's baseline proves nothing here: a base image has fewer packages than a host. No scriptlet runs when an
image is composed, so what only those require does not count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from build.evidence.inside import rpmdb
from build.inventory.model import Blob, Lock, LockedComposed, LockedPackage
from build.store import layers
from build.store.objects import Store
from build.upstream.rpmcapabilities import Given, required_at_run
from build.upstream.rpmheader import read_header
from build.upstream.rpmtags import Tags

_LARGEST_BYTES = 1 << 30
_MAGIC_BYTES = 8


def open_composed(lock: Lock, store: Store, without: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what packages of composed images require that neither image nor base has, and who requires it.

    ``without`` is by image id what it may do without. Raises: MissingError; IntegrityError.
    """
    return [
        fault for image in lock.composed for fault in _open(image, lock, store, without.get(image.id, {}))
    ]


def _open(image: LockedComposed, lock: Lock, store: Store, without: Mapping[str, str]) -> Iterator[str]:
    base = lock.image(image.base)
    files = [store.checked(blob, f"image {base.reference}: layer") for blob in base.layers]
    own = {name: header_of(lock.package(name), store) for name in image.packages}
    installed, reason = installed_in(files)
    given = Given([*installed, *own.values()])
    for name, tags in sorted(own.items()):
        for wanted in required_at_run(tags):
            if not given.has(wanted) and wanted.name not in without and str(wanted) not in without:
                yield (
                    f"package capability {layers.printable(str(wanted))}, wanted by {name} in image {image.reference} "
                    f"(base {base.reference}{f': {reason}' if reason else ''})"
                )


def header_of(package: LockedPackage, store: Store) -> Tags:
    """Return the header of a locked package. Raises: MissingError; IntegrityError."""
    what = f"package {package.nevra}"
    blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
    return Tags.of_blob(read_header(store.checked(blob, what), what).signed[_MAGIC_BYTES:])


def installed_in(layer_files: Sequence[Path]) -> tuple[list[Tags], str]:
    """Return the headers of what is installed in an image, and why they are not known where they are not."""
    with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
        kept: dict[str, Path] = {}
        try:
            for number, file in enumerate(layer_files):
                _take_databases(file, Path(scratch, str(number)), kept)
        except layers.ArchiveError as exc:
            return [], f"a layer cannot be read: {exc}"
        databases = [path for name, path in sorted(kept.items()) if rpmdb.PATHS.fullmatch(name)]
        if not databases:
            return [], "it has no database of rpm that can be read"
        try:
            return [tags for database in databases for tags in rpmdb.read_headers(database)], ""
        except rpmdb.DatabaseError as exc:
            return [], f"its database of rpm cannot be read: {exc}"


def _take_databases(file: Path, directory: Path, kept: dict[str, Path]) -> None:
    """Write the databases of one layer into a directory, and forget those below that it hides or replaces."""
    found: dict[str, Path] = {}
    hidden: list[str] = []
    for archive, member in layers.members(file):
        path = layers.plain_path(member.name)
        whiteout = layers.hidden_path(path)
        if whiteout is not None:
            hidden.append(whiteout)
        elif not member.isdir():
            hidden.append(path)
        stream = archive.extractfile(member) if member.isreg() else None
        is_database = rpmdb.PATHS.fullmatch(path.removesuffix(rpmdb.LOG_SUFFIX))
        if stream is not None and is_database and 0 < member.size <= _LARGEST_BYTES:
            found[path] = directory / path
            found[path].parent.mkdir(parents=True, exist_ok=True)
            with found[path].open("wb") as target:
                while piece := stream.read(1 << 20):
                    target.write(piece)
    for path in [path for path in kept if layers.is_hidden(path, frozenset(hidden))]:
        del kept[path]
    kept.update(found)
