# SPDX-License-Identifier: Apache-2.0
"""Prove that the Python which comes with Salt's packages is one that the console runs on, with what it imports.

    headers of the locked RPMs of Salt (store) -> their files -> python3.N, tornado, jinja2 -> faults

Nothing of the console's is vendored: each node has Salt's own Python, and so the console has what Salt brings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from build.evidence.imagebase import header_of
from build.inventory.model import Lock, LockedPackage
from build.store.objects import Store

ASKED_BY = "salt-minion"
"""The package that each node has; a bundle without it has no console either."""
PREFIX = "salt"
ONEDIR = "/opt/saltstack/salt"
PROGRAM = f"{ONEDIR}/bin/python3"
LEAST_MINOR = 11
LEAST_TORNADO = (6, 5, 10)
_LIBRARY = re.compile(rf"{ONEDIR}/lib/python3\.(\d+)/(?:site-packages/)?(\S+)")
_DISTRIBUTION = re.compile(
    r"(?:site-packages/)?(tornado|jinja2|markupsafe)-([0-9.]+)\.dist-info\b", re.IGNORECASE
)


def salt_packages(lock: Lock) -> tuple[LockedPackage, ...]:
    """Return the packages of Salt; none where no node gets Salt."""
    named = tuple(package for package in lock.packages if package.name.split("-")[0] == PREFIX)
    return named if any(package.name == ASKED_BY for package in named) else ()


def missing_python(lock: Lock, store: Store) -> list[str]:
    """Return what of the console's Python is not in the packages. Raises: MissingError; IntegrityError."""
    packages = salt_packages(lock)
    if not packages:
        return []
    return faults_of(file for package in packages for file in header_of(package, store).files)


def faults_of(files: Iterable[str]) -> list[str]:
    """Return what is missing among the files of Salt's packages. Pure.

    >>> faults_of(["/opt/saltstack/salt/bin/python3.10"])[0]
    'the program /opt/saltstack/salt/bin/python3, wanted by the console'
    """
    named = set(files)
    minors = {int(found[1]) for found in map(_LIBRARY.match, named) if found}
    there = {found[1].lower(): found[2] for found in map(_DISTRIBUTION.search, named) if found}
    faults = [] if PROGRAM in named else [f"the program {PROGRAM}, wanted by the console"]
    if not minors or max(minors) < LEAST_MINOR:
        shown = ", ".join(f"3.{minor}" for minor in sorted(minors)) or "none"
        faults.append(f"Python 3.{LEAST_MINOR} or newer in {ONEDIR} (there: {shown}), wanted by the console")
    faults += [
        f"the Python package {name} in {ONEDIR}, wanted by the console"
        for name in ("tornado", "jinja2", "markupsafe")
        if name not in there
    ]
    tornado = there.get("tornado", "")
    if tornado and _version(tornado) < LEAST_TORNADO:
        least = ".".join(map(str, LEAST_TORNADO))
        faults.append(f"tornado {least} or newer in {ONEDIR} (there: {tornado}), wanted by the console")
    return faults


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)
