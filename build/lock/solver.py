# SPDX-License-Identifier: Apache-2.0
"""Find the packages that must be on the ISO: libsolv over the repositories, against each baseline.

    comps group, less names --solve in its repositories--> baseline (what a host has)
    rpm -qa --------------------------look up------------>
    baseline + wanted packages --solve in all repositories--> transaction - baseline = what the ISO brings

The baseline's packages take part as jobs for exactly these builds: a wanted package that would replace or
upgrade one of them is a conflict that is reported, and not an upgrade in secret. Weak dependencies are off.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import solv

from build.base.errors import BuildError, SolverError, joined
from build.base.files import replacing
from build.inventory.model import Baseline, Digest, LockedPackage, WantedPackage
from build.upstream.locations import relative_location

ARCHITECTURES = frozenset({"x86_64", "noarch"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepositoryFiles:
    """Plain metadata of a repository. ``solv_file`` is written when it is missing and read when it is there.

    ``primary`` and ``filelists`` are only looked at when it is missing; a repository may have no filelists.
    Packages lie below one of ``base_urls``.
    """

    id: str
    primary: Path | None
    filelists: Path | None
    solv_file: Path
    base_urls: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """What metadata says of a package's bytes; ``size_bytes`` is 0 where it does not say."""

    algorithm: str
    hex: str
    size_bytes: int

    @property
    def is_enough(self) -> bool:
        """Say whether it names the bytes as a lock does."""
        return self.algorithm == "sha256" and self.size_bytes > 0

    @property
    def name(self) -> Digest:
        """Return what stands for the package's digest until that is known."""
        return Digest(self.hex) if self.algorithm == "sha256" else Digest.of_bytes(f"{self}".encode())


class UnreadableSolvError(Exception):
    """libsolv cannot read what was kept in its own form, and the metadata itself is needed."""

    def __init__(self, solv_file: Path) -> None:
        super().__init__(str(solv_file))
        self.solv_file = solv_file


class Universe:
    """All packages of all repositories of a profile, in one libsolv pool."""

    def __init__(self, repositories: Iterable[RepositoryFiles]) -> None:
        self._pool = solv.Pool()
        self._pool.setarch("x86_64")
        self._base_urls: dict[str, tuple[str, ...]] = {}
        self._unproved: dict[tuple[str, str], Sum] = {}
        for files in repositories:
            _load(self._pool, files)
            self._base_urls[files.id] = files.base_urls
        self._foreign = [
            solvable.id for solvable in self._pool.solvables_iter() if solvable.arch not in ARCHITECTURES
        ]
        self._pool.set_disabled_list(self._foreign)
        self._pool.addfileprovides()
        self._pool.createwhatprovides()

    def baseline(self, baseline: Baseline, group: Sequence[str]) -> list[int]:
        """Return the ids of the packages that a host has: the closure of a group within its repositories.

        Raises: SolverError.
        """
        others = [
            solvable.id
            for solvable in self._pool.solvables_iter()
            if solvable.repo.name not in baseline.repositories
        ]
        self._pool.set_disabled_list(sorted({*self._foreign, *others}))
        self._pool.createwhatprovides()
        try:
            jobs = []
            missing = []
            for name in sorted({*group} - {*baseline.without}):
                candidates = self._candidates(name, baseline.repositories)
                if candidates:
                    jobs.append(self._install_one_of([candidate.id for candidate in candidates]))
                else:
                    missing.append(name)
            if missing:
                raise SolverError(
                    f"baseline '{baseline.id}' names packages that its repositories do not have",
                    details=f"{baseline.source}: group '{baseline.group}' of {_quoted(baseline.repositories)}: "
                    f"{', '.join(missing)}",
                    resolution="is the repository complete? Else correct the baseline in packages.yaml",
                )
            found = self._solve(jobs, f"baseline '{baseline.id}'", baseline.source)
            _check_without(baseline, {solvable.name for solvable in found})
            return [solvable.id for solvable in found]
        finally:
            self._pool.set_disabled_list(self._foreign)
            self._pool.createwhatprovides()

    def listed(self, baseline: Baseline) -> tuple[list[int], tuple[str, ...]]:
        """Return the ids of the builds that ``rpm -qa`` of a host named, and the lines that no one has.

        A build that is in none of the baseline's repositories cannot be looked into: it counts as absent.
        """
        known: dict[str, int] = {}
        for solvable in self._pool.solvables_iter():
            if solvable.repo.name in baseline.repositories and solvable.arch in ARCHITECTURES:
                _, version, release = split_evr(solvable.evr)
                for evr in (f"{version}-{release}", solvable.evr):
                    known.setdefault(f"{solvable.name}-{evr}.{solvable.arch}", solvable.id)
        found = {known[line] for line in baseline.packages if line in known}
        return sorted(found), tuple(line for line in baseline.packages if line not in known)

    def nevras(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the builds of ids, sorted."""
        return tuple(sorted(str(self._pool.id2solvable(package_id)) for package_id in ids))

    def close(
        self,
        wanted: Sequence[WantedPackage],
        baseline_ids: Sequence[int],
        baseline: Baseline | None = None,
        base_repositories: Collection[str] = (),
    ) -> list[LockedPackage]:
        """Return the wanted packages and all they require that the baseline does not have, by name.

        A wanted package that may come from one of ``base_repositories`` (those of all baselines) may come
        from the baseline's own too: an older minor release has an older build of it.

        Raises: SolverError with every wanted package that is not there, with what would have to be upgraded
        on the host, or with libsolv's problems in words.
        """
        own = () if baseline is None else baseline.repositories
        wanted_ids = self._wanted_ids(
            [
                dataclasses.replace(package, repositories=_united(package.repositories, own))
                if {*package.repositories} & {*base_repositories}
                else package
                for package in wanted
            ]
        )
        kept = [self._install_one_of([package_id]) for package_id in baseline_ids]
        jobs = [*kept, *(self._install_one_of(ids) for ids in wanted_ids.values())]
        where = "" if baseline is None else f" on EL {baseline.release} (baseline '{baseline.id}')"
        upgrades = functools.partial(self._forced_upgrades, wanted, wanted_ids, baseline_ids)
        solvables = self._solve(jobs, f"the wanted packages{where}", "packages.yaml", wanted, upgrades)
        chosen = {solvable.id for solvable in solvables}
        requested = {name: [i for i in ids if i in chosen] for name, ids in wanted_ids.items()}
        requested_ids = {i for ids in requested.values() for i in ids}
        bundle = [s for s in solvables if s.id not in set(baseline_ids) or s.id in requested_ids]
        wants = self._wanted_by(bundle, set(baseline_ids))
        ids = () if baseline is None else (baseline.id,)
        locked, faults = [], []
        for s in bundle:
            try:
                package = self._locked(
                    s, is_requested=s.id in requested_ids, required_by=wants.get(s.id, ()), baselines=ids
                )
                locked.append(package)
            except BuildError as exc:
                faults.append(exc)
        if faults:
            raise joined(faults, "the metadata")
        return sorted(locked, key=lambda package: package.nevra)

    def _forced_upgrades(
        self,
        wanted: Sequence[WantedPackage],
        wanted_ids: Mapping[str, Sequence[int]],
        baseline_ids: Sequence[int],
    ) -> Iterator[str]:
        """Yield for each wanted package what it would change of the baseline, which it may not."""
        strict = [self._install_one_of([package_id]) for package_id in baseline_ids]
        weak = solv.Job.SOLVER_SOLVABLE | solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_WEAK
        loose = [self._pool.Job(weak, package_id) for package_id in baseline_ids]
        for package in wanted:
            job = self._install_one_of(wanted_ids[package.name])
            if not self._new_solver().solve([*strict, job]):
                continue
            solver = self._new_solver()
            if solver.solve([*loose, job]):
                continue
            new = {solvable.name: solvable for solvable in solver.transaction().newsolvables()}
            for package_id in baseline_ids:
                old = self._pool.id2solvable(package_id)
                if old.name not in new:
                    yield f"{package.source}: {package.name} would take away {old.name} {old.evr}"
                elif new[old.name].id != package_id:
                    yield (
                        f"{package.source}: {package.name} {new[package.name].evr} would force the host's "
                        f"{old.name} from {old.evr} to {new[old.name].evr}"
                    )

    def given_by(self, baseline_ids: Sequence[int], packages: Sequence[LockedPackage]) -> tuple[str, ...]:
        """Return what packages of the bundle require that only the baseline gives, sorted.

        Conditions (``perl if git``) are among it unless a package of the bundle meets them.
        """
        ids = set()
        for package in packages:
            ids |= {build.id for build in self._builds(package)}
        own = ids - set(baseline_ids)
        return tuple(
            sorted(
                {
                    str(requirement)
                    for package_id in ids
                    for requirement in requirements(self._pool.id2solvable(package_id))
                    if not own & {provider.id for provider in self._pool.whatprovides(requirement)}
                }
            )
        )

    def build_time(self, package: LockedPackage) -> int:
        """Return when a package was built, as a Unix time; 0 when the metadata does not say."""
        return max((int(b.lookup_num(solv.SOLVABLE_BUILDTIME)) for b in self._builds(package)), default=0)

    def unproved(self, package: LockedPackage) -> Sum | None:
        """Return what is known of a package's bytes where it is less than SHA-256 and size: its digest stands in."""
        return self._unproved.get((package.repository, package.nevra))

    def absent(self, wanted: Iterable[WantedPackage]) -> Iterator[SolverError]:
        """Yield an error for each package that none of its repositories has in the version that is wanted."""
        for package in wanted:
            if not self._candidates(package.name, package.repositories, package.version):
                yield self._absent(package)

    def newest(self, package: WantedPackage) -> str:
        """Return the newest build of a wanted package, which is there, and how many others would do."""
        found = self._candidates(package.name, package.repositories, package.version)
        return f"{found[0].evr}{f', and {len(found) - 1} more' if len(found) > 1 else ''}"

    def _builds(self, package: LockedPackage) -> list[solv.XSolvable]:
        """Return the package in its repository; more than one where that has the same build twice."""
        build = (package.epoch, package.version, package.release)
        return [
            candidate
            for candidate in self._candidates(package.name, (package.repository,))
            if candidate.arch == package.arch and split_evr(candidate.evr) == build
        ]

    def _candidates(
        self, name: str, repositories: Sequence[str], version: str | None = None
    ) -> list[solv.XSolvable]:
        """Return the enabled packages of a name, newest first."""
        selection = self._pool.select(name, solv.Selection.SELECTION_NAME)
        disabled = set(self._foreign)
        found = [
            solvable
            for solvable in selection.solvables()
            if solvable.repo.name in repositories
            and solvable.id not in disabled
            and (version is None or version in _versions(solvable.evr))
        ]
        return sorted(found, key=functools.cmp_to_key(_newer_first))

    def _wanted_ids(self, wanted: Sequence[WantedPackage]) -> dict[str, list[int]]:
        """Return the candidates of each wanted package by name."""
        faults = list(self.absent(wanted))
        if faults:
            raise joined(faults, "packages.yaml")
        return {
            package.name: [
                candidate.id
                for candidate in self._candidates(package.name, package.repositories, package.version)
            ]
            for package in wanted
        }

    def _absent(self, package: WantedPackage) -> SolverError:
        """Return the error that says what was looked for, where, and what there is instead."""
        version = f" {package.version}" if package.version else ""
        return SolverError(
            f"the wanted package {package.name}{version} cannot be found",
            details=self._absent_text(package),
            resolution="correct packages.yaml or versions.yaml, or the repositories of the profile",
        )

    def _absent_text(self, package: WantedPackage) -> str:
        version = f" {package.version}" if package.version else ""
        text = (
            f"{package.source}: {package.name}{version} is not in repository {_quoted(package.repositories)}"
        )
        others = self._candidates(package.name, package.repositories)
        if others:
            return f"{text}; it has {', '.join(dict.fromkeys(other.evr for other in reversed(others)))}"
        elsewhere = {
            solvable.repo.name
            for solvable in self._pool.select(package.name, solv.Selection.SELECTION_NAME).solvables()
        }
        return f"{text}; it is in {', '.join(sorted(elsewhere))}" if elsewhere else text

    def _install_one_of(self, ids: Sequence[int]) -> solv.Job:
        action = solv.Job.SOLVER_INSTALL
        if len(ids) == 1:
            return self._pool.Job(solv.Job.SOLVER_SOLVABLE | action, ids[0])
        return self._pool.Job(solv.Job.SOLVER_SOLVABLE_ONE_OF | action, self._pool.towhatprovides(ids))

    def _new_solver(self) -> solv.Solver:
        solver = self._pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        return solver

    def _solve(
        self,
        jobs: Sequence[solv.Job],
        what: str,
        source: str,
        wanted: Sequence[WantedPackage] = (),
        upgrades: Callable[[], Iterable[str]] = tuple,
    ) -> list[solv.XSolvable]:
        solver = self._new_solver()
        problems = solver.solve(list(jobs))
        if problems:
            lines = list(self._problem_lines(problems, source, wanted))
            forced = list(upgrades())
            raise SolverError(
                f"{what} cannot be had {'without upgrading the host' if forced else 'together'}",
                details="\n".join([*forced, *lines]),
                resolution="add a repository with an older build that fits this release, or drop the baseline"
                if forced
                else "change a version or a repository so that the lines above can hold",
            )
        return list(solver.transaction().newsolvables())

    @staticmethod
    def _problem_lines(
        problems: Sequence[solv.Problem], source: str, wanted: Sequence[WantedPackage]
    ) -> Iterator[str]:
        """Yield libsolv's words, the lines of the inventory they are about, and what libsolv proposes."""
        for problem in problems:
            texts = sorted({rule.info().problemstr() for rule in problem.findallproblemrules()})
            yield from texts
            about = [
                package
                for package in wanted
                if any(f"{package.name}-" in text or f" {package.name} " in f" {text} " for text in texts)
            ]
            for package in about:
                yield f"  wanted by {package.source}: {package.name} ({package.purpose})"
            if not about and source:
                yield f"  wanted by {source}"
            for solution in problem.solutions()[:3]:
                proposals = ", or ".join(element.str() for element in solution.elements())
                yield f"  libsolv proposes: {proposals}"

    def _locked(
        self,
        solvable: solv.XSolvable,
        *,
        is_requested: bool,
        required_by: tuple[str, ...],
        baselines: tuple[str, ...],
    ) -> LockedPackage:
        """Return what is locked of a package. Raises: SolverError, IntegrityError."""
        epoch, version, release = split_evr(solvable.evr)
        repository = solvable.repo.name
        what = f"package {solvable} of repository '{repository}'"
        stated = _stated_sum(solvable, what)
        href, base = solvable.lookup_location()[0] or "", solvable.lookup_str(solv.SOLVABLE_MEDIABASE) or ""
        package = LockedPackage(
            name=solvable.name,
            epoch=epoch,
            version=version,
            release=release,
            arch=solvable.arch,
            repository=repository,
            location=relative_location(self._base_urls[repository], href, base, what),
            size_bytes=stated.size_bytes,
            digest=stated.name,
            requested=is_requested,
            required_by=required_by,
            baselines=baselines,
            licence=solvable.lookup_str(solv.SOLVABLE_LICENSE) or "",
        )
        if not stated.is_enough:
            self._unproved[repository, package.nevra] = stated
        return package

    def _wanted_by(self, bundle: Sequence[solv.XSolvable], baseline: set[int]) -> dict[int, tuple[str, ...]]:
        """Return for each package of the bundle the names of those that require it, sorted.

        A requirement that the baseline fulfils is no reason for anything. A conditional one (``perl if git``)
        only counts for a package that has no other reason: its condition need not hold.
        """
        plain: dict[int, set[str]] = {}
        conditional: dict[int, set[str]] = {}
        in_bundle = {solvable.id for solvable in bundle}
        for solvable in bundle:
            for requirement in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES):
                providers = {provider.id for provider in self._pool.whatprovides(requirement)}
                if providers & (baseline - in_bundle) or solvable.id in providers:
                    continue
                reasons = conditional if str(requirement).startswith("(") else plain
                for provider in providers & in_bundle:
                    reasons.setdefault(provider, set()).add(solvable.name)
        return {package_id: tuple(sorted(names)) for package_id, names in (conditional | plain).items()}


def requirements(solvable: solv.XSolvable) -> Iterator[solv.Dep]:
    """Yield what a package requires, less what rpm itself gives (``rpmlib(...)``)."""
    for requirement in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES):
        if not str(requirement).startswith(("rpmlib(", "solvable:")):
            yield requirement


def open_requirements(
    primary: Path, filelists: Path, names: Collection[str], given: Collection[str]
) -> list[tuple[str, str]]:
    """Return package and requirement of everything that neither a repository nor a host gives.

    Of the repository only the packages whose files have one of ``names`` count. ``given`` is what the host
    gives, as :meth:`Universe.given_by` says it. Raises: SolverError.
    """
    pool = solv.Pool()
    pool.setarch("x86_64")
    repo = pool.add_repo("bundle")
    _add_xml(pool, repo, primary, "", 0)
    _add_xml(pool, repo, filelists, "FL", solv.Repo.REPO_EXTEND_SOLVABLES)
    pool.addfileprovides()
    pool.createwhatprovides()
    present = [
        solvable
        for solvable in pool.solvables_iter()
        if solvable.lookup_location()[0].rsplit("/", 1)[-1] in names
    ]
    ids = {solvable.id for solvable in present}
    return sorted(
        (str(solvable), str(requirement))
        for solvable in present
        for requirement in requirements(solvable)
        if str(requirement) not in given
        and not ids & {provider.id for provider in pool.whatprovides(requirement)}
    )


def _load(pool: solv.Pool, files: RepositoryFiles) -> None:
    """Load a repository: from libsolv's own form where there is one, which takes milliseconds."""
    repo = pool.add_repo(files.id)
    if files.solv_file.is_file():
        stream = solv.xfopen(str(files.solv_file))
        is_loaded = repo.add_solv(stream, 0)
        stream.close()
        if is_loaded:
            return
        repo.empty()
    if files.primary is None:
        raise UnreadableSolvError(files.solv_file)
    _add_xml(pool, repo, files.primary, "", 0)
    if files.filelists is not None:
        _add_xml(pool, repo, files.filelists, "FL", solv.Repo.REPO_EXTEND_SOLVABLES)
    with replacing(files.solv_file) as temporary:
        stream = solv.xfopen(str(temporary), "w")
        repo.write(stream)
        stream.close()


def _add_xml(pool: solv.Pool, repo: solv.Repo, file: Path, language: str, flags: int) -> None:
    stream = solv.xfopen(str(file))
    is_added = repo.add_rpmmd(stream, language or None, flags)
    stream.close()
    if not is_added:
        raise SolverError(
            f"the metadata of repository '{repo.name}' cannot be read",
            details=f"{file}: {pool.errstr}",
            resolution="the repository is damaged: use another mirror",
        )


def _check_without(baseline: Baseline, names: Collection[str]) -> None:
    """Check that a host can lack what a baseline says it lacks."""
    there = sorted({*baseline.without} & {*names})
    if there:
        raise SolverError(
            f"baseline '{baseline.id}' cannot be without {', '.join(there)}",
            details=f"{baseline.source}: the rest of group '{baseline.group}' requires it",
            resolution="take it out of 'without', or put what requires it in",
        )


def _united(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _quoted(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _stated_sum(solvable: solv.XSolvable, what: str) -> Sum:
    """Return what metadata says of a package's bytes. Raises: SolverError when that is no sum at all."""
    checksum = solvable.lookup_checksum(solv.SOLVABLE_CHECKSUM)
    if checksum is None:
        raise SolverError(
            f"{what} has no checksum",
            details="metadata without one cannot say which bytes are meant",
            resolution="use a mirror whose metadata has SHA-256 (createrepo_c makes it so)",
        )
    return Sum(
        algorithm=checksum.typestr(),
        hex=checksum.hex(),
        size_bytes=int(solvable.lookup_num(solv.SOLVABLE_DOWNLOADSIZE)),
    )


def split_evr(evr: str) -> tuple[int, str, str]:
    """Split ``[epoch:]version-release``.

    >>> split_evr("4:2.245.0-1.el9")
    (4, '2.245.0', '1.el9')
    """
    epoch, _, rest = evr.rpartition(":")
    version, _, release = rest.rpartition("-")
    return int(epoch or 0), version, release


def _versions(evr: str) -> tuple[str, ...]:
    """Return the forms in which a package's version may be asked for.

    >>> _versions("4:2.245.0-1.el9")
    ('2.245.0', '2.245.0-1.el9', '4:2.245.0-1.el9')
    """
    _epoch, version, release = split_evr(evr)
    return version, f"{version}-{release}", evr


def _newer_first(one: solv.XSolvable, other: solv.XSolvable) -> int:
    return int(other.evrcmp(one))


def composed_closure(names: Iterable[str], packages: Sequence[LockedPackage]) -> tuple[str, ...]:
    """Return the names with all locked packages that they require, sorted."""
    requires: dict[str, set[str]] = {}
    for package in packages:
        for user in package.required_by:
            requires.setdefault(user, set()).add(package.name)
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += requires.get(name, ())
    return tuple(sorted(found))
