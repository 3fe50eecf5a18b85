# SPDX-License-Identifier: Apache-2.0
"""Read WWW-Authenticate: which ways to log in a server offers.

Source: RFC 9110, section 11 (challenges, auth-param, token68) and 5.6 (tokens, quoted strings, lists).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a word of the grammar
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))(?=[ \t]*(?:,|$))')
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t]|,|$)")
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BETWEEN = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Challenge:
    """One way to log in. ``scheme`` and the names of ``parameters`` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Return the challenges of a header, or of several that were joined by commas, in their order.

    What cannot be read ends the reading: the challenges before it count.

    >>> [challenge.scheme for challenge in parse_challenges('Basic realm="a, b", BEARER realm=c')]
    ['basic', 'bearer']
    """
    found: list[tuple[str, dict[str, str]]] = []
    at = _skip(_BETWEEN, header, 0)
    while at < len(header):
        parameter = _PARAMETER.match(header, at)
        if parameter and found:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            found[-1][1].setdefault(name.lower(), value)
            at = parameter.end()
        else:
            scheme = _SCHEME.match(header, at)
            if scheme is None:
                break
            found.append((scheme[1].lower(), {}))
            at = _skip(_TOKEN68, header, scheme.end())
        at = _skip(_BETWEEN, header, at)
    return tuple(Challenge(scheme=scheme, parameters=parameters) for scheme, parameters in found)


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a pattern that fits at a place ends; the place where it does not fit."""
    match = pattern.match(text, at)
    return match.end() if match else at
