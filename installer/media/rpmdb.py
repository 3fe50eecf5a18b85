# SPDX-License-Identifier: Apache-2.0
"""Ask rpm's database of this host: one process a question, however many packages it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from installer.base.errors import CommandError, PackageError
from installer.base.run import run

TIMEOUT_S = 300.0
SCRIPTS_TIMEOUT_S = 4 * 3600.0
PROVIDED = "[%{=NAME} %{=VERSION}-%{=RELEASE} %{PROVIDENAME}\\n]"
LISTED = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\\n"
DAMAGED = re.compile(r"^(?:..5|\.M?5)\S*\s+(?:[^cdglr]\s+)?(/.*)$")
"""A line about a file whose content is another, and which is neither configuration nor ghost. Source: rpm(8)."""


class Package(NamedTuple):
    """One installed package; ``version`` is version-release, without an epoch."""

    name: str
    version: str
    arch: str

    @property
    def nevra(self) -> str:
        """Return what rpm and dnf call this very package."""
        return f"{self.name}-{self.version}.{self.arch}"


class Found(NamedTuple):
    """The package that provides what was asked for: mostly one of that name."""

    name: str
    version: str


def installed(names: Sequence[str]) -> dict[str, Found]:
    """Return who provides each of ``names``, of those that are provided by any installed package.

    A name counts that only another package provides: ``ebtables`` comes with ``iptables-nft``.
    """
    words = ["rpm", "-q", "--whatprovides", "--qf", PROVIDED, *names]
    completed = run(words, timeout_s=TIMEOUT_S, check=False)
    found: dict[str, Found] = {}
    for line in completed.stdout.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] in names and (parts[2] not in found or parts[0] == parts[2]):
            found[parts[2]] = Found(parts[0], parts[1])
    return found


def packages() -> frozenset[Package]:
    """Return every installed package.

    Raises:
        PackageError: rpm's database cannot be read.
    """
    try:
        listed = run(["rpm", "-qa", "--qf", LISTED], timeout_s=TIMEOUT_S)
    except CommandError as exc:
        raise PackageError(
            "rpm's database cannot be read", details=exc.details, resolution="try 'rpm --rebuilddb'"
        ) from exc
    lines = (line.split() for line in listed.stdout.splitlines())
    return frozenset(Package(*line) for line in lines if len(line) == 3)


def forget(gone: Iterable[Package]) -> None:
    """Take packages out of the database and leave their files: they are then installed as if for the first time."""
    names = sorted(package.nevra for package in gone)
    if names:
        words = ["rpm", "--erase", "--justdb", "--nodeps", "--noscripts", "--notriggers", "--allmatches"]
        run([*words, *names], timeout_s=TIMEOUT_S)


def erase(gone: Iterable[Package]) -> None:
    """Remove packages of which another version is installed, with what only they have; their scripts run."""
    names = sorted(package.nevra for package in gone)
    if names:
        run(["rpm", "--erase", "--nodeps", *names], timeout_s=SCRIPTS_TIMEOUT_S)


def damaged(names: Sequence[str]) -> list[str]:
    """Return the files of packages whose content is not the package's; configuration is the site's own."""
    if not names:
        return []
    said = run(["rpm", "--verify", "--nodeps", "--noscripts", *names], timeout_s=TIMEOUT_S, check=False)
    return damaged_of(said.stdout)


def damaged_of(text: str) -> list[str]:
    r"""Return such files in what ``rpm --verify`` prints.

    >>> damaged_of("S.5....T.  c /etc/a\n.......T.    /b\nS.5....T.    /usr/bin/c\n..?......    /d\n")
    ['/usr/bin/c']
    """
    return [match.group(1) for match in map(DAMAGED.match, text.splitlines()) if match]
