# SPDX-License-Identifier: Apache-2.0
"""Make the lock: the only resolver, and the only part that asks "what is there now?".

    profile, inventory --+-> keys -> metadata -> libsolv ------> packages --+
                         +-> registries: tag to digests -------> images ----+-> caisson.lock
                         +-> manifests, Python packages -------> digests ---+

Only metadata is fetched: repomd.xml and what it names, manifests and configurations of images, the upstream
YAML files (they are small, and are their own metadata) and the vendored Python packages.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from build import ui
from build.document import shown_path
from build.http import HttpClient
from build.imagelock import ObjectCache, PinnedImage, pin_image
from build.inventory import inventory_digest, read_inventory
from build.lockfile import dump_lock
from build.model import (
    Baseline,
    ComposedImage,
    Digest,
    Inventory,
    Lock,
    LockedBaseline,
    LockedComposed,
    LockedKey,
    LockedManifest,
    LockedPackage,
    Profile,
    WantedImage,
    WantedManifest,
)
from build.openpgp import TrustedKeys, expiry_warnings, read_keys
from build.profile import read_profile
from build.pythonfiles import lock_python
from build.registry import RegistryClient
from build.repodata import Metadata, MetadataCache, parse_comps
from build.solver import RepositoryFiles, Universe, composed_closure

_WORKERS = 8

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockCache:
    """What the lock keeps between runs, below the cache directory. Safe to remove at any time."""

    metadata_dir: Path
    objects_dir: Path
    python_dir: Path

    @classmethod
    def below(cls, cache_dir: Path) -> LockCache:
        """Return the places below a cache directory."""
        return cls(
            metadata_dir=cache_dir / "metadata",
            objects_dir=cache_dir / "objects",
            python_dir=cache_dir / "python",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Packages:
    """The outcome of the solver."""

    packages: tuple[LockedPackage, ...]
    baselines: tuple[LockedBaseline, ...]
    newest_build_time: int


def run_lock(profile_file: Path, lock_file: Path | None, cache_dir: Path, *, root_dir: Path = Path()) -> None:
    """Resolve the inventory below ``root_dir`` as a profile sees it, and write the lock.

    ``lock_file`` is the profile's own where it is None. A lock that would not change is left untouched.

    Raises: InventoryError, ProfileError, KeyFileError, SignatureError, SolverError, NetworkError and its
    kinds, IntegrityError, CommandError.
    """
    started = time.monotonic()
    profile = read_profile(profile_file)
    inventory = read_inventory(root_dir, profile)
    lock = make_lock(inventory, profile, LockCache.below(cache_dir))
    target = lock_file or profile.lock_file
    has_changed = write_if_changed(target, dump_lock(lock))
    ui.note(
        f"lock: {len(lock.packages)} packages, {len(lock.images)} images, "
        f"{ui.bytes_text(sum(blob.size_bytes for blob in lock.blobs()))}; "
        f"{shown_path(target)} {'written' if has_changed else 'unchanged'} "
        f"in {time.monotonic() - started:.1f} s"
    )


def make_lock(inventory: Inventory, profile: Profile, cache: LockCache) -> Lock:
    """Resolve an inventory. Raises: see :func:`run_lock`."""
    http = HttpClient()
    metadata_cache = MetadataCache(cache.metadata_dir, http)
    trusted = _read_all_keys(inventory, profile)
    solved = _solve(inventory, profile, trusted, metadata_cache)
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
        keys=lock_keys(profile, {package.repository for package in solved.packages}),
    )


def _read_all_keys(inventory: Inventory, profile: Profile) -> Mapping[str, TrustedKeys]:
    """Read the keys of the repositories that the inventory uses; warn of those that end soon."""
    used = {name for package in inventory.packages for name in package.repositories}
    used |= {baseline.repository for baseline in inventory.baselines}
    now_s = time.time()
    warnings: dict[str, None] = {}
    trusted = {}
    for name in sorted(used):
        trusted[name] = read_keys(profile.repositories[name])
        warnings.update(dict.fromkeys(expiry_warnings(trusted[name], now_s)))
    for text in warnings:
        ui.warn(text)
    return trusted


def _solve(
    inventory: Inventory, profile: Profile, trusted: Mapping[str, TrustedKeys], cache: MetadataCache
) -> _Packages:
    all_metadata = in_threads(
        lambda name: cache.load(profile.repositories[name], trusted[name]), sorted(trusted)
    )
    metadata = {item.repository.id: item for item in all_metadata}
    universe = Universe(in_threads(lambda item: _repository_files(item, cache), all_metadata))
    baselines = []
    packages: dict[str, LockedPackage] = {}
    for baseline in inventory.baselines:
        group = _baseline_group(baseline, metadata[baseline.repository], cache)
        installed = universe.baseline(baseline, group)
        for package in universe.close(inventory.packages, installed):
            packages[package.nevra] = merged(packages.get(package.nevra), package)
        baselines.append(
            LockedBaseline(
                id=baseline.id,
                repository=baseline.repository,
                group=baseline.group,
                package_count=len(installed),
            )
        )
    ordered = tuple(packages[nevra] for nevra in sorted(packages))
    newest = max((universe.build_time(package) for package in ordered), default=0)
    return _Packages(packages=ordered, baselines=tuple(baselines), newest_build_time=newest)


def merged(one: LockedPackage | None, other: LockedPackage) -> LockedPackage:
    """Return a package that several baselines need, with the reasons of all."""
    if one is None:
        return other
    reasons = tuple(sorted({*one.required_by, *other.required_by}))
    return dataclasses.replace(other, required_by=reasons, requested=one.requested or other.requested)


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


def _baseline_group(baseline: Baseline, metadata: Metadata, cache: MetadataCache) -> tuple[str, ...]:
    what = f"the groups of repository '{baseline.repository}'"
    text = b"<comps/>"
    if metadata.comps is not None:
        text = cache.plain_file(metadata.repository, metadata.comps).read_bytes()
    return parse_comps(text, baseline.group, what)


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


def write_if_changed(file: Path, text: str) -> bool:
    """Write a file as a whole unless it has this text already; say whether it was written."""
    data = text.encode()
    if file.is_file() and file.read_bytes() == data:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_bytes(data)
    temporary.replace(file)
    return True


def _by(items: Iterable[_In], key: Callable[[_In], str]) -> tuple[_In, ...]:
    return tuple(sorted(items, key=key))
