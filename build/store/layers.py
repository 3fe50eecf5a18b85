# SPDX-License-Identifier: Apache-2.0
"""Read tar archives that others made: image layers, and packages that were unpacked.

    archive -> members, each with its plain path; which path of the layers below a whiteout hides

Nothing in such an archive is trusted: names may be no UTF-8, paths may lead out, files may be of any size.
Source: OCI image-spec 1.1, layer.md, "Whiteouts".
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from typing_extensions import Buffer, override

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class ArchiveError(Exception):
    """An archive is no tar, or is in a compression that Python's standard library does not know."""


_BROKEN = (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class _Archive(tarfile.TarFile):
    """An archive whose members are cut short with :class:`ArchiveError`, whoever reads them."""

    @override
    def extractfile(self, member: str | tarfile.TarInfo) -> IO[bytes] | None:
        stream = super().extractfile(member)
        return None if stream is None else io.BufferedReader(_Content(stream))


class _Content(io.RawIOBase):
    """The content of one member, from its first byte to its last."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        try:
            data = self._stream.read(len(view))
        except (*_BROKEN, OSError) as exc:
            raise ArchiveError(f"it is cut short or damaged within a file: {exc}") from exc
        view[: len(data)] = data
        return len(data)


def members(file: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a tar file, compressed or not, in their order; content can be read until the next.

    Raises: ArchiveError, also when content is read.
    """
    try:
        with _Archive.open(file, mode="r|*") as archive:
            for member in archive:
                yield archive, member
    except _BROKEN as exc:
        raise ArchiveError(str(exc)) from exc


def plain_path(name: str) -> str:
    """Return the path of a member relative to the root, without ``.`` and ``..``: none leads out.

    >>> plain_path("./usr/../etc//passwd"), plain_path("/../x"), plain_path("./")
    ('etc/passwd', 'x', '')
    """
    return "/".join(parts_of(PurePosixPath(name)))


def parts_of(path: PurePosixPath) -> list[str]:
    """Return the parts of a path below the root, without ``.`` and ``..``."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            del parts[-1:]
        elif part not in ("/", "."):
            parts.append(part)
    return parts


def hidden_path(path: str) -> str | None:
    """Return which path of the layers below a member hides; one with a slash at its end: all below it.

    >>> hidden_path("a/.wh.b"), hidden_path("a/.wh..wh..opq"), hidden_path("a/b")
    ('a/b', 'a/', None)
    """
    parent, _, name = path.rpartition("/")
    if name == _OPAQUE:
        return f"{parent}/"
    if name.startswith(_WHITEOUT):
        return f"{parent}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
    return None


def is_hidden(path: str, hidden: frozenset[str]) -> bool:
    """Say whether a path of a layer below is hidden by what :func:`hidden_path` gave for a layer above.

    >>> is_hidden("a/b/c", frozenset({"a/b"})), is_hidden("a/b", frozenset({"a/"})), is_hidden("ab", frozenset({"a"}))
    (True, True, False)
    """
    if path in hidden or "/" in hidden:
        return True
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    return any(parent in hidden or f"{parent}/" in hidden for parent in above)


def read_bounded(stream: IO[bytes], limit_bytes: int) -> bytes | None:
    """Return all that is left of a stream; None when that is more than the limit."""
    data = stream.read(limit_bytes + 1)
    return data if len(data) <= limit_bytes else None


def printable(name: str) -> str:
    r"""Return a name of a file as text that can be written anywhere: bytes that are no UTF-8 become ``\xNN``.

    >>> printable(b"caf\xe9".decode(errors="surrogateescape"))
    'caf\\xe9'
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
