# SPDX-License-Identifier: Apache-2.0
"""Read the simple index of Python packages, and choose the file of a release.

Source: PEP 503 (HTML), 691 (JSON), 700 (sizes), 592 (yanked); PEP 425 and 427 (names of wheels); PEP 625 (sdists).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from typing_extensions import override

from build.base.errors import NetworkError
from build.inventory.model import Digest, PythonArtifact
from build.upstream.answers import shown_url
from build.upstream.http import HttpClient
from build.upstream.pipconfig import Place

#: The Python of the hosts; a wheel must be for it, on any machine.
TARGET_PYTHON = (3, 9)
_LATEST_OF_TARGET = (3, 9, 99)
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_LARGEST_PAGE_BYTES = 64 << 20
_TAGS = ["py39", "py3", *(f"py3{minor}" for minor in range(8, -1, -1))]
_SDIST_ENDS = (".tar.gz", ".zip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexFile:
    """A file that an index names. What an index need not say is None, or empty."""

    name: str
    url: str
    digest: Digest | None = None
    size_bytes: int | None = None
    requires_python: str = ""


def normal(name: str) -> str:
    """Return the name of a package as indexes have it.

    >>> normal("Zope.Interface_x")
    'zope-interface-x'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_place(place: Place, name: str, http: HttpClient) -> tuple[IndexFile, ...]:
    """Return the files that a place has of a package (a page of links: of any).

    Raises: NotFoundError, CredentialsError, NetworkError.
    """
    scheme = urlsplit(place.url).scheme
    if place.is_links and scheme not in ("http", "https"):
        return tuple(_directory_files(Path(unquote(urlsplit(place.url).path)).expanduser()))
    url = place.url if place.is_links else f"{place.url.rstrip('/')}/{normal(name)}/"
    response = http.request(
        "GET",
        url,
        headers={"Accept": _ACCEPT},
        login=place.login,
        largest_bytes=_LARGEST_PAGE_BYTES,
        what=f"Python package {name}",
    )
    is_json = response.headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON
    files = (parse_json if is_json else parse_html)(response.body, response.url)
    return tuple(file for file in files if _is_safe(file.url, response.url))


def _is_safe(url: str, page_url: str) -> bool:
    """Say whether a page may name an address: never a file of this machine, nor one with less than its own TLS."""
    schemes = ("https", urlsplit(page_url).scheme)
    return urlsplit(url).scheme in schemes


def _directory_files(directory: Path) -> Iterator[IndexFile]:
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if file.is_file():
            yield IndexFile(name=file.name, url=file.absolute().as_uri())


def parse_json(body: bytes, url: str) -> tuple[IndexFile, ...]:
    """Return the files of a JSON page. Raises: NetworkError when it is none."""
    try:
        return tuple(_of_entry(entry, url) for entry in json.loads(body)["files"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise NetworkError(
            "the Python package index gives a page that cannot be read",
            details=f"{type(exc).__name__}; url: {shown_url(url)}",
            resolution="see whether something else than an index answers there",
        ) from exc


def _of_entry(entry: dict[str, object], url: str) -> IndexFile:
    hashes, size_bytes = entry.get("hashes"), entry.get("size")
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    return IndexFile(
        name=str(entry["filename"]),
        url=urljoin(url, str(entry["url"])),
        digest=None if sha256 is None else Digest(str(sha256).lower()),
        size_bytes=size_bytes if type(size_bytes) is int and size_bytes >= 0 else None,
        requires_python=str(entry.get("requires-python") or ""),
    )


class _Links(HTMLParser):
    """The links of a page of an index."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self.found: list[IndexFile] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the links of a page; ``base`` moves those after it."""
        fields = {name: value or "" for name, value in attrs}
        if tag == "base" and fields.get("href"):
            self._base = urljoin(self._base, fields["href"])
        if tag == "a" and fields.get("href"):
            url, fragment = urldefrag(urljoin(self._base, fields["href"]))
            name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
            match = re.search(r"(?:^|&)sha256=([0-9a-fA-F]{64})(?:&|$)", fragment)
            self.found.append(
                IndexFile(
                    name=name,
                    url=url,
                    digest=Digest(match[1].lower()) if match else None,
                    requires_python=fields.get("data-requires-python", ""),
                )
            )


def parse_html(body: bytes, url: str) -> tuple[IndexFile, ...]:
    """Return the files of an HTML page."""
    parser = _Links(url)
    parser.feed(body.decode(errors="replace"))
    parser.close()
    return tuple(parser.found)


def choose_file(
    files: Iterable[IndexFile], name: str, version: str, artifact: PythonArtifact
) -> IndexFile | None:
    """Return the file of a release: a wheel for any machine, or the sdist; None when there is none."""
    ranked = []
    for number, file in enumerate(files):
        rank = _wheel_rank(file.name, name, version)
        if artifact is PythonArtifact.SDIST:
            rank = _sdist_rank(file.name, name, version)
        if rank is not None and fits_python(file.requires_python):
            ranked.append((rank, number, file))
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None


def _wheel_rank(file: str, name: str, version: str) -> int | None:
    parts = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or len(parts) not in (5, 6):
        return None
    if normal(parts[0]) != normal(name) or not _is_version(parts[1], version):
        return None
    pythons, abis, machines = (part.split(".") for part in parts[-3:])
    ranks = [_TAGS.index(tag) for tag in pythons if tag in _TAGS]
    return min(ranks) if ranks and "none" in abis and "any" in machines else None


def _sdist_rank(file: str, name: str, version: str) -> int | None:
    for rank, end in enumerate(_SDIST_ENDS):
        found, separator, found_version = file.removesuffix(end).rpartition("-")
        if file.endswith(end) and separator:
            is_it = normal(found) == normal(name) and _is_version(found_version, version)
            return rank if is_it else None
    return None


def _is_version(found: str, wanted: str) -> bool:
    return _plain(found) == _plain(wanted)


def _plain(version: str) -> str:
    """Return a version without what may be written in several ways: v1.0_1, 1.0-1."""
    text = re.sub(r"[-_]", ".", version.lower().removeprefix("v"))
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    if release is None:
        return text
    return re.sub(r"(?:\.0)+$", "", release[0]) + text[release.end() :]


def fits_python(requires: str) -> bool:
    """Say whether the hosts' Python may have a file; what cannot be read does not refuse it.

    >>> fits_python(">=3.8, !=3.9.*"), fits_python(">=2.7,!=3.0.*"), fits_python(">=3.10")
    (False, True, False)
    """
    for clause in filter(None, (part.strip() for part in requires.split(","))):
        match = re.fullmatch(r"(~=|===?|!=|<=|>=|<|>)\s*v?([0-9]+(?:\.[0-9]+)*)(\.\*)?", clause)
        if match and not _fits_clause(match[1], tuple(int(part) for part in match[2].split("."))):
            return False
    return True


def _fits_clause(operator: str, bound: tuple[int, ...]) -> bool:
    """Compare with the newest of the target: hosts get its patch releases; ``==3.9`` means all of them."""
    ours = _LATEST_OF_TARGET
    same = ours[: len(bound)] == bound
    match operator:
        case ">=" | "~=":
            is_near = operator == ">=" or ours[: len(bound) - 1] == bound[:-1]
            return ours >= bound and is_near
        case "<=":
            return ours <= bound or same
        case ">":
            return ours > bound and not same
        case "<":
            return ours < bound
        case "!=":
            return not same
    return same
