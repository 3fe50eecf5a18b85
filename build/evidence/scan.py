# SPDX-License-Identifier: Apache-2.0
"""Find what is inside of packages and image layers, once a blob: databases of packages, and Go programs.

    RPM --rpm2archive--> tar -+-> lib/apk/db/installed, dpkg/status, rpmdb.sqlite, *.dist-info -> packages
    layer (tar, gzip) --------+-> ELF files -> Go modules of each    -> CACHE/inside/FORMAT/<digest>.json

What a blob holds depends on its digest alone, so the answer is kept beside the store, for all builds. What an
image holds is its layers seen together: a file of an upper layer replaces that of a lower one, a whiteout hides it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from build.base.files import write_atomically
from build.evidence.gobuildinfo import ELF_MAGIC, GoBinary, GoModule, read_go_binary
from build.evidence.inside import apk, dpkg, python, rpmdb
from build.evidence.inside.model import Package, Release, read_release
from build.inventory.model import Digest
from build.store import layers
from build.store.objects import remove_damaged
from build.upstream.rpmpayload import unpack_payload

SCAN_FORMAT = 2
_LARGEST_TEXT_BYTES = 1 << 26
_LARGEST_DATABASE_BYTES = 1 << 30
_METADATA_BYTES = 1 << 18  # of a Python distribution only the fields count, not the long text behind them
_RELEASE_FILES = ("etc/os-release", "usr/lib/os-release")  # the first that is there counts
_Value = TypeVar("_Value")
_OLD_DATABASE = "a database of rpm in a form before SQLite"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """What one blob holds, by path: Go programs, the packages that a database names, releases of distributions.

    ``unread`` says of databases why they could not be read. ``hidden`` are the paths of layers below that it hides
    (one that ends in a slash hides what is below it), ``written`` those that it puts a file of its own to.
    ``is_readable`` is False for a blob that is no tar, or in a compression that Python does not know.
    """

    programs: Mapping[str, GoBinary] = dataclasses.field(default_factory=dict)
    packages: Mapping[str, tuple[Package, ...]] = dataclasses.field(default_factory=dict)
    releases: Mapping[str, Release] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    is_readable: bool = True

    @property
    def release(self) -> Release:
        """Return the distribution that the whole calls itself."""
        found = (self.releases[path] for path in _RELEASE_FILES if path in self.releases)
        return next(found, Release())


class Scanner:
    """Scans blobs, remembering in a directory what it found."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir / "inside" / str(SCAN_FORMAT)

    def layer(self, file: Path, digest: Digest) -> Scan:
        """Scan a layer of an image. Raises: IntegrityError when the file is damaged."""
        known = self._known(digest)
        if known is not None:
            return known
        _check(file, digest)
        return self._remember(digest, scan_tar(file))

    def package(self, file: Path, digest: Digest) -> Scan:
        """Scan an RPM. Raises: CommandError; IntegrityError when the file is damaged."""
        known = self._known(digest)
        if known is not None:
            return known
        _check(file, digest)
        with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
            found = scan_tar(unpack_payload(file, Path(scratch)))
        return self._remember(digest, dataclasses.replace(found, written=()))

    def _known(self, digest: Digest) -> Scan | None:
        try:
            return parse_scan(json.loads(self._file(digest).read_text(encoding="ascii")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, digest: Digest, scan: Scan) -> Scan:
        with contextlib.suppress(OSError):  # a read-only cache costs time, nothing else
            # In ASCII: the name of a file may be no UTF-8.
            text = json.dumps(dataclasses.asdict(scan), sort_keys=True)
            write_atomically(self._file(digest), text.encode("ascii"))
        return scan

    def _file(self, digest: Digest) -> Path:
        return self._cache_dir / digest.hex[:2] / f"{digest.hex}.json"


def _check(file: Path, digest: Digest) -> None:
    """Refuse a damaged file: what is found in it would be remembered for the good one too."""
    if Digest.of_file(file) != digest:
        raise remove_damaged(file, f"object {digest}")


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
        packages={
            path: tuple(Package(**package) for package in packages)
            for path, packages in data["packages"].items()
        },
        releases={path: Release(**release) for path, release in data["releases"].items()},
        unread=data["unread"],
        hidden=tuple(data["hidden"]),
        written=tuple(data["written"]),
        is_readable=data["is_readable"],
    )


def merge_layers(scans: Sequence[Scan]) -> Scan:
    """Return what an image holds whose layers are given base first."""
    merged = Scan()
    for scan in scans:
        hidden = frozenset((*scan.hidden, *scan.written))
        merged = Scan(
            programs={**_left(merged.programs, hidden), **scan.programs},
            packages={**_left(merged.packages, hidden), **scan.packages},
            releases={**_left(merged.releases, hidden), **scan.releases},
            unread={**_left(merged.unread, hidden), **scan.unread},
            is_readable=merged.is_readable and scan.is_readable,
        )
    return merged


def _left(found: Mapping[str, _Value], hidden: frozenset[str]) -> dict[str, _Value]:
    return {path: value for path, value in found.items() if not layers.is_hidden(path, hidden)}


def scan_tar(file: Path) -> Scan:
    """Scan an archive."""
    with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
        found = _Search(Path(scratch))
        try:
            for archive, member in layers.members(file):
                path = layers.plain_path(member.name)
                hidden = layers.hidden_path(path)
                if hidden is not None:
                    found.hidden.append(hidden)
                elif not member.isdir():
                    found.written.append(path)
                stream = archive.extractfile(member) if member.isreg() and hidden is None else None
                if stream is not None:
                    found.file(path, stream)
        except layers.ArchiveError:
            return Scan(is_readable=False)
        return found.result()


class _Search:
    """What was found so far in one archive, whose files come one after the other and only once."""

    def __init__(self, scratch_dir: Path) -> None:
        self.hidden: list[str] = []
        self.written: list[str] = []
        self._scratch_dir = scratch_dir
        self._databases: list[str] = []
        self._programs: dict[str, GoBinary] = {}
        self._packages: dict[str, tuple[Package, ...]] = {}
        self._releases: dict[str, Release] = {}
        self._unread: dict[str, str] = {}

    def file(self, path: str, stream: IO[bytes]) -> None:
        """Look at one file."""
        if apk.PATHS.fullmatch(path):
            self._text(path, stream, apk.read_apk)
        elif dpkg.PATHS.fullmatch(path):
            self._text(path, stream, dpkg.read_dpkg)
        elif python.PATHS.fullmatch(path):
            self._add(path, python.read_python(stream.read(_METADATA_BYTES)))
        elif path in _RELEASE_FILES:
            self._releases[path] = read_release(stream.read(_METADATA_BYTES))
        elif rpmdb.PATHS.fullmatch(path.removesuffix(rpmdb.LOG_SUFFIX)):
            self._keep(path, stream)
        elif rpmdb.OLD_PATHS.fullmatch(path):
            self._unread[path] = _OLD_DATABASE
        else:
            program = _read_program(stream)
            if program is not None:
                self._programs[path] = program

    def _text(self, path: str, stream: IO[bytes], read: Callable[[bytes], tuple[Package, ...]]) -> None:
        data = layers.read_bounded(stream, _LARGEST_TEXT_BYTES)
        if data is None:
            self._unread[path] = f"a database of more than {_LARGEST_TEXT_BYTES} bytes"
        else:
            self._add(path, read(data))

    def _add(self, path: str, packages: tuple[Package, ...]) -> None:
        if packages:
            self._packages[path] = packages

    def _keep(self, path: str, stream: IO[bytes]) -> None:
        """Keep a database until its log has come too, should it have one."""
        copy = self._scratch_dir / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        with copy.open("wb") as target:
            for _ in range(_LARGEST_DATABASE_BYTES >> 20):
                piece = stream.read(1 << 20)
                target.write(piece)
                if not piece:
                    break
            else:
                self._unread[path] = f"a database of more than {_LARGEST_DATABASE_BYTES} bytes"
        if not copy.stat().st_size:
            copy.unlink()
        elif not path.endswith(rpmdb.LOG_SUFFIX):
            self._databases.append(path)

    def result(self) -> Scan:
        """Return what was found, in the order of paths."""
        for path in sorted({*self._databases} - {*self._unread}):
            try:
                self._add(path, rpmdb.read_rpmdb(self._scratch_dir / path))
            except rpmdb.DatabaseError as exc:
                self._unread[path] = f"no database of rpm: {exc}"
        return Scan(
            programs=dict(sorted(self._programs.items())),
            packages=dict(sorted(self._packages.items())),
            releases=dict(sorted(self._releases.items())),
            unread=dict(sorted(self._unread.items())),
            hidden=tuple(sorted(self.hidden)),
            written=tuple(sorted(self.written)),
        )


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
