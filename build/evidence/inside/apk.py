# SPDX-License-Identifier: Apache-2.0
"""Read the database of Alpine's apk. Source: apk-tools 2.14 and 3, "installed"; Alpine wiki, "Apk spec"."""

from __future__ import annotations

import re

from build.evidence.inside.model import Package, stanzas

PATHS = re.compile(r"(?:usr/)?lib/apk/db/installed")


def read_apk(data: bytes) -> tuple[Package, ...]:
    r"""Return the packages of a database.

    >>> read_apk(b"P:libssl3\nV:3.5.1-r0\nA:x86_64\no:openssl\nL:Apache-2.0\n\n")[0].source
    'openssl'
    """
    return tuple(
        Package(
            kind="apk",
            name=item["P"],
            version=item["V"],
            arch=item.get("A", ""),
            source="" if item.get("o") == item["P"] else item.get("o", ""),
            licence=item.get("L", ""),
        )
        for item in stanzas(data.decode(errors="replace"))
        if item.get("P") and item.get("V")
    )
