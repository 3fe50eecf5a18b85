# SPDX-License-Identifier: Apache-2.0
"""Find the Go programs inside of packages and image layers, once a blob.

    RPM --rpm2archive--> tar -+-> ELF files -> Go modules of each -> CACHE/binaries/FORMAT/<digest>.json
    layer (tar, gzip) --------+

What a blob holds depends on its digest alone, so the answer is kept beside the store, for all builds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from build.evidence.gobuildinfo import ELF_MAGIC, GoBinary, GoModule, read_go_binary
from build.inventory.model import Digest
from build.store import filelist
from build.upstream.rpmpayload import unpack_payload

SCAN_FORMAT = 1
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """What one blob holds: Go programs by path, and the paths that it hides of layers below.

    A hidden path that ends in a slash hides what is below it. ``is_readable`` is False for a blob that is no
    tar, or in a compression that Python's standard library does not know.
    """

    programs: Mapping[str, GoBinary]
    hidden: tuple[str, ...] = ()
    is_readable: bool = True


class Scanner:
    """Scans blobs, remembering in a directory what it found."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir / "binaries" / str(SCAN_FORMAT)

    def layer(self, file: Path, digest: Digest) -> Scan:
        """Scan a layer of an image."""
        return self._known(digest) or self._remember(digest, _scan_tar(file))

    def package(self, file: Path, digest: Digest) -> Scan:
        """Scan an RPM. Raises: CommandError."""
        known = self._known(digest)
        if known is not None:
            return known
        with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
            return self._remember(digest, _scan_tar(unpack_payload(file, Path(scratch))))

    def _known(self, digest: Digest) -> Scan | None:
        try:
            return parse_scan(json.loads(self._file(digest).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, digest: Digest, scan: Scan) -> Scan:
        with contextlib.suppress(OSError):  # a read-only cache costs time, nothing else
            filelist.write_json(self._file(digest), dataclasses.asdict(scan))
        return scan

    def _file(self, digest: Digest) -> Path:
        return self._cache_dir / digest.hex[:2] / f"{digest.hex}.json"


def parse_scan(data: Mapping[str, Any]) -> Scan:
    """Parse what was remembered. Raises: KeyError, TypeError for another form."""
    return Scan(
        programs={
            path: GoBinary(
                go_version=item["go_version"],
                package=item["package"],
                main=GoModule(**item["main"]) if item["main"] else None,
                modules=tuple(GoModule(**module) for module in item["modules"]),
            )
            for path, item in data["programs"].items()
        },
        hidden=tuple(data["hidden"]),
        is_readable=data["is_readable"],
    )


def merge_layers(scans: Sequence[Scan]) -> dict[str, GoBinary]:
    """Return the programs of an image whose layers are given base first."""
    merged: dict[str, GoBinary] = {}
    for scan in scans:
        for hidden in scan.hidden:
            for path in [path for path in merged if path == hidden.rstrip("/") or path.startswith(hidden)]:
                if hidden.endswith("/") or path == hidden or path.startswith(f"{hidden}/"):
                    del merged[path]
        merged.update(scan.programs)
    return merged


def _scan_tar(file: Path) -> Scan:
    programs: dict[str, GoBinary] = {}
    hidden: list[str] = []
    try:
        with tarfile.open(file, mode="r|*") as archive:
            for member in archive:
                path = PurePosixPath("/") / member.name.removeprefix("./")
                if path.name == _OPAQUE:
                    hidden.append(f"{path.parent}/")
                elif path.name.startswith(_WHITEOUT):
                    hidden.append(str(path.with_name(path.name.removeprefix(_WHITEOUT))))
                stream = archive.extractfile(member) if member.isreg() else None
                program = _read_program(stream) if stream is not None else None
                if program is not None:
                    programs[str(path)] = program
    except tarfile.ReadError:
        return Scan(programs={}, is_readable=False)
    return Scan(programs=dict(sorted(programs.items())), hidden=tuple(sorted(hidden)))


def _read_program(stream: IO[bytes]) -> GoBinary | None:
    """Read a program from a tar stream, which cannot be searched: through a file of its own."""
    start = stream.read(len(ELF_MAGIC))
    if start != ELF_MAGIC:
        return None
    with tempfile.TemporaryFile() as copy:
        copy.write(start)
        shutil.copyfileobj(stream, copy, 1 << 20)
        copy.flush()
        with mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) as image:
            return read_go_binary(image)
