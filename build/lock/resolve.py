# SPDX-License-Identifier: Apache-2.0
"""Make the lock: the only resolver, and the only part that asks "what is there now?".

    profile, inventory --+-> keys -> metadata -> libsolv ------> packages --+
                         +-> registries: tag to digests -------> images ----+-> caisson.lock
                         +-> manifests, Python packages -------> digests ---+

Only metadata is fetched: repomd.xml and what it names, the headers of packages (they are signed), manifests
and configurations of images, the upstream YAML files (they are small, and are their own metadata) and the
vendored Python packages; and packages of which metadata does not give the SHA-256. The branches run together,
and their faults are told at once.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from build.base import ui
from build.base.document import shown_path
from build.base.errors import MovedError, ProfileError
from build.base.files import write_if_changed
from build.base.manifest import read_manifest
from build.inventory.inventory import inventory_digest, packages_digest
from build.inventory.model import (
    ComposedImage,
    Digest,
    Inventory,
    Lock,
    LockedComposed,
    LockedExtra,
    LockedManifest,
    LockedPackage,
    Profile,
    WantedImage,
    WantedManifest,
)
from build.inventory.profile import is_trusted_connection
from build.inventory.sources import Sources
from build.lock.dependencies import composed_closure
from build.lock.faults import Faults
from build.lock.images import ObjectCache, PinnedImage, pin_image
from build.lock.keys import lock_keys
from build.lock.lockfile import dump_lock, read_lock
from build.lock.packages import LockCache, Solved, lock_packages
from build.lock.partial import Kept
from build.upstream.http import HttpClient
from build.upstream.pythonfiles import lock_python
from build.upstream.registry import RegistryClient
from build.upstream.repodata import MetadataCache

_WORKERS = 8

_In = TypeVar("_In")


def run_lock(
    profile_file: Path,
    lock_file: Path | None,
    cache_dir: Path,
    *,
    sources: Sources | None = None,
    name: str = "",
) -> None:
    """Resolve an inventory as a profile sees it, and write the lock.

    ``lock_file`` is the profile's own where it is None. A lock that would not change is left untouched. With a
    ``name``, only what is called so is renewed, and the rest of the lock stays.

    Raises: InventoryError, ProfileError, KeyFileError, SignatureError, SolverError, PolicyError,
    NetworkError and its kinds, IntegrityError, CommandError.
    """
    started = time.monotonic()
    profile, inventory = (sources or Sources()).read(profile_file)
    target = lock_file or profile.lock_file
    kept = Kept.but(name, read_lock(target), inventory) if name else None
    lock = make_lock(inventory, profile, LockCache.below(cache_dir), kept)
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
            resolution="run './doit.sh lock' to take it in, or go on building from the lock as it is",
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


def _unsigned_addresses(profile: Profile) -> dict[str, str]:
    """Return the addresses whose answers no signature vouches for, each with what is asked there."""
    found = {
        endpoint.url: f"registry {host}"
        for host, registry in profile.registries.items()
        for endpoint in registry.endpoints
    }
    found |= {url: f"the manifests of {prefix}" for prefix, url in profile.manifests.items()}
    return found | dict.fromkeys(profile.python_indexes, "the Python package index")


def _refuse_plain(asked: tuple[str, str]) -> None:
    """Refuse an address without TLS. Raises: ProfileError."""
    url, what = asked
    if not is_trusted_connection(url):
        raise ProfileError(
            f"{what} would be asked without TLS, and nothing signs what it answers",
            details=f"{url}: whoever is on the way could choose what is locked",
            resolution="give it an https:// address; or make the lock against upstream, and use this profile, with "
            "the name of upstream's, for the fetch alone: a fetch checks digests",
        )


def make_lock(inventory: Inventory, profile: Profile, cache: LockCache, kept: Kept | None = None) -> Lock:
    """Resolve an inventory, its branches together; what is kept is not asked for.

    Raises: all faults that any of them met, as one error; see :func:`run_lock`.
    """
    http, faults = (
        HttpClient(
            connect_timeout_s=profile.connect_timeout_s, client_certificates=profile.client_certificates
        ),
        Faults(),
    )
    faults.each(_refuse_plain, sorted(_unsigned_addresses(profile).items()))
    faults.stop("the profile")  # before anything is asked there
    metadata_cache, objects = MetadataCache(cache.metadata_dir, http), ObjectCache(cache.objects_dir)
    clients = {host: RegistryClient(registry, http) for host, registry in profile.registries.items()}
    branches = ThreadPoolExecutor(max_workers=4)
    try:
        solving = branches.submit(
            _lock_packages, inventory, profile, http, metadata_cache, cache, faults, kept
        )
        pinning = branches.submit(
            faults.each,
            lambda image: (
                (kept and _kept_image(kept, image))
                or pin_image(image, clients[image.reference.registry], objects)
            ),
            inventory.images,
        )
        asking = branches.submit(
            faults.each,
            lambda item: (kept and kept.manifest(item)) or _lock_manifest(item, profile, metadata_cache),
            inventory.manifests,
        )
        finding = branches.submit(
            faults.each,
            lambda item: (
                (kept and kept.python(item))
                or lock_python(item, cache.python_dir, http, profile.python_indexes)
            ),
            inventory.python,
        )
        solved, pinned, manifests, python = (
            solving.result(), pinning.result(), asking.result(), finding.result()
        )  # fmt: skip
    finally:
        http.stop()
        branches.shutdown(cancel_futures=True)
    faults.stop("the lock")
    made = {f"image {item.image.reference}": item.created for item in pinned}
    return Lock(
        profile_name=profile.name,
        is_lab=profile.is_lab,
        inventory_digest=inventory_digest(inventory, profile),
        packages_digest=packages_digest(inventory, profile),
        source_date_epoch=kept.lock.source_date_epoch
        if kept
        else newest({**solved.build_times, **made}, int(time.time())),
        versions=inventory.versions,
        baselines=_by(solved.baselines, lambda item: item.id),
        packages=solved.packages,
        images=_by([item.image for item in pinned], lambda item: item.id),
        composed=_by(
            [_lock_composed(item, solved.packages) for item in inventory.composed], lambda item: item.id
        ),
        manifests=_by(manifests, lambda item: item.id),
        python=_by(python, lambda item: item.name),
        keys=kept.lock.keys
        if kept and kept.has_packages_of(inventory, profile)
        else lock_keys(profile, {package.repository for package in solved.packages}),
        extras=_by(
            [LockedExtra(name=item.name, version=item.version) for item in inventory.extras],
            lambda item: item.name,
        ),
    )


def _lock_packages(
    inventory: Inventory,
    profile: Profile,
    http: HttpClient,
    metadata_cache: MetadataCache,
    cache: LockCache,
    faults: Faults,
    kept: Kept | None,
) -> Solved:
    """Return the packages: those that are locked, where all of them are kept, else solved ones."""
    if kept and kept.has_packages_of(inventory, profile):
        return Solved(packages=kept.lock.packages, baselines=kept.lock.baselines)
    favoured = kept.favoured if kept else ()
    return lock_packages(inventory, profile, http, metadata_cache, cache, faults, favoured)


def _kept_image(kept: Kept, wanted: WantedImage) -> PinnedImage | None:
    locked = kept.image(wanted)
    return None if locked is None else PinnedImage(image=locked, created=0)


def newest(made: Mapping[str, int], now_s: int) -> int:
    """Return the newest of the times (Unix) at which things were made, as the date of the bundle.

    One in the future says nothing of when: it is left out, and named in a warning, so that the date stays the
    same from lock to lock. Only when all of them are is it the time of the lock.
    """
    future = {what: time_s for what, time_s in made.items() if time_s > now_s}
    for what in sorted(future):
        ui.warn(
            f"{what} says that it was made in the future, on {_day(future[what])}: the bundle is not dated by it"
        )
    past = [time_s for what, time_s in made.items() if what not in future]
    return max(past, default=0) or (now_s if future else 0)


def _day(time_s: int) -> str:
    """Return the day of a Unix time, up to the last year that the calendar has.

    >>> _day(1767323045), _day(1 << 63)
    ('2026-01-02', 'a day after the year 9999')
    """
    try:
        return dt.datetime.fromtimestamp(time_s, tz=dt.UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "a day after the year 9999"


def _lock_composed(composed: ComposedImage, packages: Sequence[LockedPackage]) -> LockedComposed:
    return LockedComposed(
        id=composed.id,
        reference=composed.reference,
        base=composed.base,
        packages=composed_closure(composed.packages, packages),
    )


def _lock_manifest(wanted: WantedManifest, profile: Profile, cache: MetadataCache) -> LockedManifest:
    address = profile.manifest_url(wanted.url)
    file = cache.fetch_again(address, f"manifest '{wanted.id}'")
    read_manifest(file.read_bytes(), wanted.id, address)
    return LockedManifest(
        id=wanted.id,
        url=wanted.url,
        path=wanted.path,
        digest=Digest.of_file(file),
        size_bytes=file.stat().st_size,
    )


def _by(items: Iterable[_In], key: Callable[[_In], str]) -> tuple[_In, ...]:
    return tuple(sorted(items, key=key))
