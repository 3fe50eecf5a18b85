# SPDX-License-Identifier: Apache-2.0
"""Follow what packages require: what is open, who wants what, and which dependency crosses repositories.

A requirement of rpm's is one whether it is for running (``Requires``) or for a scriptlet (``Requires(pre)``,
``Requires(post)``): libsolv keeps the second kind behind a marker, and both count here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import solv

from build.inventory.model import LockedPackage
from build.lock.solvfiles import add_xml

#: What libsolv takes for "before and after the marker".
WHOLE = 0


def requirements(solvable: solv.XSolvable) -> Iterator[solv.Dep]:
    """Yield what a package requires, pre-requirements too, less what rpm itself gives (``rpmlib(...)``)."""
    for requirement in solvable.lookup_deparray(solv.SOLVABLE_REQUIRES, WHOLE):
        if not str(requirement).startswith(("rpmlib(", "solvable:")):
            yield requirement


def open_requirements(
    primary: Path, filelists: Path, names: Collection[str], given: Collection[str]
) -> list[tuple[str, str]]:
    """Return package and requirement of everything that neither a repository nor a host gives.

    Of the repository only the packages whose files have one of ``names`` count. ``given`` is what the host
    gives, as :meth:`build.lock.solver.Universe.given_by` says it. Raises: SolverError.
    """
    pool = solv.Pool()
    pool.setarch("x86_64")
    repo = pool.add_repo("bundle")
    add_xml(pool, repo, primary, "", 0)
    add_xml(pool, repo, filelists, "FL", solv.Repo.REPO_EXTEND_SOLVABLES)
    pool.addfileprovides()
    pool.createwhatprovides()
    present = [
        solvable
        for solvable in pool.solvables_iter()
        if solvable.lookup_location()[0].rsplit("/", 1)[-1] in names
    ]
    ids = {solvable.id for solvable in present}
    return sorted(
        {
            (str(solvable), str(requirement))
            for solvable in present
            for requirement in requirements(solvable)
            if str(requirement) not in given
            and not ids & {provider.id for provider in pool.whatprovides(requirement)}
        }
    )


def users(
    pool: solv.Pool, bundle: Sequence[solv.XSolvable], baseline: Collection[int]
) -> dict[int, list[solv.XSolvable]]:
    """Return for each package of the bundle, by id, those of the bundle that require it.

    A requirement that the baseline fulfils is no reason for anything. A conditional one (``perl if git``)
    only counts for a package that has no other reason: its condition need not hold.
    """
    plain: dict[int, dict[int, solv.XSolvable]] = {}
    conditional: dict[int, dict[int, solv.XSolvable]] = {}
    in_bundle = {solvable.id for solvable in bundle}
    outside = set(baseline) - in_bundle
    for solvable in bundle:
        for requirement in requirements(solvable):
            providers = {provider.id for provider in pool.whatprovides(requirement)}
            if providers & outside or solvable.id in providers:
                continue
            reasons = conditional if str(requirement).startswith("(") else plain
            for provider in providers & in_bundle:
                reasons.setdefault(provider, {})[solvable.id] = solvable
    return {package_id: list(found.values()) for package_id, found in (conditional | plain).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossing:
    """A dependency that a solution takes from a repository that it may not be taken from."""

    requirement: str
    user: solv.XSolvable
    provider: solv.XSolvable


def crossings(
    pool: solv.Pool, solution: Sequence[solv.XSolvable], is_allowed: Callable[[solv.XSolvable], bool]
) -> Iterator[Crossing]:
    """Yield the dependencies within a solution that are there for packages of other repositories alone.

    ``is_allowed`` says what may be there for whoever needs it. The rest, the strangers, may be there for a
    package of their own repository; then others may use them too.
    """
    strangers = {solvable.id: solvable for solvable in solution if not is_allowed(solvable)}
    if not strangers:
        return
    uses = list(_uses(pool, solution, strangers))
    grounded = {solvable.id for solvable in solution} - strangers.keys()
    while True:
        more = {
            use.provider.id
            for use in uses
            if use.user.id in grounded and use.user.repo.name == use.provider.repo.name
        } - grounded
        if not more:
            break
        grounded |= more
    yield from (use for use in uses if use.provider.id not in grounded)


def _uses(
    pool: solv.Pool, solution: Sequence[solv.XSolvable], strangers: Mapping[int, solv.XSolvable]
) -> Iterator[Crossing]:
    """Yield every requirement that nothing but strangers meets."""
    chosen = {solvable.id for solvable in solution}
    for user in solution:
        for requirement in requirements(user):
            providers = {provider.id for provider in pool.whatprovides(requirement)} & chosen
            if providers and providers <= strangers.keys() and user.id not in providers:
                for number in sorted(providers):
                    yield Crossing(requirement=str(requirement), user=user, provider=strangers[number])


def composed_closure(names: Iterable[str], packages: Sequence[LockedPackage]) -> tuple[str, ...]:
    """Return the names with all locked packages that they require, sorted."""
    requires: dict[str, set[str]] = {}
    for package in packages:
        for user in package.required_by:
            requires.setdefault(user, set()).add(package.name)
    return tuple(sorted(reachable(names, requires)))


def reachable(names: Iterable[str], requires: Mapping[str, Collection[str]]) -> set[str]:
    """Return names with all that is required by them, and by those in turn."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += requires.get(name, ())
    return found
