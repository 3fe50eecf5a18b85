# SPDX-License-Identifier: Apache-2.0
"""Make the yum repository of the ISO: its packages are files of the store, only its metadata is written.

    locked packages (store) -> rpms -> repo/el9/repodata/, table of repo/el9/Packages/*.rpm and keys/*.asc

The metadata depends on the packages and the lock's date alone: a package's file time is its build time.
``RepositoryWriter`` would stamp the times of its files, so the documents are written one by one.
Source: createrepo_c 1.2.5, examples/python and src/repomd.c.
"""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from build.base import ui
from build.base.errors import BuildError, IntegrityError, joined_faults
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.inventory.model import Blob, Digest, Lock, LockedKey, LockedPackage
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store, remove_damaged

REPOSITORY_DIR = "repo/el9"
_CHANGELOG_ENTRIES = 10


def part_file(workspace: Workspace) -> Path:
    """Return the table of the repository."""
    return workspace.part_file("rpms")


def plan_rpms(lock: Lock, store: Store, workspace: Workspace) -> Step:
    """Plan the repository of all locked packages and the keys that they are signed with."""
    part = part_file(workspace)
    directory = workspace.tree_dir / REPOSITORY_DIR / "repodata"
    size_bytes = sum(package.size_bytes for package in lock.packages)
    items: tuple[LockedPackage | LockedKey, ...] = (*lock.packages, *lock.keys)
    return Step(
        name="",
        doc=f"repository metadata of {len(lock.packages)} packages ({size_bytes / 1e6:.1f} MB)",
        run=functools.partial(
            run_rpms, lock.packages, lock.keys, lock.source_date_epoch, store, directory, part
        ),
        inputs=tuple(dict.fromkeys(store.path(item.digest) for item in items)),
        outputs=(directory, part),
        config={
            "packages": [[package.nevra, package.digest.hex] for package in lock.packages],
            "keys": [[key.repository, key.fingerprint, key.digest.hex] for key in lock.keys],
            "source_date_epoch": lock.source_date_epoch,
            "createrepo_c": importlib.metadata.version("createrepo_c"),
        },
    )


def key_paths(keys: Sequence[LockedKey]) -> Mapping[LockedKey, str]:
    """Return where each key lies on the ISO: ``keys/<repository>.asc``.

    Where a repository has several keys, each file's name ends in the last 16 digits of its fingerprint.
    """
    counts = {key.repository: sum(other.repository == key.repository for other in keys) for key in keys}
    return {
        key: f"keys/{key.repository}.asc"
        if counts[key.repository] == 1
        else f"keys/{key.repository}-{key.fingerprint[-16:].lower()}.asc"
        for key in keys
    }


def run_rpms(
    packages: Sequence[LockedPackage],
    keys: Sequence[LockedKey],
    source_date_epoch: int,
    store: Store,
    directory: Path,
    part: Path,
) -> None:
    """Write the repository's metadata and its table.

    Raises: MissingError; IntegrityError when a package's header names another package than the lock;
    BuildError when two packages would have one file name.
    """
    sources = [
        store.require(Blob(digest=package.digest, size_bytes=package.size_bytes), f"package {package.nevra}")
        for package in packages
    ]
    _check_names(packages)
    fresh = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _write_metadata(packages, sources, source_date_epoch, fresh)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    filelist.write_part(
        part,
        [
            *_package_entries(packages, sources),
            *_key_entries(keys, store),
            *(
                filelist.describe_file(
                    f"{REPOSITORY_DIR}/repodata/{file.name}", file, owners=("repository metadata",)
                )
                for file in sorted(directory.iterdir())
            ),
        ],
    )


def package_path(package: LockedPackage) -> str:
    """Return where a package lies on the ISO."""
    return f"{REPOSITORY_DIR}/Packages/{package.file_name}"


def _package_entries(packages: Sequence[LockedPackage], sources: Sequence[Path]) -> Iterator[Entry]:
    for package, source in zip(packages, sources, strict=True):
        yield Entry(
            path=package_path(package),
            source=source,
            size_bytes=package.size_bytes,
            digest=package.digest,
            owners=(f"package {package.nevra}",),
        )


def _key_entries(keys: Sequence[LockedKey], store: Store) -> Iterator[Entry]:
    for key, path in key_paths(keys).items():
        blob = Blob(digest=key.digest, size_bytes=key.size_bytes)
        yield Entry(
            path=path,
            source=store.require(blob, f"key of repository {key.repository}"),
            size_bytes=key.size_bytes,
            digest=key.digest,
            owners=(f"key of repository {key.repository}",),
        )


def _check_names(packages: Sequence[LockedPackage]) -> None:
    names: dict[str, str] = {}
    faults = [
        f"{package.file_name}: {names[package.file_name]} and {package.nevra}"
        for package in packages
        if names.setdefault(package.file_name, package.nevra) != package.nevra
    ]
    if faults:
        raise BuildError(
            "two packages would have the same file name",
            details=joined_faults(faults),
            resolution="lock only one of them; an epoch is not part of a file name",
        )


def _write_metadata(
    packages: Sequence[LockedPackage], sources: Sequence[Path], source_date_epoch: int, directory: Path
) -> None:
    import createrepo_c as cr  # noqa: PLC0415 - planning, and whoever only verifies, does without it

    kinds: dict[str, Any] = {
        "primary": cr.PrimaryXmlFile,
        "filelists": cr.FilelistsXmlFile,
        "other": cr.OtherXmlFile,
    }
    files = {kind: directory / f"{kind}.xml.gz" for kind in kinds}
    documents = {kind: make(str(files[kind]), cr.GZ_COMPRESSION) for kind, make in kinds.items()}
    for document in documents.values():
        document.set_num_of_pkgs(len(packages))
    said = time.monotonic()
    order = sorted(range(len(packages)), key=lambda index: packages[index].file_name)
    for count, index in enumerate(order):
        package = packages[index]
        record = _read_package(package, sources[index])
        _check_header(record, package)
        record.time_file = record.time_build
        for document in documents.values():
            document.add_pkg(record)
        if time.monotonic() - said > 2:
            said = time.monotonic()
            ui.note(f"repository metadata: {count + 1} of {len(packages)} packages")
    metadata = cr.Repomd()
    metadata.set_revision(str(source_date_epoch))
    for kind, document in documents.items():
        document.close()
        entry = cr.RepomdRecord(kind, str(files[kind]))
        entry.fill(cr.SHA256)
        entry.set_timestamp(source_date_epoch)
        entry.rename_file()
        metadata.set_record(entry)
    metadata.sort_records()
    write_atomically(directory / "repomd.xml", metadata.xml_dump().encode())


def _read_package(package: LockedPackage, source: Path) -> Any:
    """Read a package of the store by createrepo_c, which takes the digest of all its bytes by the way.

    Raises: IntegrityError when it is damaged.
    """
    import createrepo_c as cr  # noqa: PLC0415 - as above

    try:
        record = cr.package_from_rpm(
            str(source),
            location_href=f"Packages/{package.file_name}",
            changelog_limit=_CHANGELOG_ENTRIES,
        )
    except (cr.CreaterepoCError, OSError) as exc:
        if Digest.of_file(source) == package.digest:
            raise
        raise remove_damaged(source, f"package {package.nevra}") from exc
    if record.pkgId != package.digest.hex:
        raise remove_damaged(source, f"package {package.nevra}")
    return record


class _Header(Protocol):
    """What createrepo_c read from a package."""

    name: str
    epoch: str | None
    version: str
    release: str
    arch: str

    def nevra(self) -> str: ...


def _check_header(record: _Header, package: LockedPackage) -> None:
    said = (record.name, int(record.epoch or 0), record.version, record.release, record.arch)
    if said != (package.name, package.epoch, package.version, package.release, package.arch):
        raise IntegrityError(
            f"package {package.nevra} says in its header that it is {record.nevra()}",
            details=f"{package.digest}; from repository {package.repository}, {package.location}",
            resolution="its repository's metadata is wrong: report it there, and do not use the package",
        )
