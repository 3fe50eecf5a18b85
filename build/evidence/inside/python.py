# SPDX-License-Identifier: Apache-2.0
"""Read what installers of Python packages leave beside them. Source: Core metadata 2.4; setuptools, egg-info."""

from __future__ import annotations

import itertools
import re

from build.evidence.inside.model import Package, stanzas

PATHS = re.compile(r"(?:.*/)?[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)")
_UNKNOWN = "UNKNOWN"


def read_python(data: bytes) -> tuple[Package, ...]:
    r"""Return the one distribution that a file of metadata is about, or nothing.

    >>> read_python(b"Metadata-Version: 2.4\nName: Jinja2\nVersion: 3.1.6\nLicense-Expression: BSD-3-Clause\n\nx")
    (Package(kind='pypi', name='Jinja2', version='3.1.6', arch='', source='', licence='BSD-3-Clause'),)
    """
    for fields in itertools.islice(stanzas(data.decode(errors="replace").replace("\r\n", "\n")), 1):
        if fields.get("Name") and fields.get("Version"):
            licence = fields.get("License-Expression") or fields.get("License", "")
            return (
                Package(
                    kind="pypi",
                    name=fields["Name"],
                    version=fields["Version"],
                    licence="" if licence == _UNKNOWN else licence,
                ),
            )
    return ()
