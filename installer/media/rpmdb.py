# SPDX-License-Identifier: Apache-2.0
"""Ask rpm's database of this host: one process a question, however many packages it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from installer.base.errors import CommandError, PackageError
from installer.base.run import run

TIMEOUT_S = 300.0
SCRIPTS_TIMEOUT_S = 1800.0
PROVIDED = "[%{=NAME} %{=VERSION}-%{=RELEASE} %{PROVIDENAME}\\n]"
LISTED = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\\n"
OWNED = "%{=NAME}-%{=VERSION}-%{=RELEASE}.%{=ARCH}"
ENTRY = "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH} %{DBINSTANCE}\\n"
"""The number of the entry is never given twice. Source: rpm, lib/tagexts.c, RPMTAG_DBINSTANCE."""
NEEDED = re.compile(r"^\s*(?P<what>.+?) is needed by (?:\(installed\) )?(?P<who>\S+)$", re.MULTILINE)
"""A line of ``rpm --erase --test``. Source: rpm 4.16, lib/rpmps.c, RPMPROB_REQUIRES."""
VERIFIED = re.compile(r"^(?P<marks>missing|[.?A-Z0-9]{8,9}) +(?:(?P<kind>[acdglmnr]) +)?(?P<path>/.+)$")
"""A line of ``rpm --verify``. Source: rpm(8), "VERIFY OPTIONS"."""
OTHERS_OWN = ("c", "d", "g", "l", "r")
"""Configuration, documentation, ghosts, licences, readmes: what a site may have changed."""


class Build(NamedTuple):
    """What a media offers: a package in one version-release, without an epoch."""

    name: str
    version: str


class Package(NamedTuple):
    """One installed package; ``version`` is version-release, without an epoch."""

    name: str
    version: str
    arch: str

    @property
    def build(self) -> Build:
        """Return the build that this is an installation of."""
        return Build(self.name, self.version)

    @property
    def nevra(self) -> str:
        """Return what rpm and dnf call this very package."""
        return f"{self.name}-{self.version}.{self.arch}"

    @property
    def name_arch(self) -> str:
        """Return what it is in any version."""
        return f"{self.name}.{self.arch}"


class Found(NamedTuple):
    """The package that provides what was asked for: mostly one of that name."""

    name: str
    version: str


class Change(NamedTuple):
    """A file that is not as its package has it: the marks of what differs (or "missing"), and the kind of file."""

    marks: str
    kind: str
    path: str


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


def removable(wanted: Sequence[Package]) -> tuple[list[Package], dict[str, str]]:
    """Return which of these packages nothing else needs, and of the others (by name) what does. Only looks.

    Raises:
        PackageError: rpm says something else than that.
    """
    going, needed = list(wanted), {}
    while going:
        words = ["rpm", "--erase", "--test", "--allmatches", *(package.nevra for package in going)]
        tested = run(words, timeout_s=TIMEOUT_S, check=False)
        if tested.returncode == 0:
            break
        faults = {match["what"]: match["who"] for match in NEEDED.finditer(tested.stderr)}
        providers = installed_providers(list(faults))
        staying = {name: faults[what] for what, names in providers.items() for name in names}
        left = [package for package in going if package.name not in staying]
        if len(left) == len(going):
            raise PackageError(
                "rpm does not say which packages can be removed",
                details=tested.stderr.strip()[-2000:],
                resolution="see 'rpm --erase --test' of them",
            )
        needed.update({name: f"stays: {who} needs it" for name, who in staying.items()})
        going = left
    return going, {package.name: needed[package.name] for package in wanted if package.name in needed}


def installed_providers(capabilities: Sequence[str]) -> dict[str, list[str]]:
    """Return which installed packages provide each capability (``libx.so.1()(64bit)``, ``socat >= 1.7``)."""
    found = {}
    for capability in capabilities:
        name = capability.split(" ")[0]
        words = ["rpm", "-q", "--whatprovides", "--qf", "%{NAME}\\n", name]
        answer = run(words, timeout_s=TIMEOUT_S, check=False)
        found[capability] = answer.stdout.split() if answer.returncode == 0 else []
    return found


def verify(names: Sequence[str]) -> list[Change]:
    """Return which files of packages are not as their packages have them; times are not looked at."""
    words = ["rpm", "--verify", "--nodeps", "--noscripts", "--nomtime", *names]
    return changes_of(run(words, timeout_s=TIMEOUT_S, check=False).stdout) if names else []


def changes_of(text: str) -> list[Change]:
    r"""Return the files in what ``rpm --verify`` prints.

    >>> changes_of("S.5....T.  c /etc/a\nmissing     /usr/b c\nUnsatisfied dependencies for x\n")
    [Change(marks='S.5....T.', kind='c', path='/etc/a'), Change(marks='missing', kind='', path='/usr/b c')]
    """
    return [
        Change(match["marks"], match["kind"] or "", match["path"])
        for match in map(VERIFIED.match, text.splitlines())
        if match
    ]


def damaged(names: Sequence[str]) -> list[str]:
    """Return the files of packages whose content is not the package's; configuration is the site's own."""
    changes = verify(names)
    return [entry.path for entry in changes if entry.marks[2] == "5" and entry.kind not in OTHERS_OWN]


def owners(nevras: Sequence[str]) -> dict[str, str]:
    """Return path -> package (its nevra) of every file of these packages."""
    words = ["rpm", "--query", "--qf", f"[{OWNED} %{{FILENAMES}}\\n]", *nevras]
    lines = run(words, timeout_s=TIMEOUT_S, check=False).stdout.splitlines()
    return {path: nevra for nevra, _, path in (line.partition(" ") for line in lines)}


def entries(nevras: Sequence[str]) -> frozenset[str]:
    """Return the entry of each of these packages in the database: one that is installed again has another."""
    words = ["rpm", "--query", "--qf", ENTRY, *nevras]
    return frozenset(run(words, timeout_s=TIMEOUT_S, check=False).stdout.splitlines())
