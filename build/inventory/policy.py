# SPDX-License-Identifier: Apache-2.0
"""Hold what was resolved to the policy: licences of packages, keys of repositories.

Registries are checked where the inventory is read: they are known before anything is asked.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from build.base.errors import PolicyError, joined_faults
from build.inventory.model import Inventory, LockedPackage, Policy, Repository

# A licence tag: names, which may hold blanks, joined by and, or, with; commas are old for "and".
_WORDS = re.compile(r"\(|\)|,|\band\b|\bor\b|\bwith\b|[^\s(),]+", re.IGNORECASE)
_AND = frozenset({"and", ","})
_OPERATORS = _AND | {"or", "with", "(", ")"}


def check_policy(
    packages: Sequence[LockedPackage], repositories: Iterable[Repository], inventory: Inventory
) -> None:
    """Check all packages and keys.

    Raises: PolicyError with every package and key that the policy does not allow.
    """
    policy = inventory.policy
    wanted = {package.name: package.source for package in inventory.packages}
    faults = [
        f"package {package.nevra} has licence '{package.licence or 'none'}'; "
        + (f"wanted by {wanted[package.name]}" if package.name in wanted else _required_by(package))
        for package in packages
        if not is_licence_allowed(package.licence, policy)
    ]
    faults += [
        f"repository '{repository.id}' is signed by key {key.fingerprint}"
        for repository in repositories
        for key in repository.keys
        if policy.keys and key.fingerprint not in policy.keys
    ]
    if faults:
        raise PolicyError(
            f"the policy does not allow {len(faults)} thing{'s' if len(faults) > 1 else ''} of this lock",
            details=joined_faults(faults),
            resolution="leave out what is named, or allow it in policy.yaml (policy=PATH for your own)",
        )


def _required_by(package: LockedPackage) -> str:
    return f"required by {', '.join(package.required_by) or 'nothing'}"


def is_licence_allowed(text: str, policy: Policy) -> bool:
    """Say whether a licence tag is allowed: of names joined by "and" all must be, of "or" one.

    Upper and lower case are the same. Source: SPDX 2.3, annex D.2, "Case sensitivity".

    >>> policy = Policy(licences=("MIT", "GPL*"))
    >>> [is_licence_allowed(tag, policy) for tag in ("MIT", "GPLv2+ and (BSD or MIT)", "MIT and BSD", "")]
    [True, True, False, False]
    """
    words = [word if word.lower() not in _OPERATORS else word.lower() for word in _WORDS.findall(text)]
    return _Expression(words, policy).allows() if words else False


class _Expression:
    """A licence tag that is read from left to right; "and" binds closer than "or"."""

    def __init__(self, words: Sequence[str], policy: Policy) -> None:
        self._words = list(words)
        self._policy = policy

    def allows(self) -> bool:
        """Say whether the whole tag is allowed; one that cannot be read is not."""
        is_good = self._any()
        return is_good and not self._words

    def _any(self) -> bool:
        is_good = self._all()
        while self._next() == "or":
            self._words.pop(0)
            is_good = self._all() or is_good
        return is_good

    def _all(self) -> bool:
        is_good = self._one()
        while self._next() in _AND:
            self._words.pop(0)
            is_good = self._one() and is_good
        return is_good

    def _one(self) -> bool:
        if self._next() == "(":
            self._words.pop(0)
            is_good = self._any()
            if self._next() == ")":
                self._words.pop(0)
            return is_good
        name = self._name()
        if self._next() == "with":  # an exception only ever permits more
            self._words.pop(0)
            self._name()
        return bool(name) and any(
            fnmatch.fnmatchcase(name.lower(), item.lower()) for item in self._policy.licences
        )

    def _name(self) -> str:
        words = []
        while self._words and self._words[0] not in _OPERATORS:
            words.append(self._words.pop(0))
        return " ".join(words)

    def _next(self) -> str:
        return self._words[0] if self._words else ""
