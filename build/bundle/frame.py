# SPDX-License-Identifier: Apache-2.0
"""Read a finished image back, once, and record its frame: all of it that is not a file.

    finished image, its table of contents -> digests of whole and files
                                          -> frame -> NAME.iso.frame (its digest: a comment in NAME.iso.sha256)

The frame is what holds the files, as that of a window holds the panes: volume descriptors, directory records,
padding, and where each file lies in between.

With the frame each byte of an image is hashed once and by as many cores as there are, and a wrong byte has
an offset even where no file is: in volume descriptors, directory records, padding. Files and frame together
are the whole image, so a frame that NAME.iso.sha256 names proves as much as the digest of the whole.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from build.base.errors import BuildError, VerifyError
from build.base.files import write_atomically
from build.bundle.isodirectory import Extent, IsoFile, OnceRead, outside, read_bytes, read_directory
from build.inventory.model import Digest
from build.store.filelist import Entry

FRAME_FORMAT = 1
#: A run of wrong bytes ends where this many good ones follow.
_RUN_GAP_BYTES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class FramedFile:
    """A file of an image: where it lies, what it must be, what it belongs to."""

    path: str
    digest: Digest
    owners: tuple[str, ...]
    extents: tuple[Extent, ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole file."""
        return sum(extent.size_bytes for extent in self.extents)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """All files of an image, and the bytes outside of them in their order."""

    size_bytes: int
    files: tuple[FramedFile, ...]
    outside: bytes

    @property
    def gaps(self) -> tuple[Extent, ...]:
        """Return where the bytes outside of files lie."""
        return tuple(outside((extent for file in self.files for extent in file.extents), self.size_bytes))


def frame_file(iso_file: Path) -> Path:
    """Return where the frame of an image lies."""
    return iso_file.with_name(f"{iso_file.name}.frame")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadBack:
    """What reading a finished image once told; ``wrong`` are files that are not what their digests name."""

    whole: Digest
    frame: Frame
    wrong: tuple[FramedFile, ...]


def read_back(iso_file: Path, entries: Iterable[Entry]) -> ReadBack:
    """Read every byte of a finished image, once, from its beginning to its end.

    Raises: BuildError when the image has other files than its table of contents; VerifyError.
    """
    with iso_file.open("rb", buffering=0) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        image = OnceRead(stream)
        files = _framed_files(read_directory(iso_file, cast("BinaryIO", image)), entries)
        by_extents: dict[tuple[Extent, ...], hashlib._Hash] = {
            file.extents: hashlib.sha256() for file in files
        }
        # Files that are one file in the store share their extents.
        places = sorted(
            ((extent, taken) for extents, taken in by_extents.items() for extent in extents),
            key=lambda place: place[0].offset,
        )
        whole, gaps = hashlib.sha256(), bytearray()
        for extent, taken in _covering(places, size_bytes):
            for piece in image.pieces(extent):
                whole.update(piece)
                if taken is None:
                    gaps += piece
                else:
                    taken.update(piece)
    return ReadBack(
        whole=Digest(whole.hexdigest()),
        frame=Frame(size_bytes=size_bytes, files=files, outside=bytes(gaps)),
        wrong=tuple(file for file in files if by_extents[file.extents].hexdigest() != file.digest.hex),
    )


def _covering(
    places: Sequence[tuple[Extent, hashlib._Hash]], size_bytes: int
) -> Iterator[tuple[Extent, hashlib._Hash | None]]:
    """Yield the whole image in order: the places, and None for what lies between them.

    Raises: BuildError when two places overlap.
    """
    end = 0
    for extent, taken in places:
        if extent.offset < end:
            raise BuildError(
                "two files of the image share some of their bytes",
                details=f"at offset {extent.offset}",
                resolution="report this with the version of xorriso",
            )
        if extent.offset > end:
            yield Extent(offset=end, size_bytes=extent.offset - end), None
        yield extent, taken
        end = extent.offset + extent.size_bytes
    if size_bytes > end:
        yield Extent(offset=end, size_bytes=size_bytes - end), None


def _framed_files(found: Iterable[IsoFile], entries: Iterable[Entry]) -> tuple[FramedFile, ...]:
    """Join what is on an image with what was meant. Raises: BuildError when they differ."""
    known = {entry.path: entry for entry in entries}
    files = sorted(found, key=lambda file: file.path)
    sizes = {file.path: file.size_bytes for file in files}
    if sizes != {path: entry.size_bytes for path, entry in known.items()}:
        wrong = sorted(path for path in sizes.keys() | known.keys() if path not in sizes or path not in known)
        raise BuildError(
            "the image holds other files than were meant",
            details=", ".join(wrong[:10]) or "sizes differ",
            resolution="report this with the version of xorriso",
        )
    return tuple(
        FramedFile(
            path=file.path,
            digest=known[file.path].digest,
            owners=known[file.path].owners,
            extents=tuple(extent for extent in file.extents if extent.size_bytes),
        )
        for file in files
    )


def write_frame(file: Path, frame: Frame) -> Digest:
    """Write a frame and return the digest of its file."""
    document = {
        "format": FRAME_FORMAT,
        "size_bytes": frame.size_bytes,
        "files": [
            {
                "path": item.path,
                "sha256": item.digest.hex,
                "owners": list(item.owners),
                "extents": [[extent.offset, extent.size_bytes] for extent in item.extents],
            }
            for item in frame.files
        ],
        "outside": base64.b64encode(zlib.compress(frame.outside, 9)).decode("ascii"),
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n"
    write_atomically(file, text.encode())
    return Digest.of_bytes(text.encode())


def parse_frame(data: bytes, name: str) -> Frame:
    """Parse the file of a frame.

    Raises: VerifyError.
    """
    try:
        return _frame(json.loads(data))
    except (ValueError, KeyError, TypeError, zlib.error) as exc:
        raise VerifyError(
            f"the frame '{name}' cannot be read",
            details=f"{type(exc).__name__}: {exc}",
            resolution="get it again from where the image came from, or remove it and verify without it",
        ) from exc


def _frame(document: Mapping[str, Any]) -> Frame:
    """Return the frame of a document. Raises: ValueError, KeyError, TypeError, zlib.error."""
    if document["format"] != FRAME_FORMAT:
        raise ValueError(f"format {document['format']!r}, this builder reads {FRAME_FORMAT}")
    frame = Frame(
        size_bytes=document["size_bytes"],
        files=tuple(
            FramedFile(
                path=item["path"],
                digest=Digest(item["sha256"]),
                owners=tuple(item["owners"]),
                extents=tuple(
                    Extent(offset=offset, size_bytes=size_bytes) for offset, size_bytes in item["extents"]
                ),
            )
            for item in document["files"]
        ),
        outside=zlib.decompress(base64.b64decode(document["outside"])),
    )
    if sum(gap.size_bytes for gap in frame.gaps) != len(frame.outside):
        raise ValueError("it does not cover the image")
    return frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongBytes:
    """A run of bytes that differ, by its first byte and length; single good bytes may lie in it."""

    offset: int
    size_bytes: int


def compare_outside(descriptor: int, frame: Frame) -> Iterator[WrongBytes]:
    """Yield the runs of wrong bytes outside of files of an open image."""
    position = 0
    for gap in frame.gaps:
        wanted = frame.outside[position : position + gap.size_bytes]
        position += gap.size_bytes
        found = read_bytes(descriptor, (gap,))
        if found != wanted:
            yield from _runs(gap.offset, wanted, found)


def _runs(offset: int, wanted: bytes, found: bytes) -> Iterator[WrongBytes]:
    padded: Sequence[int | None] = [*found, *[None] * (len(wanted) - len(found))]
    first = last = -1
    for index, (one, other) in enumerate(zip(wanted, padded, strict=True)):
        if one == other:
            continue
        if first >= 0 and index - last > _RUN_GAP_BYTES:
            yield WrongBytes(offset=offset + first, size_bytes=last - first + 1)
            first = -1
        first, last = (index if first < 0 else first), index
    yield WrongBytes(offset=offset + first, size_bytes=last - first + 1)
