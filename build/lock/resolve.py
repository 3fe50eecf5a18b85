# SPDX-License-Identifier: Apache-2.0
"""Make the lock: the only resolver, and the only part that asks "what is there now?".

    profile, inventory --+-> keys -> metadata -> libsolv ------> packages --+
                         +-> registries: tag to digests -------> images ----+-> caisson.lock
                         +-> manifests, Python packages -------> digests ---+

Only metadata is fetched: repomd.xml and what it names, the headers of packages (they are signed), manifests
and configurations of images, the upstream YAML files (they are small, and are their own metadata) and the
vendored Python packages.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from build.base import ui
from build.base.document import shown_path
from build.base.errors import IntegrityError, MovedError, SignatureError
from build.base.files import write_if_changed
from build.inventory.inventory import inventory_digest
from build.inventory.model import (
    Baseline,
    ComposedImage,
    Digest,
    Inventory,
    Lock,
    LockedBaseline,
    LockedComposed,
    LockedExtra,
    LockedKey,
    LockedManifest,
    LockedPackage,
    Profile,
    WantedImage,
    WantedManifest,
)
from build.inventory.policy import check_policy
from build.inventory.sources import Sources
from build.lock.images import ObjectCache, PinnedImage, pin_image
from build.lock.lockfile import dump_lock, read_lock
from build.lock.solver import RepositoryFiles, Universe, composed_closure
from build.upstream.http import HttpClient, first_mirror
from build.upstream.locations import file_url
from build.upstream.openpgp import SignedTable, TrustedKeys, expiry_warnings, read_keys, verify_header
from build.upstream.pythonfiles import lock_python
from build.upstream.registry import RegistryClient
from build.upstream.repodata import Metadata, MetadataCache, parse_comps
from build.upstream.rpmheader import fetch_header

_WORKERS = 8

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockCache:
    """What the lock keeps between runs, below the cache directory. Safe to remove at any time."""

    metadata_dir: Path
    objects_dir: Path
    python_dir: Path
    headers_file: Path

    @classmethod
    def below(cls, cache_dir: Path) -> LockCache:
        """Return the places below a cache directory."""
        return cls(
            metadata_dir=cache_dir / "metadata",
            objects_dir=cache_dir / "objects",
            python_dir=cache_dir / "python",
            headers_file=cache_dir / "headers",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Packages:
    """The outcome of the solver."""

    packages: tuple[LockedPackage, ...]
    baselines: tuple[LockedBaseline, ...]
    newest_build_time: int


def run_lock(
    profile_file: Path, lock_file: Path | None, cache_dir: Path, *, sources: Sources | None = None
) -> None:
    """Resolve an inventory as a profile sees it, and write the lock.

    ``lock_file`` is the profile's own where it is None. A lock that would not change is left untouched.

    Raises: InventoryError, ProfileError, KeyFileError, SignatureError, SolverError, PolicyError,
    NetworkError and its kinds, IntegrityError, CommandError.
    """
    started = time.monotonic()
    profile, inventory = (sources or Sources()).read(profile_file)
    lock = make_lock(inventory, profile, LockCache.below(cache_dir))
    target = lock_file or profile.lock_file
    is_first = not target.exists()
    has_changed = write_if_changed(target, dump_lock(lock))
    ui.note(
        f"lock: {len(lock.packages)} packages, {len(lock.images)} images, "
        f"{ui.bytes_text(sum(blob.size_bytes for blob in lock.blobs()))}; "
        f"{shown_path(target)} {'written' if has_changed else 'unchanged'} "
        f"in {time.monotonic() - started:.1f} s"
    )
    if is_first and not profile.is_lab:
        ui.note(f"lock: {shown_path(target)} is the first one: review it and commit it")


def run_check(
    profile_file: Path, lock_file: Path | None, cache_dir: Path, *, sources: Sources | None = None
) -> None:
    """Say whether upstream has something else by now than the lock names; nothing is written.

    Raises: MovedError with what has moved; LockError; what :func:`run_lock` raises.
    """
    profile, inventory = (sources or Sources()).read(profile_file)
    file = lock_file or profile.lock_file
    lock = read_lock(file)
    moved = moves(lock, make_lock(inventory, profile, LockCache.below(cache_dir)))
    if moved:
        raise MovedError(
            f"{len(moved)} thing{'s' if len(moved) > 1 else ''} of upstream moved since "
            f"'{shown_path(file)}' was made",
            details="\n".join(moved),
            resolution="run 'doit lock' to take it in, or go on building from the lock as it is",
        )
    ui.note(f"lock: {shown_path(file)} is what upstream has now")


def moves(old: Lock, new: Lock) -> tuple[str, ...]:
    """Return what differs between two locks, one line for each thing, sorted."""
    lines = []
    before, after = _things(old), _things(new)
    for name in sorted({*before, *after}):
        if name not in after:
            lines.append(f"{name}: gone ({before[name]})")
        elif name not in before:
            lines.append(f"{name}: new ({after[name]})")
        elif before[name] != after[name]:
            lines.append(f"{name}: {before[name]} -> {after[name]}")
    if not lines and dump_lock(old) != dump_lock(new):
        lines.append("the reasons, sizes or dates of what is locked")
    return tuple(lines)


def _things(lock: Lock) -> dict[str, str]:
    """Return everything that a lock names, with what is locked of it."""
    builds: dict[str, list[str]] = {}
    for package in lock.packages:
        builds.setdefault(f"package {package.name}", []).append(f"{package.nevra} {package.digest}")
    things = {name: ", ".join(sorted(found)) for name, found in builds.items()}
    things |= {f"image {item.reference}": str(item.digest) for item in lock.images}
    things |= {f"manifest {item.id}": str(item.digest) for item in lock.manifests}
    things |= {f"Python package {item.name}": f"{item.version} {item.digest}" for item in lock.python}
    things |= {f"key {item.fingerprint} of {item.repository}": str(item.digest) for item in lock.keys}
    things |= {f"baseline {item.id}": str(item.digest) for item in lock.baselines}
    things |= {f"product {item.name}": item.version for item in lock.extras}
    return things | {"inventory": str(lock.inventory_digest)}


def make_lock(inventory: Inventory, profile: Profile, cache: LockCache) -> Lock:
    """Resolve an inventory. Raises: see :func:`run_lock`."""
    http = HttpClient(connect_timeout_s=profile.connect_timeout_s)
    metadata_cache = MetadataCache(cache.metadata_dir, http)
    trusted = _read_all_keys(inventory, profile)
    solved = _solve(inventory, profile, trusted, metadata_cache)
    repositories = {package.repository for package in solved.packages}
    _check_headers(solved.packages, profile, trusted, http, cache)
    check_policy(solved.packages, [profile.repositories[name] for name in sorted(repositories)], inventory)
    pinned = _pin_images(inventory.images, profile, http, ObjectCache(cache.objects_dir))
    manifests = tuple(_lock_manifest(item, profile, metadata_cache) for item in inventory.manifests)
    python = tuple(lock_python(item, cache.python_dir) for item in inventory.python)
    return Lock(
        profile_name=profile.name,
        is_lab=profile.is_lab,
        inventory_digest=inventory_digest(inventory, profile),
        source_date_epoch=max([solved.newest_build_time, *(item.created for item in pinned)]),
        versions=inventory.versions,
        baselines=_by(solved.baselines, lambda item: item.id),
        packages=solved.packages,
        images=_by([item.image for item in pinned], lambda item: item.id),
        composed=_by(
            [_lock_composed(item, solved.packages) for item in inventory.composed], lambda item: item.id
        ),
        manifests=_by(manifests, lambda item: item.id),
        python=_by(python, lambda item: item.name),
        keys=lock_keys(profile, repositories),
        extras=_by(
            [LockedExtra(name=item.name, version=item.version) for item in inventory.extras],
            lambda item: item.name,
        ),
    )


def _read_all_keys(inventory: Inventory, profile: Profile) -> Mapping[str, TrustedKeys]:
    """Read the keys of the repositories that the inventory uses; warn of those that end soon."""
    used = {name for package in inventory.packages for name in package.repositories}
    used |= {name for baseline in inventory.baselines for name in baseline.repositories}
    now_s = time.time()
    warnings: dict[str, None] = {}
    trusted = {}
    for name in sorted(used):
        trusted[name] = read_keys(profile.repositories[name])
        warnings.update(dict.fromkeys(expiry_warnings(trusted[name], now_s)))
    for text in warnings:
        ui.warn(text)
    return trusted


def _check_headers(
    packages: Sequence[LockedPackage],
    profile: Profile,
    trusted: Mapping[str, TrustedKeys],
    http: HttpClient,
    cache: LockCache,
) -> None:
    """Check the beginning of every package, once: what is in a repository without its key is refused here.

    Raises: SignatureError or IntegrityError of the first package; the rest of them in its details.
    """
    checked = SignedTable(cache.headers_file)

    def check(package: LockedPackage) -> SignatureError | IntegrityError | None:
        keys = trusted[package.repository]
        if checked.has(package.digest, keys):
            return None
        what = f"package {package.nevra}"
        urls = [file_url(url, package.location) for url in profile.repositories[package.repository].base_urls]
        try:
            header = first_mirror(
                urls,
                lambda url: fetch_header(lambda size_bytes: http.beginning(url, size_bytes, what=what), what),
            )
            verify_header(keys, header, package.nevra, what)
        except (SignatureError, IntegrityError) as exc:
            return exc
        checked.add(package.digest, keys)
        return None

    faults = [exc for exc in in_threads(check, packages) if exc is not None]
    if faults:
        others = "".join(f"\nand: {exc.message}" for exc in faults[1:])
        raise type(faults[0])(
            faults[0].message, details=faults[0].details + others, resolution=faults[0].resolution
        )


def _solve(
    inventory: Inventory, profile: Profile, trusted: Mapping[str, TrustedKeys], cache: MetadataCache
) -> _Packages:
    all_metadata = in_threads(
        lambda name: cache.load(profile.repositories[name], trusted[name]), sorted(trusted)
    )
    metadata = {item.repository.id: item for item in all_metadata}
    universe = Universe(in_threads(lambda item: _repository_files(item, cache), all_metadata))
    bases = {name for baseline in inventory.baselines for name in baseline.repositories}
    baselines = []
    packages: dict[str, LockedPackage] = {}
    for baseline in inventory.baselines:
        installed = _installed(baseline, universe, metadata, cache)
        closed = universe.close(inventory.packages, installed, baseline, bases)
        for package in closed:
            packages[package.nevra] = merged(packages.get(package.nevra), package)
        baselines.append(
            LockedBaseline(
                id=baseline.id,
                release=baseline.release,
                repositories=baseline.repositories,
                group=baseline.group,
                package_count=len(installed),
                digest=Digest.of_bytes("\n".join(universe.nevras(installed)).encode()),
                provides=universe.given_by(installed, closed),
            )
        )
    ordered = tuple(packages[nevra] for nevra in sorted(packages))
    newest = max((universe.build_time(package) for package in ordered), default=0)
    return _Packages(packages=ordered, baselines=tuple(baselines), newest_build_time=newest)


def _installed(
    baseline: Baseline, universe: Universe, metadata: Mapping[str, Metadata], cache: MetadataCache
) -> list[int]:
    """Return the ids of what a host of the baseline has."""
    if baseline.group:
        group = _baseline_group(baseline, [metadata[name] for name in baseline.repositories], cache)
        return universe.baseline(baseline, group)
    installed, unknown = universe.listed(baseline)
    if unknown:
        ui.warn(
            f"baseline '{baseline.id}': {len(unknown)} of {len(baseline.packages)} installed packages are in "
            f"none of its repositories and count as absent: {', '.join(unknown)}"
        )
    return installed


def merged(one: LockedPackage | None, other: LockedPackage) -> LockedPackage:
    """Return a package that several baselines need, with the reasons of all."""
    if one is None:
        return other
    return dataclasses.replace(
        one,
        required_by=tuple(sorted({*one.required_by, *other.required_by})),
        baselines=tuple(sorted({*one.baselines, *other.baselines})),
        requested=one.requested or other.requested,
    )


def _repository_files(metadata: Metadata, cache: MetadataCache) -> RepositoryFiles:
    """Return the files of a repository for the solver; fetched unless libsolv's own form is there."""
    solv_file = cache.solv_file(metadata)
    if solv_file.is_file():
        return RepositoryFiles(id=metadata.repository.id, primary=None, filelists=None, solv_file=solv_file)
    filelists = metadata.files.get("filelists")
    return RepositoryFiles(
        id=metadata.repository.id,
        primary=cache.plain_file(metadata.repository, metadata.files["primary"]),
        filelists=None if filelists is None else cache.plain_file(metadata.repository, filelists),
        solv_file=solv_file,
    )


def _baseline_group(
    baseline: Baseline, repositories: Sequence[Metadata], cache: MetadataCache
) -> tuple[str, ...]:
    """Return the packages of a group: of the first repository of the baseline that has groups."""
    for metadata in repositories:
        if metadata.comps is not None:
            what = f"the groups of repository '{metadata.repository.id}'"
            text = cache.plain_file(metadata.repository, metadata.comps).read_bytes()
            return parse_comps(text, baseline.group, what)
    names = ", ".join(f"'{name}'" for name in baseline.repositories)
    return parse_comps(b"<comps/>", baseline.group, f"the groups of repository {names}")


def _pin_images(
    images: Sequence[WantedImage], profile: Profile, http: HttpClient, cache: ObjectCache
) -> list[PinnedImage]:
    clients = {host: RegistryClient(registry, http) for host, registry in profile.registries.items()}
    return in_threads(lambda image: pin_image(image, clients[image.reference.registry], cache), images)


def _lock_composed(composed: ComposedImage, packages: Sequence[LockedPackage]) -> LockedComposed:
    return LockedComposed(
        id=composed.id,
        reference=composed.reference,
        base=composed.base,
        packages=composed_closure(composed.packages, packages),
    )


def _lock_manifest(wanted: WantedManifest, profile: Profile, cache: MetadataCache) -> LockedManifest:
    file = cache.fetch_again(profile.manifest_url(wanted.url), f"manifest '{wanted.id}'")
    return LockedManifest(
        id=wanted.id,
        url=wanted.url,
        path=wanted.path,
        digest=Digest.of_file(file),
        size_bytes=file.stat().st_size,
    )


def lock_keys(profile: Profile, repositories: Iterable[str]) -> tuple[LockedKey, ...]:
    """Return the keys of repositories that packages come from, in the order of the lock."""
    keys = [
        LockedKey(
            repository=name,
            fingerprint=pinned.fingerprint,
            digest=Digest.of_file(pinned.file),
            size_bytes=pinned.file.stat().st_size,
        )
        for name in repositories
        for pinned in profile.repositories[name].keys
    ]
    return tuple(sorted(keys, key=lambda key: (key.repository, key.fingerprint)))


def in_threads(work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """Call for every item at once, in a bounded number of threads; the first error ends it."""
    pool = ThreadPoolExecutor(max_workers=_WORKERS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _by(items: Iterable[_In], key: Callable[[_In], str]) -> tuple[_In, ...]:
    return tuple(sorted(items, key=key))
