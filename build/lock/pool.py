# SPDX-License-Identifier: Apache-2.0
"""All packages of all repositories of a profile in one libsolv pool, and the questions that it is asked.

What must not be looked at for a question is hidden while it is asked: packages for other machines always,
the packages of a host that only stand for themselves (baselines.py) unless it is about this host.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import solv

from build.base.errors import SolverError
from build.inventory.model import WantedPackage
from build.lock.solvfiles import RepositoryFiles, load

ARCHITECTURES = frozenset({"x86_64", "noarch"})


class UnsolvableError(Exception):
    """The jobs exclude each other; the lines say why, in libsolv's words."""

    def __init__(self, problems: Sequence[solv.Problem]) -> None:
        super().__init__("unsolvable")
        self.problems = problems


class PackagePool:
    """libsolv's pool, with what is hidden in it.

    A job holds what is visible when it is made: jobs are made in the block that they are solved in. There is room
    for ``spare`` packages of hosts: libsolv's list of what is hidden does not grow once it is there, and a package
    that is added behind its end damages memory (solv 0.7.39).
    """

    def __init__(self, repositories: Iterable[RepositoryFiles], spare: int) -> None:
        self.solv = solv.Pool()
        self.solv.setarch("x86_64")
        for files in repositories:
            load(self.solv, files)
        hosts = self.solv.add_repo("hosts")
        self._spare = [hosts.add_solvable() for _ in range(spare)]
        self._hidden = {
            solvable.id for solvable in self.solv.solvables_iter() if solvable.arch not in ARCHITECTURES
        }
        self._disabled = frozenset(self._hidden)
        self.solv.set_disabled_list(sorted(self._disabled))
        self.solv.addfileprovides()
        self.solv.createwhatprovides()

    def package(self, package_id: int) -> solv.XSolvable:
        """Return the package of an id."""
        return self.solv.id2solvable(package_id)

    def ids_outside(self, repositories: Collection[str]) -> list[int]:
        """Return the ids of all packages that are visible and in none of these repositories."""
        return [
            solvable.id
            for repo in self.solv.repos_iter()
            if repo.name not in repositories
            for solvable in repo.solvables_iter()
            if solvable.id not in self._hidden
        ]

    def spare_packages(self, count: int) -> list[solv.XSolvable]:
        """Return packages of hosts that are to be filled in; they are hidden. Raises: ValueError."""
        if count > len(self._spare):
            raise ValueError(f"{count} packages of a host, and room for {len(self._spare)}")
        taken, self._spare = self._spare[:count], self._spare[count:]
        return taken

    def hide_forever(self, ids: Iterable[int]) -> None:
        """Hide packages but where they are shown for a question."""
        self._hidden |= {*ids}
        self._disable(self._hidden)

    @contextmanager
    def seen(self, *, without: Collection[int] = (), shown: Collection[int] = ()) -> Iterator[None]:
        """Hide more, or show what is hidden, for the length of a block."""
        before = self._disabled
        self._disable((self._hidden - {*shown}) | {*without})
        try:
            yield
        finally:
            self._disable(before)

    def _disable(self, ids: Iterable[int]) -> None:
        disabled = frozenset(ids)
        if disabled != self._disabled:  # to look at 40,000 packages again takes 50 ms
            self._disabled = disabled
            self.solv.set_disabled_list(sorted(disabled))
            self.solv.createwhatprovides()

    def named(self, name: str) -> list[solv.XSolvable]:
        """Return every package of a name that is for this machine, of whatever repository."""
        found = self.solv.select(name, solv.Selection.SELECTION_NAME).solvables()
        return [solvable for solvable in found if solvable.id not in self._hidden]

    def candidates(
        self, name: str, repositories: Collection[str], version: str | None = None
    ) -> list[solv.XSolvable]:
        """Return the packages of a name in some repositories, newest first."""
        found = [
            solvable
            for solvable in self.named(name)
            if solvable.repo.name in repositories and (version is None or fits(solvable.evr, version))
        ]
        return sorted(found, key=functools.cmp_to_key(_newer_first))

    def install_one_of(self, ids: Sequence[int]) -> solv.Job:
        """Return the job to have one of some packages."""
        return self._job(solv.Job.SOLVER_INSTALL, ids)

    def favour(self, ids: Sequence[int]) -> list[solv.Job]:
        """Return the jobs to take these rather than others, whatever their version."""
        return [self._job(solv.Job.SOLVER_FAVOR, ids)] if ids else []

    def disfavour(self, ids: Sequence[int]) -> list[solv.Job]:
        """Return the jobs to take others rather than these."""
        return [self._job(solv.Job.SOLVER_DISFAVOR, ids)] if ids else []

    def have_several(self, names: Iterable[str]) -> list[solv.Job]:
        """Return the jobs that let several builds of a name be installed, as kernels are."""
        how = solv.Job.SOLVER_MULTIVERSION | solv.Job.SOLVER_SOLVABLE_NAME
        return [self.solv.Job(how, self.solv.Dep(name).id) for name in sorted(names)]

    def solve(self, jobs: Sequence[solv.Job]) -> list[solv.XSolvable]:
        """Return the packages that meet all jobs. Raises: UnsolvableError."""
        solver = self.solv.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        problems = solver.solve(list(jobs))
        if problems:
            raise UnsolvableError(problems)
        return list(solver.transaction().newsolvables())

    def _job(self, action: int, ids: Sequence[int]) -> solv.Job:
        if len(ids) == 1:
            return self.solv.Job(solv.Job.SOLVER_SOLVABLE | action, ids[0])
        return self.solv.Job(solv.Job.SOLVER_SOLVABLE_ONE_OF | action, self.solv.towhatprovides(list(ids)))


def problem_lines(
    unsolvable: UnsolvableError, source: str, wanted: Sequence[WantedPackage] = ()
) -> Iterator[str]:
    """Yield libsolv's words, the lines of the inventory they are about, and what libsolv proposes."""
    for problem in unsolvable.problems:
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


def cannot_be_had(what: str, lines: Iterable[str]) -> SolverError:
    """Return the error of jobs that exclude each other."""
    return SolverError(
        f"{what} cannot be had together",
        details="\n".join(lines),
        resolution="change a version or a repository so that the lines above can hold",
    )


def split_evr(evr: str) -> tuple[int, str, str]:
    """Split ``[epoch:]version-release``.

    >>> split_evr("4:2.245.0-1.el9")
    (4, '2.245.0', '1.el9')
    """
    epoch, _, rest = evr.rpartition(":")
    version, _, release = rest.rpartition("-")
    return int(epoch or 0), version, release


def fits(evr: str, version: str) -> bool:
    """Say whether a build is of a version: alone, with its release, or with its epoch too.

    >>> [fits("4:2.245.0-1.el9", text) for text in ("2.245.0", "2.245.0-1.el9", "4:2.245.0-1.el9", "2")]
    [True, True, True, False]
    """
    _epoch, plain, release = split_evr(evr)
    return version in (plain, f"{plain}-{release}", evr)


def _newer_first(one: solv.XSolvable, other: solv.XSolvable) -> int:
    return int(other.evrcmp(one))
