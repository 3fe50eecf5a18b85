# SPDX-License-Identifier: Apache-2.0
"""Say what a host has before Caisson comes: the packages of a baseline, as the solver takes them.

    comps group, less `without` --solve in its repositories--> builds
    rpm -qa --------------------every line stands for itself--> builds

A list is a fact: whatever it names is on the host, with its requirements met. So each of its builds takes part
as a copy that gives what the build gives and requires nothing; a build that no repository has gives what the
nearest build of its name gives, or its name alone.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence

import solv

from build.base.errors import SolverError
from build.inventory.model import Baseline
from build.lock.dependencies import WHOLE
from build.lock.pool import (
    ARCHITECTURES,
    PackagePool,
    UnsolvableError,
    cannot_be_had,
    problem_lines,
    split_evr,
)

#: So many names of a group in ten may be unknown to its repository: released ones have a few of these.
_MISSING_IN_TEN = 1
_NAMES_IN_A_NOTE = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installed:
    """What a host of a baseline has, by the ids of the solver.

    ``copies`` are those that are copies of a list's builds, each with the id of the build in a repository, or
    None where none has it. ``notes`` are for people who review the lock.
    """

    baseline: Baseline
    ids: tuple[int, ...]
    copies: Mapping[int, int | None] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def may_change(self, name: str) -> bool:
        """Say whether a package of the host may be upgraded."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.baseline.may_upgrade)

    def jobs(self, pool: PackagePool, bases: Iterable[str]) -> list[solv.Job]:
        """Return the jobs that keep the host as it is, but for what may be upgraded where it must."""
        jobs = []
        for package_id in self.ids:
            package = pool.package(package_id)
            newer = self._newer(pool, package, bases) if self.may_change(package.name) else []
            jobs.append(pool.install_one_of([package_id, *newer]))
            jobs += pool.favour([package_id]) if newer else []
        counts = collections.Counter(pool.package(package_id).name for package_id in self.ids)
        return [*pool.have_several(name for name, count in counts.items() if count > 1), *jobs]

    def _newer(self, pool: PackagePool, package: solv.XSolvable, bases: Iterable[str]) -> list[int]:
        candidates = pool.candidates(package.name, {*bases, *self.baseline.repositories})
        return [candidate.id for candidate in candidates if candidate.evrcmp(package) > 0]


# ---------------------------------------------------------------- a group


def of_group(pool: PackagePool, baseline: Baseline, group: Sequence[str]) -> Installed:
    """Return the closure of a group within the repositories of a baseline.

    A name of the group that the repositories do not have is a note, as dnf only warns of it; a name in
    ``without`` that the rest requires stays, as kickstart's ``-name`` does.

    Raises: SolverError when the rest of the group cannot be had together, or hardly any of it is there.
    """
    wishes = sorted({*group} - {*baseline.without})
    missing = [name for name in wishes if not pool.candidates(name, baseline.repositories)]
    if len(missing) * 10 > len(wishes) * _MISSING_IN_TEN:
        raise SolverError(
            f"baseline '{baseline.id}' names packages that its repositories do not have",
            details=f"{baseline.source}: group '{baseline.group}' of {quoted(baseline.repositories)}: "
            f"{', '.join(missing)}: {len(missing)} of {len(wishes)}, where a few are usual",
            resolution="is the repository complete? Else correct the baseline in packages.yaml",
        )
    with pool.seen(without=pool.ids_outside(baseline.repositories)):
        jobs = [
            pool.install_one_of([candidate.id for candidate in pool.candidates(name, baseline.repositories)])
            for name in wishes
            if name not in missing
        ]
        try:
            found = pool.solve(jobs)
        except UnsolvableError as exc:
            what = f"baseline '{baseline.id}'"
            raise cannot_be_had(what, problem_lines(exc, baseline.source)) from exc
    notes = []
    if missing:
        notes.append(f"not in repository: {', '.join(missing)} (mandatory in group '{baseline.group}')")
    kept = sorted({*baseline.without} & {solvable.name for solvable in found})
    if kept:
        notes.append(f"not without {', '.join(kept)}: the rest of group '{baseline.group}' requires it")
    return Installed(
        baseline=baseline, ids=tuple(sorted(solvable.id for solvable in found)), notes=tuple(notes)
    )


# ---------------------------------------------------------------- a list


def of_list(pool: PackagePool, baseline: Baseline) -> Installed:
    """Return what ``rpm -qa`` of a host named.

    Lines for other machines (32-bit libraries) are left out, with a note.
    """
    lines = [line for line in baseline.packages if line.rpartition(".")[2] in ARCHITECTURES]
    known = _builds(pool, baseline)
    unknown = [line for line in lines if line not in known]
    nearest = {line: _nearest(pool, baseline, line) for line in unknown}
    # From here on the pool must not be asked until it has looked at what is new in it.
    copies: dict[int, int | None] = {}
    for line, copy in zip(lines, pool.spare_packages(len(lines)), strict=True):
        copies[copy.id] = known[line].id if line in known else None
        if line in known:
            _fill_from_build(copy, known[line])
        else:
            _fill_from_line(pool, copy, line, nearest[line])
    with pool.seen(shown=copies):
        for copy_id, build_id in copies.items():
            if build_id is not None:
                _copy_conflicts(pool, pool.package(build_id), pool.package(copy_id), copies)
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} of {len(baseline.packages)} installed packages are in none of its repositories "
            f"and stand with what their names give: {_some(unknown)}"
        )
    foreign = sorted({*baseline.packages} - {*lines})
    if foreign:
        notes.append(f"{len(foreign)} packages for other machines do not count: {_some(foreign)}")
    return Installed(baseline=baseline, ids=tuple(sorted(copies)), copies=copies, notes=tuple(notes))


def _builds(pool: PackagePool, baseline: Baseline) -> dict[str, solv.XSolvable]:
    """Return the builds of a baseline's repositories by what ``rpm -qa`` prints, with and without epoch."""
    names = {line.rsplit("-", 2)[0] for line in baseline.packages}
    known: dict[str, solv.XSolvable] = {}
    for name in sorted(names):
        for build in pool.candidates(name, baseline.repositories):
            _, version, release = split_evr(build.evr)
            for evr in (f"{version}-{release}", build.evr):
                known.setdefault(f"{name}-{evr}.{build.arch}", build)
    return known


def _nearest(pool: PackagePool, baseline: Baseline, line: str) -> solv.XSolvable | None:
    """Return the newest build that the baseline's repositories have of a name."""
    return next(iter(pool.candidates(line.rsplit("-", 2)[0], baseline.repositories)), None)


def _fill_from_build(copy: solv.XSolvable, build: solv.XSolvable) -> None:
    """Let a package give what a build gives, and require nothing."""
    copy.name, copy.evr, copy.arch = build.name, build.evr, build.arch
    for capability in _capabilities(build):
        copy.add_deparray(solv.SOLVABLE_PROVIDES, capability)


def _fill_from_line(
    pool: PackagePool, stand_in: solv.XSolvable, line: str, nearest: solv.XSolvable | None
) -> None:
    """Let a package stand for a build that is in no repository, as the nearest build of its name if there is one.

    What the nearest build gives in its own version, this one gives in its own. rpm -qa prints no epoch: it is
    that of the nearest build too.
    """
    build, _, arch = line.rpartition(".")
    name, version, release = build.rsplit("-", 2)
    evr = f"{version}-{release}"
    its_evr = "" if nearest is None else str(nearest.evr)
    if ":" in its_evr and ":" not in evr:
        evr = f"{its_evr.partition(':')[0]}:{evr}"
    stand_in.name, stand_in.evr, stand_in.arch = name, evr, arch
    words = {name}
    for capability in () if nearest is None else _capabilities(nearest):
        word, equals, version = str(capability).partition(" = ")
        if equals and version == its_evr:
            words.add(word)
        else:
            stand_in.add_deparray(solv.SOLVABLE_PROVIDES, capability)
    for word in sorted(words):
        own = pool.solv.Dep(word).Rel(solv.REL_EQ, pool.solv.Dep(evr))
        stand_in.add_deparray(solv.SOLVABLE_PROVIDES, own)


def _capabilities(build: solv.XSolvable) -> Iterator[solv.Dep]:
    """Yield what a build gives, the files that anything asks for among it."""
    for capability in build.lookup_deparray(solv.SOLVABLE_PROVIDES, WHOLE):
        if not str(capability).startswith("solvable:"):
            yield capability


def _copy_conflicts(
    pool: PackagePool, build: solv.XSolvable, copy: solv.XSolvable, host: Mapping[int, int | None]
) -> None:
    """Let a copy exclude what its build excludes, but for what is on the host beside it all the same."""
    for kind in (solv.SOLVABLE_CONFLICTS, solv.SOLVABLE_OBSOLETES):
        for capability in build.lookup_deparray(kind, WHOLE):
            if not any(provider.id in host for provider in pool.solv.whatprovides(capability)):
                copy.add_deparray(kind, capability)


def _some(lines: Sequence[str]) -> str:
    """Return the first lines, and how many more there are."""
    more = len(lines) - _NAMES_IN_A_NOTE
    return ", ".join(lines[:_NAMES_IN_A_NOTE]) + (f" and {more} more" if more > 0 else "")


def quoted(names: Iterable[str]) -> str:
    """Return names for a sentence.

    >>> quoted(["baseos", "appstream"])
    "'baseos' or 'appstream'"
    """
    return " or ".join(f"'{name}'" for name in names)
