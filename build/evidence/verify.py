# SPDX-License-Identifier: Apache-2.0
"""Verify a finished bundle: every byte of it, by as many cores as there are.

    caisson-*.iso.sha256 --names--> caisson-*.iso.frame -> files, their digests, the bytes outside of them
    caisson-*.iso --threads--> sha256 of each file, bytes outside compared -> faults, each with its place

Files and frame cover the image, so each byte is hashed once. Where the frame is missing the digests are those
of SHA256SUMS on the image, and the whole is hashed as well, or at least compared with its implanted MD5 sum.
No mount and no root.

Run: ``python -m build.evidence.verify FILE [--json] [--whole]``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from build.base import ui
from build.base.errors import BuildError, VerifyError, joined_faults
from build.base.plan import Step
from build.bundle.frame import Frame, FramedFile, compare_outside, frame_file, parse_frame
from build.bundle.iso import SUMS_PATH, UNLISTED_PATHS, checksum_file
from build.bundle.isodirectory import Extent, missing_image, read_bytes, read_directory, read_extents
from build.bundle.mediasum import is_md5_good
from build.inventory.model import Digest
from build.store import ociindex

_PROGRESS_S = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong. ``path`` is empty for what is no file of the image; ``offset`` is -1 when unknown."""

    text: str
    path: str = ""
    owners: tuple[str, ...] = ()
    offset: int = -1
    size_bytes: int = 0

    def __str__(self) -> str:
        """Return the line for people."""
        return self.text

    def as_json(self) -> dict[str, Any]:
        """Return the fault as data; what is not known is null."""
        return {
            "text": self.text,
            "path": self.path or None,
            "owners": list(self.owners),
            "offset": self.offset if self.offset >= 0 else None,
            "size_bytes": self.size_bytes or None,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What verifying found. ``faults`` is empty for a good image.

    ``is_whole_checked`` says whether a checksum file beside the image vouches for all of it.
    """

    iso_file: Path
    size_bytes: int
    file_count: int
    elapsed_s: float
    faults: tuple[Fault, ...]
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
                "faults": [fault.as_json() for fault in self.faults],
            },
            indent=2,
            ensure_ascii=False,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checksums:
    """What the checksum file beside an image names; None for what it does not."""

    whole: Digest | None = None
    frame: Digest | None = None


def plan_verify(iso_file: Path) -> Step:
    """Plan the check of the built bundle; it has no output, so it always runs when asked for."""
    return Step(
        name="",
        doc="check every byte of the bundle against its checksums",
        run=functools.partial(run_verify, iso_file),
        inputs=(iso_file, checksum_file(iso_file)),
    )


def run_verify(iso_file: Path, *, is_whole_wanted: bool = False) -> None:
    """Verify and say how it went.

    Raises: VerifyError naming every fault.
    """
    report = verify_iso(iso_file, is_whole_wanted=is_whole_wanted)
    raise_faults(report)
    rate = report.size_bytes / report.elapsed_s if report.elapsed_s else 0.0
    whole = "every byte outside them too" if report.is_whole_checked else "no checksum file beside the image"
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
            details=joined_faults(map(str, report.faults)),
            resolution="do not install from it: copy or download it again, or build it again",
        )


def verify_iso(iso_file: Path, *, workers: int | None = None, is_whole_wanted: bool = False) -> Report:
    """Read the whole image and report every fault.

    With ``is_whole_wanted`` the digest of the whole is taken even where a frame makes it superfluous.

    Raises: VerifyError when the file is missing or is no image that can be read at all.
    """
    start = time.monotonic()
    checksums = read_checksums(iso_file)
    frame, faults = _read_frame(iso_file, checksums)
    try:
        descriptor = os.open(iso_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise missing_image(iso_file) from exc
    try:
        size_bytes = os.fstat(descriptor).st_size
        with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            check = _Check(descriptor, size_bytes, pool, iso_file)
            has_frame = frame is not None
            whole = None if has_frame and not is_whole_wanted else checksums.whole
            if whole is not None:
                check.start_whole(whole)
            found, count = check.by_frame(frame) if frame is not None else check.by_directory()
            faults += found
            if whole is not None:
                faults += check.end_whole(has_place=bool(faults))
            elif not has_frame and not faults and not is_md5_good(iso_file):
                faults.append(
                    Fault(text="whole image: not the MD5 sum implanted in it: the change is outside any file")
                )
    finally:
        os.close(descriptor)
    return Report(
        iso_file=iso_file,
        size_bytes=size_bytes,
        file_count=count,
        elapsed_s=time.monotonic() - start,
        faults=tuple(faults),
        is_whole_checked=checksums.whole is not None,
    )


def read_checksums(iso_file: Path) -> Checksums:
    """Read the checksum file beside an image: a line of sha256sum(1), and a comment that names the frame.

    Raises: VerifyError when the file is not in its form.
    """
    file = checksum_file(iso_file)
    try:
        rows = [line.split() for line in file.read_text(encoding="ascii").splitlines() if line.strip()]
        frames = [row[2] for row in rows if row[:2] == ["#", "frame"]]
        wholes = [row[0] for row in rows if not row[0].startswith("#")]
        return Checksums(whole=Digest(wholes[0]), frame=Digest(frames[0]) if frames else None)
    except FileNotFoundError:
        return Checksums()
    except (ValueError, IndexError, OSError) as exc:
        raise VerifyError(
            f"the checksum file '{file.name}' cannot be read",
            details=str(exc),
            resolution="get it again from where the image came from",
        ) from exc


def _read_frame(iso_file: Path, checksums: Checksums) -> tuple[Frame | None, list[Fault]]:
    """Return the frame beside an image, unless the checksum file names another one.

    Without a checksum file nothing vouches for the frame, and nothing for the image: it is used as it is.
    """
    file = frame_file(iso_file)
    try:
        data = file.read_bytes()
    except OSError:
        return None, []
    if checksums.whole is not None and checksums.frame != Digest.of_bytes(data):
        name = checksum_file(iso_file).name
        return None, [Fault(text=f"{file.name}: not the file that {name} names", path="")]
    return parse_frame(data, file.name), []


class _Check:
    """One check of one open image, its reading spread over a pool of threads."""

    def __init__(
        self, descriptor: int, size_bytes: int, pool: concurrent.futures.Executor, iso_file: Path
    ) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._pool = pool
        self._iso_file = iso_file
        self._whole: tuple[Digest, concurrent.futures.Future[Digest]] | None = None

    def start_whole(self, expected: Digest) -> None:
        """Begin with the digest of the whole, which takes longest."""
        extent = Extent(offset=0, size_bytes=self._size_bytes)
        self._whole = (expected, self._pool.submit(_hash, self._descriptor, (extent,)))

    def end_whole(self, *, has_place: bool) -> Iterator[Fault]:
        """Wait for the digest of the whole. ``has_place``: a fault was found that explains a difference."""
        if self._whole is None:
            return
        expected, job = self._whole
        _wait([job], self._iso_file.name)
        if job.result() != expected:
            place = (
                ""
                if has_place
                else f": the change is outside any file; {frame_file(self._iso_file).name} would tell where"
            )
            yield Fault(text=f"whole image: sha256 {job.result().hex}, expected {expected.hex}{place}")

    def by_frame(self, frame: Frame) -> tuple[list[Fault], int]:
        """Compare everything with the frame; return the faults and the number of files."""
        faults: list[Fault] = []
        if self._size_bytes != frame.size_bytes:
            faults.append(
                Fault(
                    text=f"whole image: {self._size_bytes} bytes, expected {frame.size_bytes}",
                    offset=min(self._size_bytes, frame.size_bytes),
                )
            )
        actual = self._digests({file.path: file.extents for file in frame.files})
        faults += [
            _changed(file, actual[file.path]) for file in frame.files if actual[file.path] != file.digest
        ]
        for run in compare_outside(self._descriptor, frame):
            length = f"{run.size_bytes} bytes" if run.size_bytes > 1 else "1 byte"
            faults.append(
                Fault(
                    text=f"offset {run.offset}: {length} changed outside any file",
                    offset=run.offset,
                    size_bytes=run.size_bytes,
                )
            )
        return faults, len(frame.files)

    def by_directory(self) -> tuple[list[Fault], int]:
        """Compare the files with SHA256SUMS of the image; return the faults and the number of files."""
        extents = {file.path: file.extents for file in read_directory(self._iso_file)}
        expected = self._read_sums(extents)
        actual = self._digests({path: extents[path] for path in expected if path in extents})
        owners = _Owners(self._descriptor, extents)
        faults: list[Fault] = []
        for path, digest in sorted(expected.items()):
            belongs = owners.of(path)
            if path not in extents:
                faults.append(
                    Fault(text=f"{path}{_belongs_text(belongs)}: missing", path=path, owners=belongs)
                )
            elif actual[path] != digest:
                file = FramedFile(path=path, digest=digest, owners=belongs, extents=extents[path])
                faults.append(_changed(file, actual[path]))
        faults += [
            Fault(text=f"{path}: not named in {SUMS_PATH}", path=path, owners=owners.of(path))
            for path in sorted(extents)
            if path not in expected and path not in UNLISTED_PATHS
        ]
        return faults, len(extents)

    def _digests(self, jobs: Mapping[str, tuple[Extent, ...]]) -> dict[str, Digest]:
        """Take the digests of many files, the largest first, so that all cores end together."""
        order = sorted(jobs, key=lambda path: -sum(extent.size_bytes for extent in jobs[path]))
        running = {path: self._pool.submit(_hash, self._descriptor, jobs[path]) for path in order}
        _wait(list(running.values()), self._iso_file.name)
        return {path: job.result() for path, job in running.items()}

    def _read_sums(self, extents: Mapping[str, tuple[Extent, ...]]) -> dict[str, Digest]:
        """Read SHA256SUMS of the image. Raises: VerifyError when it is missing or not in its form."""
        try:
            text = read_bytes(self._descriptor, extents[SUMS_PATH]).decode()
            rows = [line.split("  ", 1) for line in text.splitlines()]
            return {path: Digest(value) for value, path in rows}
        except (KeyError, ValueError) as exc:
            raise VerifyError(
                f"'{self._iso_file.name}' has no {SUMS_PATH} that can be read",
                details=f"{type(exc).__name__}: {exc}",
                resolution="it is damaged, or not a bundle of Caisson",
            ) from exc


def _changed(file: FramedFile, actual: Digest) -> Fault:
    offset = file.extents[0].offset if file.extents else -1
    return Fault(
        text=f"{file.path}{_belongs_text(file.owners)}: sha256 {actual.hex}, expected {file.digest.hex}",
        path=file.path,
        owners=file.owners,
        offset=offset,
        size_bytes=file.size_bytes,
    )


def _belongs_text(owners: Sequence[str]) -> str:
    """Return `` (image ...)`` or the like."""
    return f" ({', '.join(owners)})" if owners else ""


def _hash(descriptor: int, extents: Sequence[Extent]) -> Digest:
    sha256 = hashlib.sha256()
    for piece in read_extents(descriptor, extents):
        sha256.update(piece)
    return Digest(sha256.hexdigest())


def _wait(jobs: Sequence[concurrent.futures.Future[Digest]], title: str) -> None:
    """Wait for all jobs; say every two seconds how many are done."""
    pending = set(jobs)
    while pending:
        _, pending = concurrent.futures.wait(pending, timeout=_PROGRESS_S)
        if pending:
            ui.note(f"{title}: {len(jobs) - len(pending)} of {len(jobs)} digests taken")


class _Owners:
    """Says what a file belongs to, from the bundle alone; read only when there is something to say."""

    def __init__(self, descriptor: int, extents: Mapping[str, tuple[Extent, ...]]) -> None:
        self._descriptor = descriptor
        self._extents = extents

    def of(self, path: str) -> tuple[str, ...]:
        """Return the images or the package that a file is part of; nothing where its path says it all."""
        if path.startswith("oci/blobs/"):
            names = self._images.get(path.rsplit("/", 1)[1], ())
            return tuple(f"image {name}" for name in sorted(set(names)))
        if path.startswith("repo/") and path.endswith(".rpm"):
            return (f"package {path.rsplit('/', 1)[1].removesuffix('.rpm')}",)
        return ()

    @functools.cached_property
    def _images(self) -> dict[str, list[str]]:
        """Map blobs to the images that use them, as far as manifests can be read."""
        found: dict[str, list[str]] = {}
        for entry in ociindex.entries(ociindex.parse(self._bytes("oci/index.json")), "manifests"):
            annotations = entry.get("annotations")
            names = annotations if isinstance(annotations, dict) else {}
            name = str(names.get("org.opencontainers.image.ref.name", "?"))
            for node in ociindex.walk(entry["digest"], self._read, takes=self._is_there):
                blobs = (digest for _, digest in ociindex.content(node.document or {}))
                for digest in (node.digest, *blobs):
                    found.setdefault(digest.removeprefix("sha256:"), []).append(name)
        return found

    def _is_there(self, entry: Mapping[str, Any]) -> bool:
        return _blob_path(entry["digest"]) in self._extents

    def _read(self, digest: str) -> bytes:
        return self._bytes(_blob_path(digest))

    def _bytes(self, path: str) -> bytes:
        return read_bytes(self._descriptor, self._extents.get(path, ()))


def _blob_path(digest: str) -> str:
    return f"oci/blobs/sha256/{digest.removeprefix('sha256:')}"


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m build.evidence.verify", description="Verify a Caisson ISO."
    )
    parser.add_argument(
        "iso", type=Path, help="the image; its .sha256 and .frame beside it are used when they are there"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--whole", action="store_true", help="take the digest of the whole image too, as sha256sum does"
    )
    options = parser.parse_args(arguments)
    try:
        if options.json:
            report = verify_iso(options.iso, is_whole_wanted=options.whole)
            print(report.as_json())
            return VerifyError.exit_code if report.faults else 0
        run_verify(options.iso, is_whole_wanted=options.whole)
    except BuildError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
