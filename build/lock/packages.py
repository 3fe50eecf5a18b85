# SPDX-License-Identifier: Apache-2.0
"""Lock the packages: what each repository has, what each baseline lacks of it, and who vouches for that.

    keys --> metadata --> libsolv, once for each baseline --> packages --> headers, sums, policy

What fails is collected: a repository that cannot be read stops the solving, and nothing else.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from build.base import ui
from build.inventory.model import (
    Baseline,
    Digest,
    Inventory,
    LockedBaseline,
    LockedPackage,
    Profile,
    WantedPackage,
)
from build.inventory.policy import check_policy
from build.lock.baselines import Installed
from build.lock.faults import Faults, in_threads
from build.lock.modules import read_modules, stream_filter
from build.lock.solver import Solution, Universe
from build.lock.solvfiles import RepositoryFiles, UnreadableSolvError
from build.lock.sums import SumTable, proved
from build.upstream.http import HttpClient, first_mirror
from build.upstream.locations import file_url
from build.upstream.openpgp import TrustedKeys, key_warnings, read_keys
from build.upstream.repodata import Metadata, MetadataCache, parse_comps
from build.upstream.rpmheader import fetch_header
from build.upstream.signedrpm import SignedTable, verify_header


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockCache:
    """What the lock keeps between runs, below the cache directory. Safe to remove at any time."""

    metadata_dir: Path
    objects_dir: Path
    python_dir: Path
    headers_file: Path
    sums_file: Path

    @classmethod
    def below(cls, cache_dir: Path) -> LockCache:
        """Return the places below a cache directory."""
        return cls(
            metadata_dir=cache_dir / "metadata",
            objects_dir=cache_dir / "objects",
            python_dir=cache_dir / "python",
            headers_file=cache_dir / "headers",
            sums_file=cache_dir / "sums",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solved:
    """The outcome of the solver. ``build_times`` are Unix times by what was built."""

    packages: tuple[LockedPackage, ...] = ()
    baselines: tuple[LockedBaseline, ...] = ()
    build_times: Mapping[str, int] = dataclasses.field(default_factory=dict)


def lock_packages(
    inventory: Inventory,
    profile: Profile,
    http: HttpClient,
    metadata_cache: MetadataCache,
    cache: LockCache,
    faults: Faults,
    favoured: Sequence[LockedPackage] = (),
) -> Solved:
    """Solve the wanted packages, and check what was found; what is wrong goes to the faults.

    Builds of ``favoured`` are taken rather than newer ones, where they still fit.
    """
    trusted = read_trusted(profile, used_repositories(inventory), faults)
    metadata = load_metadata(inventory, profile, trusted, metadata_cache, faults)
    universe = faults.attempt(lambda: make_universe(metadata, inventory, metadata_cache))
    if universe is None:
        return Solved()
    wanted = [package for package in inventory.packages if metadata.keys() >= {*package.repositories}]
    absent = list(universe.absent(wanted))
    faults.add(*absent)
    if metadata.keys() != used_repositories(inventory):
        return Solved()  # what else is amiss may only be so because a repository is
    there = [package for package in wanted if not list(universe.absent([package]))]
    solved = _solve(inventory, there, universe, metadata, metadata_cache, faults, favoured)
    solved = _with_sums(solved, universe, profile, trusted, http, cache, faults)
    _check_headers(solved.packages, profile, trusted, http, cache, faults)
    repositories = sorted({package.repository for package in solved.packages})
    faults.attempt(
        lambda: check_policy(
            solved.packages, [profile.repositories[name] for name in repositories], inventory
        )
    )
    return solved


def used_repositories(inventory: Inventory) -> set[str]:
    """Return the ids of the repositories that an inventory uses."""
    used = {name for package in inventory.packages for name in package.repositories}
    return used | {*base_repositories(inventory)}


def base_repositories(inventory: Inventory) -> tuple[str, ...]:
    """Return the ids of the repositories that hosts are installed from, in the order of the baselines."""
    return tuple(dict.fromkeys(name for baseline in inventory.baselines for name in baseline.repositories))


def read_trusted(profile: Profile, names: Iterable[str], faults: Faults) -> dict[str, TrustedKeys]:
    """Read the keys of repositories, by id; warn of those that end soon."""
    found = faults.each(lambda name: read_keys(profile.repositories[name]), sorted(names))
    now_s = time.time()
    for text in dict.fromkeys(text for keys in found for text in key_warnings(keys, now_s)):
        ui.warn(text)
    return {keys.repository: keys for keys in found}


def load_metadata(
    inventory: Inventory,
    profile: Profile,
    trusted: Mapping[str, TrustedKeys],
    cache: MetadataCache,
    faults: Faults,
) -> dict[str, Metadata]:
    """Fetch the metadata of the repositories whose keys are there, by id."""
    grouped = {baseline.repositories[0] for baseline in inventory.baselines if baseline.group}
    found = faults.each(
        lambda name: cache.load(profile.repositories[name], trusted[name], has_groups=name in grouped),
        sorted(trusted),
    )
    return {item.repository.id: item for item in found}


def make_universe(metadata: Mapping[str, Metadata], inventory: Inventory, cache: MetadataCache) -> Universe:
    """Load all packages, with module streams as the inventory asks for them.

    Raises: InventoryError, SolverError, IntegrityError, NetworkError.
    """
    modules = {
        name: cache.plain_file(item.repository, item.modules)
        for name, item in metadata.items()
        if item.modules is not None
    }
    wanted = [package for package in inventory.packages if metadata.keys() >= {*package.repositories}]
    streams = stream_filter(read_modules(modules), wanted)
    bases = base_repositories(inventory)
    places = {name: place for place, name in enumerate(bases)}
    # Of the same build in several repositories libsolv takes the one that was loaded first.
    ordered = sorted(metadata.values(), key=lambda item: places.get(item.repository.id, len(places)))
    spare = sum(len(baseline.packages) for baseline in inventory.baselines)
    while True:
        files = in_threads(lambda item: _repository_files(item, cache), ordered)
        try:
            return Universe(files, bases, streams, spare)
        except UnreadableSolvError as exc:  # of another libsolv, or of a power cut: read the metadata again
            exc.solv_file.unlink()


def _solve(
    inventory: Inventory,
    wanted: Sequence[WantedPackage],
    universe: Universe,
    metadata: Mapping[str, Metadata],
    cache: MetadataCache,
    faults: Faults,
    favoured: Sequence[LockedPackage],
) -> Solved:
    baselines = []
    packages: dict[str, LockedPackage] = {}
    for baseline in inventory.baselines:
        found = faults.attempt(lambda: _close(baseline, wanted, universe, metadata, cache, favoured))  # noqa: B023 - called at once
        if found is None:
            continue
        locked, closed = found
        baselines.append(locked)
        for package in closed.packages:
            packages[package.nevra] = merged(packages.get(package.nevra), package)
    ordered = tuple(packages[nevra] for nevra in sorted(packages))
    times = {f"package {package.nevra}": universe.build_time(package) for package in ordered}
    return Solved(packages=ordered, baselines=tuple(baselines), build_times=times)


def _close(
    baseline: Baseline,
    wanted: Sequence[WantedPackage],
    universe: Universe,
    metadata: Mapping[str, Metadata],
    cache: MetadataCache,
    favoured: Sequence[LockedPackage],
) -> tuple[LockedBaseline, Solution]:
    """Return a baseline, and what it lacks of the wanted packages."""
    installed = _installed(baseline, universe, metadata, cache)
    closed = universe.close(wanted, installed, favoured)
    locked = LockedBaseline(
        id=baseline.id,
        release=baseline.release,
        repositories=baseline.repositories,
        group=baseline.group,
        package_count=len(installed.ids),
        digest=Digest.of_bytes("\n".join(universe.nevras(installed.ids)).encode()),
        provides=universe.given_by(closed),
        notes=(*installed.notes, *closed.notes),
    )
    for note in locked.notes:
        ui.warn(f"baseline '{baseline.id}': {note}")
    return locked, closed


def _with_sums(
    solved: Solved,
    universe: Universe,
    profile: Profile,
    trusted: Mapping[str, TrustedKeys],
    http: HttpClient,
    cache: LockCache,
    faults: Faults,
) -> Solved:
    """Return the packages with the SHA-256 and size of all; without those that could not be proved."""
    table = SumTable(cache.sums_file)
    checked = SignedTable(cache.headers_file)

    def prove(package: LockedPackage) -> LockedPackage:
        stated = universe.unproved(package)
        if stated is None:
            return package
        keys = trusted[package.repository]
        blob = table.get(package, stated, keys)
        if blob is None:
            ui.note(f"lock: fetching {package.nevra}, of which metadata has {stated.text}, to prove it")
            blob = proved(package, stated, _urls(package, profile), keys, http)
            table.add(package, stated, keys, blob)
            checked.add(blob.digest, keys)
        return dataclasses.replace(package, digest=blob.digest, size_bytes=blob.size_bytes)

    return dataclasses.replace(solved, packages=tuple(faults.each(prove, solved.packages)))


def _urls(package: LockedPackage, profile: Profile) -> list[str]:
    return [file_url(url, package.location) for url in profile.repositories[package.repository].base_urls]


def _check_headers(
    packages: Sequence[LockedPackage],
    profile: Profile,
    trusted: Mapping[str, TrustedKeys],
    http: HttpClient,
    cache: LockCache,
    faults: Faults,
) -> None:
    """Check the beginning of every package, once: what is in a repository without its key is refused here."""
    checked = SignedTable(cache.headers_file)

    def check(package: LockedPackage) -> None:
        keys = trusted[package.repository]
        if checked.has(package.digest, keys):
            return
        what = f"package {package.nevra}"

        def ask(url: str) -> None:
            header = fetch_header(lambda size_bytes: http.beginning(url, size_bytes, what=what), what)
            verify_header(keys, header, package.nevra, what)

        first_mirror(_urls(package, profile), ask)
        checked.add(package.digest, keys)

    faults.each(check, packages)


def _installed(
    baseline: Baseline, universe: Universe, metadata: Mapping[str, Metadata], cache: MetadataCache
) -> Installed:
    """Return what a host of the baseline has."""
    if baseline.group:
        group = baseline_group(baseline, [metadata[name] for name in baseline.repositories], cache)
        return universe.baseline(baseline, group)
    return universe.listed(baseline)


def merged(one: LockedPackage | None, other: LockedPackage) -> LockedPackage:
    """Return a package that several baselines need, with the reasons of all."""
    if one is None:
        return other
    return dataclasses.replace(
        one,
        required_by=tuple(sorted({*one.required_by, *other.required_by})),
        baselines=tuple(sorted({*one.baselines, *other.baselines})),
        requested=one.requested or other.requested,
        crosses=tuple(sorted({*one.crosses, *other.crosses})),
    )


def _repository_files(metadata: Metadata, cache: MetadataCache) -> RepositoryFiles:
    """Return the files of a repository for the solver; fetched unless libsolv's own form is there."""
    solv_file = cache.solv_file(metadata)
    if solv_file.is_file():
        return RepositoryFiles(
            id=metadata.repository.id,
            primary=None,
            filelists=None,
            solv_file=solv_file,
            base_urls=metadata.repository.base_urls,
        )
    filelists = metadata.files.get("filelists")
    return RepositoryFiles(
        id=metadata.repository.id,
        primary=cache.plain_file(metadata.repository, metadata.files["primary"]),
        filelists=None if filelists is None else cache.plain_file(metadata.repository, filelists),
        solv_file=solv_file,
        base_urls=metadata.repository.base_urls,
    )


def baseline_group(
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
