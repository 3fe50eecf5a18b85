# SPDX-License-Identifier: Apache-2.0
"""A package that a database names, and the form that two of the databases share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package. ``kind`` is the type of its package URL: ``apk``, ``deb``, ``rpm``, ``pypi``.

    ``version`` is whole, with epoch and release where there are such. ``source`` is what it was built from, as
    scanners look it up: a source package (``name`` or ``name@version``), or the file name of a source RPM.
    """

    kind: str
    name: str
    version: str
    arch: str = ""
    source: str = ""
    licence: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """The distribution of a user land: ``ID`` and ``VERSION_ID`` of its os-release."""

    id: str = ""
    version: str = ""


def stanzas(text: str) -> Iterator[dict[str, str]]:
    r"""Yield the paragraphs of ``Field: value`` lines; lines that continue a value are left out.

    >>> list(stanzas("A: 1\n  more\nA: 2\n\n\nB:x:y\n"))
    [{'A': '1'}, {'B': 'x:y'}]
    """
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            if found:
                yield found
            found = {}
        elif not line[0].isspace():
            field, colon, value = line.partition(":")
            if colon:
                found.setdefault(field, value.strip())
    if found:
        yield found


def read_release(data: bytes) -> Release:
    r"""Read an os-release file. Source: os-release(5).

    >>> read_release(b'ID="almalinux"\nVERSION_ID=9.8\n# x\n')
    Release(id='almalinux', version='9.8')
    """
    rows = (line.partition("=") for line in data.decode(errors="replace").splitlines())
    values = {name.strip(): value.strip().strip("\"'") for name, _, value in rows}
    return Release(id=values.get("ID", ""), version=values.get("VERSION_ID", ""))
