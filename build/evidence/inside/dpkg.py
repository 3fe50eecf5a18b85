# SPDX-License-Identifier: Apache-2.0
"""Read the database of Debian's dpkg, or the files that images without a dpkg have in its place.

Source: dpkg 1.22, deb-control(5) and dpkg-query(1), "Package State"; distroless images, /var/lib/dpkg/status.d.
"""

from __future__ import annotations

import re

from build.evidence.inside.model import Package, stanzas

PATHS = re.compile(r"var/lib/dpkg/(?:status|status\.d/(?!.*\.md5sums$)[^/]+)")
_ABSENT = ("not-installed", "config-files")


def read_dpkg(data: bytes) -> tuple[Package, ...]:
    r"""Return the packages that are there; of a removed one only its configuration is left.

    >>> read_dpkg(b"Package: libc6\nStatus: install ok installed\nSource: glibc\nVersion: 2.41-12\n")[0].source
    'glibc'
    """
    return tuple(
        Package(
            kind="deb",
            name=item["Package"],
            version=item["Version"],
            arch=item.get("Architecture", ""),
            source=_source(item.get("Source", "")),
        )
        for item in stanzas(data.decode(errors="replace"))
        if item.get("Package") and item.get("Version") and not item.get("Status", "").endswith(_ABSENT)
    )


def _source(text: str) -> str:
    """Return a source package as scanners write it.

    >>> _source("gcc-14 (14.2.0-19)"), _source("glibc"), _source("")
    ('gcc-14@14.2.0-19', 'glibc', '')
    """
    name, _, version = text.partition(" ")
    return f"{name}@{version.strip(' ()')}" if version else name
