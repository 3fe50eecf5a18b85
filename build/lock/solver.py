# SPDX-License-Identifier: Apache-2.0
"""Find the packages that must be on the ISO: libsolv over the repositories, against each baseline.

    baseline + wanted packages --solve in all repositories--> transaction - baseline = what the ISO brings

The baseline's packages take part as jobs for exactly these builds: a wanted package that would replace or
upgrade one of them is a conflict that is reported, and not an upgrade in secret. Weak dependencies are off.

A dependency comes from a base repository (one that a baseline names), or else from the repository of the package
that requires it. Another repository's package is taken only where the inventory wants it from there, or where one
of its own needs it anyway; the lock then says who else uses it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import solv

from build.base.errors import BuildError, SolverError, joined
from build.inventory.model import Baseline, LockedPackage, WantedPackage
from build.lock import baselines
from build.lock.baselines import Installed, quoted
from build.lock.dependencies import Crossing, crossings, requirements, users
from build.lock.modules import StreamFilter, hidden_builds, provided
from build.lock.pool import PackagePool, UnsolvableError, cannot_be_had, fits, problem_lines, split_evr
from build.lock.solvfiles import RepositoryFiles
from build.lock.stated import Sum, stated_package

_NOTHING_PROVIDES = re.compile(r"nothing provides (\S+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """What a bundle must bring for one baseline, by name.

    ``kept`` are the ids of what the host has and keeps; ``brought`` those of what the bundle brings.
    """

    packages: tuple[LockedPackage, ...]
    kept: frozenset[int]
    brought: frozenset[int]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What is to be solved: the wanted packages with their candidates, on a host.

    ``liked`` are taken rather than others, ``strangers`` only where there is no other.
    """

    wanted: tuple[WantedPackage, ...]
    ids: Mapping[str, tuple[int, ...]]
    installed: Installed
    liked: tuple[int, ...]
    strangers: tuple[int, ...]

    @property
    def where(self) -> str:
        """Return the host in words."""
        return f" on EL {self.installed.baseline.release} (baseline '{self.installed.baseline.id}')"


class Universe:
    """All packages of all repositories of a profile. ``bases`` are the repositories that baselines name.

    ``streams`` hides packages of module streams. ``spare`` is how many packages lists of hosts may have together.
    """

    def __init__(
        self,
        repositories: Iterable[RepositoryFiles],
        bases: Collection[str],
        streams: StreamFilter = StreamFilter(),  # noqa: B008 - frozen
        spare: int = 8192,
    ) -> None:
        files = tuple(repositories)
        self._pool = PackagePool(files, spare)
        self._streams = streams
        self._masked = hidden_builds(self._pool.solv, streams)
        self._pool.hide_forever(self._masked)
        self._bases = frozenset(bases)
        self._base_urls = {item.id: item.base_urls for item in files}
        self._unproved: dict[tuple[str, str], Sum] = {}

    def baseline(self, baseline: Baseline, group: Sequence[str]) -> Installed:
        """Return what a host has that was installed by a group. Raises: SolverError."""
        return baselines.of_group(self._pool, baseline, group)

    def listed(self, baseline: Baseline) -> Installed:
        """Return what a host has that printed its list."""
        return baselines.of_list(self._pool, baseline)

    def nevras(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the builds of ids, sorted."""
        return tuple(sorted(str(self._pool.package(package_id)) for package_id in ids))

    def close(
        self,
        wanted: Sequence[WantedPackage],
        installed: Installed,
        favoured: Iterable[LockedPackage] = (),
    ) -> Solution:
        """Return the wanted packages and all they require that the host does not have.

        A wanted package that may come from a base repository may come from the baseline's own too: an older
        minor release has an older build of it. Of several builds the newest is taken that fits, or one of
        ``favoured`` where that still fits.

        Raises: SolverError with every wanted package that is not there, with what would have to be upgraded
        on the host, with the dependency that only a stranger offers, or with libsolv's problems in words.
        """
        question = self._question(wanted, installed, favoured)
        solvables = self._solve(question)
        with self._pool.seen(shown=installed.copies):
            return self._solution(question, solvables)

    def _question(
        self, wanted: Sequence[WantedPackage], installed: Installed, favoured: Iterable[LockedPackage]
    ) -> _Question:
        own = installed.baseline.repositories
        at_home = tuple(
            dataclasses.replace(package, repositories=_united(package.repositories, own))
            if {*package.repositories} & self._bases
            else package
            for package in wanted
        )
        ids = self._wanted_ids(at_home, installed)
        liked = [build.id for package in favoured for build in self._builds(package)]
        spared = {number for numbers in ids.values() for number in numbers} | {*liked}
        strangers = [number for number in self._pool.ids_outside(self._bases) if number not in spared]
        return _Question(
            wanted=at_home,
            ids=ids,
            installed=installed,
            liked=tuple(liked),
            strangers=tuple(strangers),
        )

    def _wanted_ids(
        self, wanted: Sequence[WantedPackage], installed: Installed
    ) -> dict[str, tuple[int, ...]]:
        """Return the candidates of each wanted package by name; the host's own build may be one."""
        faults = list(self.absent(wanted))
        if faults:
            raise joined(faults, "packages.yaml")
        ids = {}
        for package in wanted:
            found = self._pool.candidates(package.name, package.repositories, package.version)
            numbers = [candidate.id for candidate in found]
            ids[package.name] = (*numbers, *_own_copies(self._pool, package, numbers, installed))
        return ids

    def absent(self, wanted: Iterable[WantedPackage]) -> Iterator[SolverError]:
        """Yield an error for each package that none of its repositories has in the version that is wanted."""
        for package in wanted:
            if not self._pool.candidates(package.name, package.repositories, package.version):
                yield self._absent(package)

    def newest(self, package: WantedPackage) -> str:
        """Return the newest build of a wanted package, which is there, and how many others would do."""
        found = self._pool.candidates(package.name, package.repositories, package.version)
        return f"{found[0].evr}{f', and {len(found) - 1} more' if len(found) > 1 else ''}"

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
            f"{package.source}: {package.name}{version} is not in repository {quoted(package.repositories)}"
        )
        others = self._pool.candidates(package.name, package.repositories)
        if others:
            text += f"; it has {', '.join(dict.fromkeys(other.evr for other in reversed(others)))}"
        masked = [
            f"{build} is {reason}"
            for number, reason in self._masked.items()
            if (build := self._pool.package(number)).name == package.name
            and build.repo.name in package.repositories
            and (package.version is None or fits(build.evr, package.version))
        ]
        if masked:
            return f"{text}; {'; '.join(sorted(masked))}: 'stream' in packages.yaml asks for one"
        if others:
            return text
        elsewhere = {solvable.repo.name for solvable in self._pool.named(package.name)}
        return f"{text}; it is in {', '.join(sorted(elsewhere))}" if elsewhere else text

    # ------------------------------------------------------------ solving

    def _solve(self, question: _Question) -> list[solv.XSolvable]:
        """Solve until no dependency is taken from a stranger."""
        refused: dict[int, Crossing] = {}
        while True:
            with self._pool.seen(without=refused, shown=question.installed.copies):
                solution = self._solve_once(question, tuple(refused.values()))
                strange = list(crossings(self._pool.solv, solution, self._is_allowed(question)))
            if not strange:
                return solution
            for crossing in strange:
                for number in self._siblings(crossing.provider):
                    refused.setdefault(number, crossing)

    def _siblings(self, package: solv.XSolvable) -> list[int]:
        """Return the ids of all builds of a package in its repository."""
        return [found.id for found in self._pool.candidates(package.name, (package.repo.name,))]

    def _solve_once(self, question: _Question, refused: Sequence[Crossing]) -> list[solv.XSolvable]:
        host = question.installed.jobs(self._pool, self._bases)
        jobs = [self._pool.install_one_of(ids) for ids in question.ids.values()]
        preferences = [*self._pool.favour(question.liked), *self._pool.disfavour(question.strangers)]
        try:
            return self._pool.solve([*host, *jobs, *preferences])
        except UnsolvableError as exc:
            lines = list(problem_lines(exc, "packages.yaml", question.wanted))
            lines += self._masked_providers(lines)
            raise self._explained(question, lines, refused) from exc

    def _masked_providers(self, lines: Iterable[str]) -> list[str]:
        """Return which hidden builds of module streams would provide what libsolv says that nothing does."""
        missing = {found[1] for line in lines if (found := _NOTHING_PROVIDES.search(line))}
        masked = ((self._pool.package(number), reason) for number, reason in self._masked.items())
        return sorted(
            f"{build} would provide {name}: it is {reason}; 'stream' in packages.yaml asks for one"
            for build, reason in masked
            for name in missing & {build.name, *provided(build)}
        )

    def _is_allowed(self, question: _Question) -> _Allowed:
        wanted = {number for numbers in question.ids.values() for number in numbers}
        return _Allowed(ids=wanted | {*question.installed.ids}, repositories=self._bases)

    def _explained(
        self, question: _Question, lines: Sequence[str], refused: Sequence[Crossing]
    ) -> SolverError:
        what = f"the wanted packages{question.where}"
        if refused:
            return SolverError(
                f"{what} require what only a stranger's repository has",
                details="\n".join([*dict.fromkeys(_refusal(crossing) for crossing in refused), *lines]),
                resolution="if that is meant, name the package in packages.yaml with its repository; "
                "else take what requires it from another repository",
            )
        forced = list(self._forced_upgrades(question))
        if forced:
            return SolverError(
                f"{what} cannot be had without upgrading the host",
                details="\n".join([*forced, *lines]),
                resolution="add a repository with an older build that fits this release, name what may be "
                "upgraded in 'may_upgrade' of the baseline, or drop the baseline",
            )
        return cannot_be_had(what, lines)

    def _forced_upgrades(self, question: _Question) -> Iterator[str]:
        """Yield for each wanted package what it would change of the baseline, which it may not."""
        how = solv.Job.SOLVER_SOLVABLE | solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_WEAK
        host = question.installed.ids
        strict = question.installed.jobs(self._pool, self._bases)
        loose = [self._pool.solv.Job(how, package_id) for package_id in host]
        for package in question.wanted:
            job = self._pool.install_one_of(question.ids[package.name])
            if self._attempt([*strict, job]) is not None:
                continue
            found = self._attempt([*loose, job])
            if found is None:
                continue
            there = {solvable.id for solvable in found}
            new = {solvable.name: solvable for solvable in found}
            for old in (self._pool.package(package_id) for package_id in host):
                if old.name not in new:
                    yield f"{package.source}: {package.name} would take away {old.name} {old.evr}"
                elif old.id not in there:
                    yield (
                        f"{package.source}: {package.name} {new[package.name].evr} would force the host's "
                        f"{old.name} from {old.evr} to {new[old.name].evr}"
                    )

    def _attempt(self, jobs: Sequence[solv.Job]) -> list[solv.XSolvable] | None:
        try:
            return self._pool.solve(jobs)
        except UnsolvableError:
            return None

    # ------------------------------------------------------------ the outcome

    def _solution(self, question: _Question, solvables: Sequence[solv.XSolvable]) -> Solution:
        installed = question.installed
        chosen = {solvable.id for solvable in solvables}
        kept = frozenset(installed.ids) & chosen
        taken = {name: [number for number in ids if number in chosen] for name, ids in question.ids.items()}
        requested = {installed.copies.get(number, number) for ids in taken.values() for number in ids}
        brought = (chosen - kept) | {number for number in requested if number is not None}
        bundle = [self._pool.package(number) for number in sorted(brought)]
        reasons = users(self._pool.solv, bundle, kept)
        packages, faults = [], []
        for package in bundle:
            try:
                packages.append(
                    self._locked(package, reasons.get(package.id, ()), requested, installed.baseline)
                )
            except BuildError as exc:
                faults.append(exc)
        if faults:
            raise joined(faults, "the metadata")
        return Solution(
            packages=tuple(sorted(packages, key=lambda package: package.nevra)),
            kept=kept,
            brought=frozenset(brought),
            notes=tuple(_own_builds(self._pool, taken, installed)) + tuple(self._upgrades(installed, kept)),
        )

    def _locked(
        self,
        solvable: solv.XSolvable,
        wanted_by: Sequence[solv.XSolvable],
        requested: Collection[int | None],
        baseline: Baseline,
    ) -> LockedPackage:
        """Return what is locked of a package. Raises: SolverError, IntegrityError."""
        package, stated = stated_package(solvable, self._base_urls[solvable.repo.name])
        if not stated.is_enough:
            self._unproved[package.repository, package.nevra] = stated
        others = {user.name for user in wanted_by if user.repo.name != solvable.repo.name}
        return dataclasses.replace(
            package,
            requested=solvable.id in requested,
            required_by=tuple(sorted({user.name for user in wanted_by})),
            baselines=(baseline.id,),
            stream=self._streams.active.get(str(solvable), ""),
            crosses=() if package.repository in self._bases else tuple(sorted(others)),
        )

    def _upgrades(self, installed: Installed, kept: Collection[int]) -> Iterator[str]:
        """Yield what of the host is upgraded, as it may be."""
        for package_id in installed.ids:
            if package_id not in kept:
                yield f"upgraded: {self._pool.package(package_id)} (in 'may_upgrade')"

    def given_by(self, solution: Solution) -> tuple[str, ...]:
        """Return what packages of the bundle require that only the host gives, sorted.

        Conditions (``perl if git``) are among it unless a package of the bundle meets them.
        """
        own = solution.brought - solution.kept
        return tuple(
            sorted(
                {
                    str(requirement)
                    for package_id in solution.brought
                    for requirement in requirements(self._pool.package(package_id))
                    if not own & {provider.id for provider in self._pool.solv.whatprovides(requirement)}
                }
            )
        )

    def build_time(self, package: LockedPackage) -> int:
        """Return when a package was built, as a Unix time; 0 when the metadata does not say."""
        builds = self._builds(package)
        return max((int(build.lookup_num(solv.SOLVABLE_BUILDTIME)) for build in builds), default=0)

    def unproved(self, package: LockedPackage) -> Sum | None:
        """Return what is known of a package's bytes where it is less than SHA-256 and size: its digest stands in."""
        return self._unproved.get((package.repository, package.nevra))

    def _builds(self, package: LockedPackage) -> list[solv.XSolvable]:
        """Return the package in its repository; more than one where that has the same build twice."""
        build = (package.epoch, package.version, package.release)
        return [
            candidate
            for candidate in self._pool.candidates(package.name, (package.repository,))
            if candidate.arch == package.arch and split_evr(candidate.evr) == build
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Allowed:
    """What may meet a requirement of whatever package."""

    ids: Collection[int]
    repositories: Collection[str]

    def __call__(self, package: solv.XSolvable) -> bool:
        return package.id in self.ids or package.repo.name in self.repositories


def _own_copies(
    pool: PackagePool, package: WantedPackage, candidates: Collection[int], installed: Installed
) -> Iterator[int]:
    """Yield the host's own builds that are as good as the candidates of a wanted package."""
    for copy_id, build_id in installed.copies.items():
        copy = pool.package(copy_id)
        if copy.name == package.name:
            is_version = package.version is None or fits(copy.evr, package.version)
            if build_id in candidates or (build_id is None and is_version):
                yield copy_id


def _own_builds(pool: PackagePool, taken: Mapping[str, Sequence[int]], installed: Installed) -> Iterator[str]:
    """Yield the wanted packages that a host has in a build that no repository has."""
    for ids in taken.values():
        for number in ids:
            if installed.copies.get(number, number) is None:
                yield f"{pool.package(number)} stays: the host has it, and no repository does"


def _refusal(crossing: Crossing) -> str:
    user, provider = crossing.user, crossing.provider
    return (
        f"{user} of '{user.repo.name}' requires {crossing.requirement}: {provider} of "
        f"'{provider.repo.name}' is not taken for it"
    )


def _united(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
