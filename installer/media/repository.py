# SPDX-License-Identifier: Apache-2.0
"""Tell which builds of packages the media has: product.json lists the newest of a name, its repository has all."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from installer.media.product import Product
from installer.media.rpmdb import Build

REPOSITORY = "repo/el9"


def builds(media_dir: Path, product: Product) -> frozenset[Build]:
    """Return every build that the media can install.

    Metadata that cannot be read adds none: dnf reads it next, and says in its words what is wrong with it.
    Source: createrepo_c, repomd.xml and primary.xml; the builder writes gzip.
    """
    newest = {Build(name, version.split(":")[-1]) for name, version in product.packages.items()}
    try:
        return frozenset({*newest, *_listed(media_dir / REPOSITORY)})
    except (OSError, EOFError, zlib.error, ET.ParseError, KeyError):
        return frozenset(newest)


def _listed(directory: Path) -> Iterator[Build]:
    primary = gzip.decompress((directory / _primary(directory / "repodata/repomd.xml")).read_bytes())
    for entry in ET.fromstring(primary).iterfind("{*}package"):  # noqa: S314 - the media's, verified
        for version in entry.iterfind("{*}version"):
            yield Build(entry.findtext("{*}name", ""), f"{version.attrib['ver']}-{version.attrib['rel']}")


def _primary(file: Path) -> str:
    """Return the path of the list of packages, relative to the repository. Raises: KeyError when it is not named."""
    root = ET.parse(file).getroot()  # noqa: S314 - the media's, verified
    for data in root.iterfind("{*}data[@type='primary']"):
        for location in data.iterfind("{*}location"):
            return location.attrib["href"]
    raise KeyError("primary")
