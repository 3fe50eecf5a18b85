# SPDX-License-Identifier: Apache-2.0
"""Say whether packages give what others require, from their headers alone: no repository, no host.

Source: rpm 4.16, lib/rpmds.c (rpmdsCompare); docs/manual/dependencies.md and boolean_dependencies.md.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator

from build.base.rpmversion import version_key
from build.upstream import rpmtags
from build.upstream.rpmtags import Tags

LESS, GREATER, EQUAL = 2, 4, 8
_SENSE = LESS | GREATER | EQUAL
_SIGNS = {LESS: "<", GREATER: ">", EQUAL: "=", LESS | EQUAL: "<=", GREATER | EQUAL: ">="}
#: Required by a scriptlet only: before, after, at removal, around a transaction, or as its interpreter.
_SCRIPT = sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))
_OF_RPM = 1 << 24
_WORD = re.compile(r"[()]|[^\s()]+(?:\([^\s()]*\))*")


@dataclasses.dataclass(frozen=True)
class Capability:
    """A name, and a range of versions where ``sense`` is not 0."""

    name: str
    sense: int = 0
    evr: str = ""

    def __str__(self) -> str:
        return f"{self.name} {_SIGNS.get(self.sense, '')} {self.evr}".rstrip()


def required_at_run(tags: Tags) -> Iterator[Capability]:
    """Yield what a package requires to run: neither what only its scriptlets do, nor what rpm itself gives."""
    for flags, capability in _capabilities(
        tags, rpmtags.REQUIRES, rpmtags.REQUIRE_FLAGS, rpmtags.REQUIRE_VERSIONS
    ):
        if not flags & (_SCRIPT | _OF_RPM) and not capability.name.startswith("rpmlib("):
            yield capability


def _capabilities(tags: Tags, names: int, flags: int, versions: int) -> Iterator[tuple[int, Capability]]:
    texts = tags.texts(versions)
    senses = tags.numbers(flags)
    for number, name in enumerate(tags.texts(names)):
        flag = senses[number] if number < len(senses) else 0
        evr = texts[number] if number < len(texts) else ""
        yield flag, Capability(name, flag & _SENSE if evr else 0, evr)


class Given:
    """All that a set of installed packages provides: capabilities, and their files."""

    def __init__(self, headers: Iterable[Tags]) -> None:
        self._provided: dict[str, list[Capability]] = {}
        for tags in headers:
            own = Capability(tags.text(rpmtags.NAME), EQUAL, tags.evr)
            provided = _capabilities(tags, rpmtags.PROVIDES, rpmtags.PROVIDE_FLAGS, rpmtags.PROVIDE_VERSIONS)
            for capability in (
                own,
                *(capability for _, capability in provided),
                *map(Capability, tags.files),
            ):
                self._provided.setdefault(capability.name, []).append(capability)

    def has(self, wanted: Capability) -> bool:
        """Say whether something provides a capability; a boolean one is judged by its parts."""
        if wanted.name.startswith("("):
            return _Rich(wanted.name, self).value()
        return any(overlaps(provided, wanted) for provided in self._provided.get(wanted.name, ()))


def overlaps(one: Capability, other: Capability) -> bool:
    """Say whether two ranges of one name have a version in common; without a version, all are meant.

    >>> overlaps(Capability("a", EQUAL, "1.10-1"), Capability("a", GREATER | EQUAL, "1.9"))
    True
    >>> overlaps(Capability("a", EQUAL, "1:1.0-1"), Capability("a", LESS, "2.0"))
    False
    """
    if not one.sense or not other.sense:
        return True
    left, right = _parts(one.evr), _parts(other.evr)
    if not left[2] or not right[2]:
        left, right = (*left[:2], ""), (*right[:2], "")
    keys = [
        (int(epoch), version_key(version), version_key(release)) for epoch, version, release in (left, right)
    ]
    if keys[0] < keys[1]:
        return bool(one.sense & GREATER or other.sense & LESS)
    if keys[0] > keys[1]:
        return bool(one.sense & LESS or other.sense & GREATER)
    return bool(one.sense & other.sense)


def _parts(evr: str) -> tuple[str, str, str]:
    epoch, _, rest = evr.rpartition(":")
    version, _, release = rest.partition("-")
    return epoch if epoch.isdecimal() else "0", version, release


class _Rich:
    """A boolean dependency: ``(a >= 1 and (b or c))``, ``(a if b else c)``."""

    def __init__(self, text: str, given: Given) -> None:
        self._words: list[str] = [*_WORD.findall(text), ""]
        self._given = given
        self._at = 0

    def value(self) -> bool:
        """Say whether it holds; what cannot be read does not."""
        try:
            return self._group()
        except (IndexError, RecursionError):
            return False

    def _next(self) -> str:
        self._at += 1
        return self._words[self._at - 1]

    def _group(self) -> bool:
        """Read from one bracket to its end."""
        self._next()
        holds = self._term()
        while (operator := self._next()) != ")":
            other = self._term()
            if operator in ("if", "unless"):
                is_asked = other if operator == "if" else not other
                has_else = self._words[self._at] == "else"
                otherwise = self._else() if has_else else operator == "if"
                holds = holds if is_asked else otherwise
            elif operator == "or":
                holds = holds or other
            elif operator in ("and", "with"):
                holds = holds and other
            elif operator == "without":
                holds = holds and not other
            else:
                return False
        return holds

    def _else(self) -> bool:
        self._next()
        return self._term()

    def _term(self) -> bool:
        if self._words[self._at] == "(":
            return self._group()
        name = self._next()
        signs = {sign: sense for sense, sign in _SIGNS.items()}
        sense = signs.get(self._words[self._at], 0)
        if not sense:
            return self._given.has(Capability(name))
        self._next()
        return self._given.has(Capability(name, sense, self._next()))
