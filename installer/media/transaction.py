# SPDX-License-Identifier: Apache-2.0
"""Note the start and the end of a transaction of packages: one that was cut has to be finished.

rpm enters a package into its database before it runs what the package runs after its installation. When that is cut
(a kill, a power cut), the package looks installed for ever, and what its script had to do was never done: with
container-selinux that is the policy without which no container starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from installer.base.files import write_file
from installer.base.paths import Paths
from installer.media.rpmdb import Build, Found, Package


@dataclass(frozen=True)
class Note:
    """What is noted of the last transaction.

    ``before``: what was installed when it began, while it has not ended. ``settled``: name -> what the media offered
    and what was installed when it had ended; a newer package of the host stays, and dnf is not asked again.
    """

    before: frozenset[Package] | None = None
    settled: Mapping[str, Sequence[str]] = field(default_factory=dict)
    brought: frozenset[str] | None = frozenset()
    """Packages (``name.arch``) that transactions which have ended brought to a host without them; a reset removes
    them. None: the version that installed them did not note it."""

    @property
    def is_open(self) -> bool:
        """Say whether the transaction has begun and not ended."""
        return self.before is not None

    def has_settled(self, name: str, offered: str, found: Found) -> bool:
        """Say whether dnf has seen just this offer beside just this package, and let it be."""
        return list(self.settled.get(name, ())) == [offered, *found]


@dataclass(frozen=True)
class Cut:
    """What a cut transaction brought: ``fresh`` to a host without them, ``replaced`` where another was."""

    fresh: tuple[Package, ...] = ()
    replaced: tuple[Package, ...] = ()
    leftover: tuple[Package, ...] = ()
    """What was replaced and is in the database still."""

    def __bool__(self) -> bool:
        return bool(self.fresh or self.replaced)


def read(paths: Paths) -> Note:
    """Return what is noted; nothing on a host where no transaction was begun."""
    try:
        data = json.loads(paths.transaction_file.read_text(encoding="utf-8"))
        before = data.get("before")
        return Note(
            None if before is None else frozenset(Package(*entry) for entry in before),
            dict(data.get("settled", {})),
            None if "brought" not in data else frozenset(map(str, data["brought"])),
        )
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return Note()


def begin(paths: Paths, before: Iterable[Package], brought: frozenset[str] | None = frozenset()) -> None:
    """Note what is installed, on the disk, before the first package is; ``brought``: what earlier ones have."""
    _write(paths, {"before": sorted(before)}, brought)


def end(
    paths: Paths, settled: Mapping[str, Sequence[str]], brought: frozenset[str] | None = frozenset()
) -> None:
    """Note that the transaction has ended well, once all that it wrote is on the disk; ``brought``: what all have."""
    os.sync()
    _write(paths, {"settled": {name: list(words) for name, words in sorted(settled.items())}}, brought)


def brought(note: Note, now: frozenset[Package], offered: Collection[Build]) -> frozenset[str] | None:
    """Return what Caisson's transactions have brought, a cut one too, as ``name.arch``; None when not noted. Pure.

    Of what came since a cut, only builds that the media has (``offered``) are its.

    >>> old, new, other = Package("a", "1-1", "x"), Package("b", "1-1", "x"), Package("d", "1-1", "x")
    >>> note = Note(before=frozenset({old}), brought=frozenset({"c.x"}))
    >>> sorted(brought(note, frozenset({old, new, other}), {new.build}))
    ['b.x', 'c.x']
    >>> brought(Note(brought=None), frozenset({old}), ()) is None
    True
    """
    if note.brought is None or note.before is None:
        return note.brought
    return note.brought | fresh(note.before, {package for package in now if package.build in offered})


def has_brought(note: Note, name: str) -> bool:
    """Say whether a package of this name was not there before Caisson's transactions. Pure.

    >>> has_brought(Note(brought=frozenset({"socat.x86_64"})), "socat"), has_brought(Note(), "socat")
    (True, False)
    """
    if note.brought is not None and any(entry.startswith(f"{name}.") for entry in note.brought):
        return True
    return note.before is not None and all(package.name != name for package in note.before)


def fresh(before: Iterable[Package], now: Iterable[Package]) -> frozenset[str]:
    """Return which packages are there that were not in any version, as ``name.arch``. Pure."""
    return frozenset(package.name_arch for package in now) - {package.name_arch for package in before}


def forget(paths: Paths, brought: frozenset[str] | None = frozenset()) -> None:
    """Take the note back: the transaction has changed nothing; what earlier ones brought stays noted."""
    if brought:
        _write(paths, {}, brought)
    else:
        paths.transaction_file.unlink(missing_ok=True)


def find_cut(before: frozenset[Package], now: frozenset[Package], offered: frozenset[Build]) -> Cut:
    """Return what a cut transaction has brought: only builds that the media has can be of it.

    Any other that came since is the site's (an update from its own mirror, say), and so is all of that name: its
    dnf has seen to what the cut had left there.

    >>> old, new, other = Package("a", "1-1", "x"), Package("a", "2-1", "x"), Package("b", "1-1", "x")
    >>> of_site = Package("c", "9-1", "x")
    >>> offered = frozenset({new.build, other.build, Build("c", "1-1")})
    >>> find_cut(frozenset({old}), frozenset({old, new, other, of_site}), offered)
    Cut(fresh=(Package(name='b', version='1-1', arch='x'),), \
replaced=(Package(name='a', version='2-1', arch='x'),), leftover=(Package(name='a', version='1-1', arch='x'),))
    """
    added = sorted(now - before)
    of_site = {(package.name, package.arch) for package in added if package.build not in offered}
    known = {(package.name, package.arch) for package in before}
    brought = [package for package in added if (package.name, package.arch) not in of_site]
    replaced = [package for package in brought if (package.name, package.arch) in known]
    again = {(package.name, package.arch) for package in replaced}
    return Cut(
        fresh=tuple(package for package in brought if (package.name, package.arch) not in known),
        replaced=tuple(replaced),
        leftover=tuple(package for package in sorted(now & before) if (package.name, package.arch) in again),
    )


def _write(paths: Paths, content: Mapping[str, object], brought: frozenset[str] | None) -> None:
    noted = {} if brought is None else {"brought": sorted(brought)}
    write_file(paths.transaction_file, json.dumps({**content, **noted}, indent=1) + "\n", mode=0o600)
