# SPDX-License-Identifier: Apache-2.0
"""Verify a finished bundle: every file against SHA256SUMS, the whole image against its checksum file.

    caisson-*.iso --directory--> extents --threads--> sha256 each -+-> faults, each naming the file
    caisson-*.iso.sha256 (beside) --> sha256 of the whole ---------+   and what it belongs to

No mount and no root: the extents are read from the image itself. A wrong byte inside a file names the file;
one outside every file shows in the digest of the whole alone.

Run: ``python -m build.verify FILE [--json]``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from build import ui
from build.errors import BuildError, VerifyError, joined_faults
from build.iso import SUMS_PATH, checksum_file
from build.model import Digest
from build.plan import Step

_SECTOR_BYTES = 2048
_CHUNK_BYTES = 1 << 20
_PROGRESS_S = 2.0


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What verifying found. ``faults`` is empty for a good image."""

    iso_file: Path
    size_bytes: int
    file_count: int
    elapsed_s: float
    faults: tuple[str, ...]
    is_whole_checked: bool

    def as_json(self) -> str:
        """Return the report as one JSON document."""
        return json.dumps(
            {
                "file": str(self.iso_file),
                "ok": not self.faults,
                "size_bytes": self.size_bytes,
                "files": self.file_count,
                "elapsed_s": round(self.elapsed_s, 3),
                "whole_image_checked": self.is_whole_checked,
                "faults": list(self.faults),
            },
            indent=2,
        )


def plan_verify(iso_file: Path) -> Step:
    """Plan the check of the built bundle; it has no output, so it always runs when asked for."""
    return Step(
        name="",
        doc="check every byte of the bundle against its checksums",
        run=functools.partial(run_verify, iso_file),
        inputs=(iso_file, checksum_file(iso_file)),
    )


def run_verify(iso_file: Path) -> None:
    """Verify and say how it went.

    Raises: VerifyError naming every fault.
    """
    report = verify_iso(iso_file)
    raise_faults(report)
    rate = report.size_bytes / report.elapsed_s if report.elapsed_s else 0.0
    whole = "the whole image too" if report.is_whole_checked else "no checksum file beside it"
    ui.note(
        f"{iso_file}: {report.file_count} files are good, {whole} "
        f"({ui.bytes_text(report.size_bytes)} in {report.elapsed_s:.1f} s, {ui.bytes_text(rate)}/s)"
    )


def raise_faults(report: Report) -> None:
    """Raise VerifyError when the report has faults."""
    if report.faults:
        count = len(report.faults)
        raise VerifyError(
            f"'{report.iso_file.name}' is damaged: {count} fault{'s' if count > 1 else ''}",
            details=joined_faults(report.faults),
            resolution="do not install from it: copy or download it again, or build it again",
        )


def verify_iso(iso_file: Path, *, workers: int | None = None) -> Report:
    """Read the whole image and report every fault.

    Raises: VerifyError when the file is missing or is no image that can be read at all.
    """
    start = time.monotonic()
    files = {file.path: file for file in read_directory(iso_file)}
    descriptor = os.open(iso_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        expected = _read_sums(descriptor, files, iso_file)
        whole = _expected_whole(iso_file)
        jobs: dict[str, tuple[Extent, ...]] = {
            path: files[path].extents for path in expected if path in files
        }
        order = sorted(jobs, key=lambda path: -files[path].size_bytes)
        with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            whole_extent = (Extent(offset=0, size_bytes=size_bytes),)
            whole_job = pool.submit(_hash, descriptor, whole_extent) if whole else None
            running = {path: pool.submit(_hash, descriptor, jobs[path]) for path in order}
            _wait([*running.values(), *([whole_job] if whole_job else [])], iso_file.name)
        actual = {path: job.result() for path, job in running.items()}
        owners = _Owners(descriptor, files)
        faults = list(_file_faults(expected, actual, files, owners))
        if whole_job is not None and whole_job.result() != whole:
            place = "" if faults else ": the change is outside any file"
            faults.append(
                f"whole image: sha256 {whole_job.result().hex}, expected {whole and whole.hex}{place}"
            )
    finally:
        os.close(descriptor)
    return Report(
        iso_file=iso_file,
        size_bytes=size_bytes,
        file_count=len(files),
        elapsed_s=time.monotonic() - start,
        faults=tuple(faults),
        is_whole_checked=whole is not None,
    )


def read_directory(iso_file: Path) -> Iterator[IsoFile]:
    """Yield the files of an image.

    Raises: VerifyError when there is no such file or its directory cannot be read.
    """
    image = pycdlib.PyCdlib()
    try:
        image.open(str(iso_file))
        try:
            for parent, _, names in image.walk(rr_path="/"):
                for name in names:
                    yield _iso_file(image, f"{parent.rstrip('/')}/{name}")
        finally:
            image.close()
    except FileNotFoundError as exc:
        raise VerifyError(f"there is no file '{iso_file}'", resolution="run 'doit iso'") from exc
    except (PyCdlibException, struct.error, IndexError, UnicodeDecodeError, OSError) as exc:
        raise VerifyError(
            f"the directory of '{iso_file.name}' cannot be read: it is damaged outside any file",
            details=f"{type(exc).__name__}: {exc}",
            resolution="do not install from it: copy or download it again, or build it again",
        ) from exc


def _iso_file(image: pycdlib.PyCdlib, path: str) -> IsoFile:
    record: Any = image.get_record(rr_path=path)
    mode = record.rock_ridge.get_file_mode() if record.rock_ridge else 0
    extents: list[Extent] = []
    while record is not None:
        offset = record.extent_location() * _SECTOR_BYTES
        extents.append(Extent(offset=offset, size_bytes=record.data_length))
        record = record.data_continuation
    return IsoFile(path=path.lstrip("/"), extents=tuple(extents), mode=mode)


def _read(descriptor: int, extents: Sequence[Extent]) -> Iterator[bytes]:
    for extent in extents:
        offset, end = extent.offset, extent.offset + extent.size_bytes
        while offset < end:
            chunk = os.pread(descriptor, min(_CHUNK_BYTES, end - offset), offset)
            if not chunk:
                return  # a truncated image: the digest will differ
            yield chunk
            offset += len(chunk)


def _hash(descriptor: int, extents: Sequence[Extent]) -> Digest:
    sha256 = hashlib.sha256()
    for chunk in _read(descriptor, extents):
        sha256.update(chunk)
    return Digest(sha256.hexdigest())


def _wait(jobs: Sequence[concurrent.futures.Future[Digest]], title: str) -> None:
    pending = set(jobs)
    while pending:
        done, pending = concurrent.futures.wait(pending, timeout=_PROGRESS_S)
        if pending and not done:
            continue
        if pending:
            ui.note(f"{title}: {len(jobs) - len(pending)} of {len(jobs)} digests taken")


def _read_sums(descriptor: int, files: Mapping[str, IsoFile], iso_file: Path) -> dict[str, Digest]:
    """Read SHA256SUMS of the image. Raises: VerifyError when it is missing or not in its form."""
    try:
        text = b"".join(_read(descriptor, files[SUMS_PATH].extents)).decode()
        rows = [line.split("  ", 1) for line in text.splitlines()]
        return {path: Digest(value) for value, path in rows}
    except (KeyError, ValueError) as exc:
        raise VerifyError(
            f"'{iso_file.name}' has no {SUMS_PATH} that can be read",
            details=f"{type(exc).__name__}: {exc}",
            resolution="it is damaged, or not a bundle of Caisson",
        ) from exc


def _expected_whole(iso_file: Path) -> Digest | None:
    """Return the digest that the checksum file beside the image names, or None when there is no such file.

    Raises: VerifyError when the file is not in its form.
    """
    file = checksum_file(iso_file)
    try:
        return Digest(file.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        return None
    except (ValueError, IndexError, OSError) as exc:
        raise VerifyError(
            f"the checksum file '{file.name}' cannot be read",
            details=str(exc),
            resolution="get it again from where the image came from",
        ) from exc


def _file_faults(
    expected: Mapping[str, Digest],
    actual: Mapping[str, Digest],
    files: Mapping[str, IsoFile],
    owners: _Owners,
) -> Iterator[str]:
    for path, digest in sorted(expected.items()):
        if path not in files:
            yield f"{path}{owners.text(path)}: missing"
        elif actual[path] != digest:
            yield f"{path}{owners.text(path)}: sha256 {actual[path].hex}, expected {digest.hex}"
    for path in sorted(files):
        if path not in expected and path != SUMS_PATH:
            yield f"{path}{owners.text(path)}: not named in {SUMS_PATH}"


class _Owners:
    """Says what a file belongs to, from the bundle alone; read only when there is something to say."""

    def __init__(self, descriptor: int, files: Mapping[str, IsoFile]) -> None:
        self._descriptor = descriptor
        self._files = files

    def text(self, path: str) -> str:
        """Return `` (image ...)`` or the like, empty where the path says it all."""
        if path.startswith("oci/blobs/"):
            names = self._images.get(path.rsplit("/", 1)[1], ())
            return f" (image {', '.join(sorted(set(names)))})" if names else " (no image names it)"
        if path.startswith("repo/") and path.endswith(".rpm"):
            return f" (package {path.rsplit('/', 1)[1].removesuffix('.rpm')})"
        return ""

    @functools.cached_property
    def _images(self) -> dict[str, list[str]]:
        """Map blobs to the images that use them, as far as manifests can be read."""
        found: dict[str, list[str]] = {}
        for entry in self._document("oci/index.json").get("manifests", ()):
            name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "?")
            self._walk(entry.get("digest", ""), name, found)
        return found

    def _walk(self, digest: str, name: str, found: dict[str, list[str]]) -> None:
        hex_digest = digest.removeprefix("sha256:")
        found.setdefault(hex_digest, []).append(name)
        document = self._document(f"oci/blobs/sha256/{hex_digest}")
        for child in document.get("manifests", ()):
            if f"oci/blobs/sha256/{child['digest'].removeprefix('sha256:')}" in self._files:
                self._walk(child["digest"], name, found)
        for blob in (document.get("config"), *document.get("layers", ())):
            if blob:
                found.setdefault(blob["digest"].removeprefix("sha256:"), []).append(name)

    def _document(self, path: str) -> dict[str, Any]:
        file = self._files.get(path)
        try:
            value = json.loads(b"".join(_read(self._descriptor, file.extents))) if file else {}
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m build.verify", description="Verify a Caisson ISO.")
    parser.add_argument("iso", type=Path, help="the image; its .sha256 beside it is used when it is there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        if options.json:
            report = verify_iso(options.iso)
            print(report.as_json())
            return VerifyError.exit_code if report.faults else 0
        run_verify(options.iso)
    except BuildError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
