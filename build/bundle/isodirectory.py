# SPDX-License-Identifier: Apache-2.0
"""Read where each file of an ISO image lies, without mounting it.

image --directory records--> files with their extents --complement--> the bytes outside any file
"""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import Buffer, override

from build.base.errors import VerifyError

_SECTOR_BYTES = 2048
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """A run of bytes of the image."""

    offset: int
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class IsoFile:
    """A file of the image by its Rock Ridge path; files of 4 GiB and more have several extents."""

    path: str
    extents: tuple[Extent, ...]
    mode: int

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole file."""
        return sum(extent.size_bytes for extent in self.extents)


class OnceRead(io.RawIOBase):
    """An image that is read from its beginning to its end, and no byte of it twice.

    What the directory's reader asks for lies in the first of it and is kept, so that :meth:`pieces`, which goes
    on from there, needs not read it again.
    """

    def __init__(self, stream: io.FileIO) -> None:
        super().__init__()
        self._stream = stream
        self._kept = bytearray()
        self._position = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        size_bytes = os.fstat(self._stream.fileno()).st_size
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size_bytes}[whence]
        self._position = start + offset
        return self._position

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = self._position + len(view)
        while len(self._kept) < end and (data := self._stream.read(end - len(self._kept))):
            self._kept += data
        piece = self._kept[self._position : end]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def pieces(self, extent: Extent) -> Iterator[memoryview]:
        """Yield the bytes of an extent, at most a mebibyte at a time; each piece is overwritten by the next.

        Extents have to be asked for in their order, without gaps.
        """
        end = extent.offset + extent.size_bytes
        kept = self._kept[extent.offset : end]
        if kept:
            yield memoryview(kept)
        left = Extent(offset=extent.offset + len(kept), size_bytes=extent.size_bytes - len(kept))
        yield from read_extents(self._stream.fileno(), (left,))


def read_directory(iso_file: Path, stream: BinaryIO | None = None) -> Iterator[IsoFile]:
    """Yield the files of an image, read through ``stream`` where one is given.

    Raises: VerifyError when there is no such file or its directory cannot be read.
    """
    import pycdlib  # noqa: PLC0415 - an image with a frame beside it is verified without
    from pycdlib.pycdlibexception import PyCdlibException  # noqa: PLC0415

    image = pycdlib.PyCdlib()
    try:
        if stream is None:
            image.open(str(iso_file))
        else:
            image.open_fp(stream)
        try:
            for parent, _, names in image.walk(rr_path="/"):
                for name in names:
                    yield _iso_file(image, f"{parent.rstrip('/')}/{name}")
        finally:
            image.close()
    except FileNotFoundError as exc:
        raise missing_image(iso_file) from exc
    except (PyCdlibException, struct.error, IndexError, UnicodeDecodeError, OSError) as exc:
        raise VerifyError(
            f"the directory of '{iso_file.name}' cannot be read: it is damaged outside any file",
            details=f"{type(exc).__name__}: {exc}",
            resolution="do not install from it: copy or download it again, or build it again",
        ) from exc


def missing_image(iso_file: Path) -> VerifyError:
    """Return the error of an image that is not there."""
    return VerifyError(f"there is no file '{iso_file}'", resolution="run './doit.sh iso'")


def _iso_file(image: Any, path: str) -> IsoFile:
    record: Any = image.get_record(rr_path=path)
    mode = record.rock_ridge.get_file_mode() if record.rock_ridge else 0
    extents: list[Extent] = []
    while record is not None:
        offset = record.extent_location() * _SECTOR_BYTES
        extents.append(Extent(offset=offset, size_bytes=record.data_length))
        record = record.data_continuation
    return IsoFile(path=path.lstrip("/"), extents=tuple(extents), mode=mode)


def outside(extents: Iterable[Extent], size_bytes: int) -> Iterator[Extent]:
    """Yield what of an image no extent covers, in order.

    >>> [(gap.offset, gap.size_bytes) for gap in outside([Extent(offset=4, size_bytes=3)], 10)]
    [(0, 4), (7, 3)]
    """
    end = 0
    for extent in sorted(extents, key=lambda extent: extent.offset):
        if extent.offset > end:
            yield Extent(offset=end, size_bytes=extent.offset - end)
        end = max(end, extent.offset + extent.size_bytes)
    if size_bytes > end:
        yield Extent(offset=end, size_bytes=size_bytes - end)


def read_extents(descriptor: int, extents: Sequence[Extent]) -> Iterator[memoryview]:
    """Yield the bytes of some extents of an open image, at most a mebibyte each; fewer where it is cut off.

    Each piece is overwritten by the next.
    """
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    for extent in extents:
        offset, end = extent.offset, extent.offset + extent.size_bytes
        while offset < end:
            count = os.preadv(descriptor, [buffer[: end - offset]], offset)
            if not count:
                return
            yield buffer[:count]
            offset += count


def read_bytes(descriptor: int, extents: Sequence[Extent]) -> bytes:
    """Return the content of a small file of an open image."""
    return b"".join(bytes(piece) for piece in read_extents(descriptor, extents))
