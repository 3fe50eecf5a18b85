# SPDX-License-Identifier: Apache-2.0
"""Where a file of a yum repository is: from what metadata says to a place below the repository, to its address.

href, xml:base --relative_location--> location in the lock --file_url--> address at one of the mirrors

What a lock names lies below the repository's own addresses, so that any mirror can have it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit

from build.base.errors import IntegrityError

_ESCAPE = re.compile(r"(%[0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PORTS = {"http": 80, "https": 443}


def file_url(base_url: str, location: str) -> str:
    """Return the address of a file of a repository, with every character that has a meaning in one encoded.

    What is encoded already stays as it is. A server of plain files takes ``+`` for itself; S3 takes it for a
    blank, so that only ``%2B`` finds the file in both. Source: createrepo_c#215, libdnf#954.

    >>> file_url("https://example.com/el9/", "Packages/gcc-c++-11.5.0~rc1^1.rpm")
    'https://example.com/el9/Packages/gcc-c%2B%2B-11.5.0~rc1%5E1.rpm'
    """
    parts = _ESCAPE.split(location)
    return base_url + "".join(part if _ESCAPE.fullmatch(part) else quote(part, safe="/~:") for part in parts)


def relative_location(base_urls: Sequence[str], href: str, base: str, what: str) -> str:
    """Return a place relative to the repository: what ``href``, below ``base`` (``xml:base``), means.

    An absolute address is taken where it lies below one of the repository's own: the bytes come from these
    all the same. Whether it says http or https does not matter for that.

    Raises: IntegrityError when it lies elsewhere.
    """
    joined = href if _is_absolute(href) or not base else f"{base.rstrip('/')}/{href}"
    if not _is_absolute(joined):
        return _inside(joined, href, what)
    try:
        place, path = _place(joined)
    except ValueError as exc:
        raise IntegrityError(
            f"{what} has an address that cannot be read",
            details=f"metadata says {joined} (xml:base): {exc}",
            resolution="the repository's metadata is wrong: report it there, or use another mirror",
        ) from exc
    for base_url in base_urls:
        root_place, root = _place(base_url)
        if place == root_place and path.startswith(root) and path != root:
            return _inside(path.removeprefix(root), href, what)
    raise IntegrityError(
        f"{what} lies outside its repository",
        details=f"metadata says {joined} (xml:base); the repository is {' or '.join(base_urls) or 'elsewhere'}",
        resolution="name the address that has the files as a base_url of the repository in the profile, "
        "or use a mirror that has metadata and files below one address",
    )


def _is_absolute(text: str) -> bool:
    """Say whether a text begins with a scheme or a host; a colon in a file name is neither."""
    found = _SCHEME.match(text)
    return text.startswith("//") or (found is not None and text[found.end() :].startswith("//"))


def _place(url: str) -> tuple[tuple[str, int | None], str]:
    """Return host and port, and the path without escapes: what two spellings of one address share."""
    parts = urlsplit(url)
    is_default = parts.port is None or parts.port == _PORTS.get(parts.scheme.lower())
    path = re.sub("/{2,}", "/", unquote(parts.path))
    return ((parts.hostname or "").lower(), None if is_default else parts.port), path


def _inside(path: str, href: str, what: str) -> str:
    location = posixpath.normpath(path)
    if path.startswith("/") or location == "." or location.startswith("../") or location == "..":
        raise IntegrityError(
            f"{what} names a file outside the repository",
            details=f"location: {href}",
            resolution="the repository's metadata is wrong: report it there, or use another mirror",
        )
    return location
