# SPDX-License-Identifier: Apache-2.0
"""Assemble the ISO straight from the store and the tree of generated files; nothing is copied on the way.

    all tables, SHA256SUMS -> image (see imagewriting.py) -> read back once: whole, files, bytes between them
    the image that proved good -> caisson-*.iso, .iso.sha256 (and .asc, when signed), .iso.frame

What the store or the disk damaged shows when the image is read back: then no ISO is left.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from build.base import ui
from build.base.errors import ClosedWorldError, IntegrityError, MissingError, WorkspaceError, joined_faults
from build.base.files import replacing, write_atomically
from build.base.plan import Step, Workspace
from build.base.space import require_space
from build.bundle import sign
from build.bundle.frame import FramedFile, frame_file, read_back, write_frame
from build.bundle.imagewriting import write_image
from build.inventory.model import Digest
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store, remove_damaged

SUMS_PATH = "SHA256SUMS"
_SPARE_BYTES = 8_000_000  # directory records, padding, the frame
#: What SHA256SUMS cannot name: itself, and what is made of it.
UNLISTED_PATHS = frozenset({SUMS_PATH, sign.SIGNATURE_PATH, sign.KEY_PATH})


def checksum_file(iso_file: Path) -> Path:
    """Return the file beside an ISO that sha256sum(1) checks it with."""
    return iso_file.with_name(f"{iso_file.name}.sha256")


def beside(iso_file: Path) -> tuple[Path, Path, Path]:
    """Return what belongs to an ISO: its checksum, its frame, and the signature of the checksum when signed."""
    checksum = checksum_file(iso_file)
    return checksum, frame_file(iso_file), sign.signature_file(checksum)


def plan_iso(
    *,
    parts: Sequence[Path],
    sums_file: Path,
    proofs: Sequence[Path],
    iso_file: Path,
    volume: str,
    source_date_epoch: int,
    store: Store,
    store_files: Sequence[Path],
    workspace: Workspace,
    signing_key: str = "",
) -> Step:
    """Plan the assembly. ``parts`` are all tables; ``proofs`` are results of checks that pass first.

    With a ``signing_key`` (fingerprint) the checksum file beside the image is signed too.
    """
    return Step(
        name="image",
        doc=f"assemble {iso_file.name}",
        run=functools.partial(
            run_iso,
            tuple(parts),
            sums_file,
            iso_file,
            volume,
            source_date_epoch,
            store,
            workspace.work_dir,
            signing_key,
        ),
        inputs=tuple(dict.fromkeys((*parts, sums_file, *proofs, *store_files))),
        outputs=(iso_file, *beside(iso_file)[: 3 if signing_key else 2]),
        config={
            "volume_id": volume,
            "source_date_epoch": source_date_epoch,
            "signing_key": signing_key,
        },
    )


def run_iso(
    parts: Sequence[Path],
    sums_file: Path,
    iso_file: Path,
    volume: str,
    source_date_epoch: int,
    store: Store,
    work_dir: Path,
    signing_key: str = "",
) -> Mapping[Path, str]:
    """Write the ISO and what lies beside it; return the digests that are known by then.

    Raises: MissingError when a file of the bundle is gone or has another size; IntegrityError when one is not
    what its digest names; CommandError; BuildError; SignatureError, KeyFileError.
    """
    entries = (
        *filelist.merge_parts(parts),
        filelist.describe_file(SUMS_PATH, sums_file, owners=("checksums",)),
    )
    check_sources(entries)
    check_listed(entries, sums_file)
    require_space(
        sum({entry.source: entry.size_bytes for entry in entries}.values()) + _SPARE_BYTES,
        iso_file.parent,
        f"'{iso_file.name}'",
        kind=WorkspaceError,
        resolution="free space there; an older image of the same name stays until the new one is good",
    )
    with replacing(iso_file) as temporary:
        write_image(temporary, entries, volume, source_date_epoch, work_dir)
        ui.note(f"{iso_file.name}: reading it back")
        reading = read_back(temporary, entries)
        _check_content(reading.wrong, entries, store)
        temporary.chmod(0o644)
        for file in beside(iso_file):
            file.unlink(missing_ok=True)  # of an older image: better none than one that is not this image's
    frame_digest = write_frame(frame_file(iso_file), reading.frame)
    text = render_checksum(iso_file.name, reading.whole, frame_file(iso_file).name, frame_digest)
    write_atomically(checksum_file(iso_file), text.encode())
    if signing_key:
        sign.sign_file(checksum_file(iso_file), sign.signature_file(checksum_file(iso_file)), signing_key)
    ui.note(f"{iso_file}: {ui.bytes_text(reading.frame.size_bytes)}, {reading.whole}")
    return {iso_file: reading.whole.hex, frame_file(iso_file): frame_digest.hex}


def _check_content(wrong: Iterable[FramedFile], entries: Sequence[Entry], store: Store) -> None:
    """Raise IntegrityError for files of an image that are not what SHA256SUMS says; name the sources at fault.

    A damaged object is taken out of the store, so that a fetch brings it again.
    """
    known = {entry.path: entry for entry in entries}
    faults, is_fetched_again = [], False
    for file in wrong:
        entry = known[file.path]
        label = f"{file.path} ({', '.join(file.owners)})"
        if Digest.of_file(entry.source) == entry.digest:
            faults.append(f"{label}: is not in the image as it is in {entry.source}")
        elif entry.source == store.path(entry.digest):
            remove_damaged(entry.source, label)
            is_fetched_again = True
            faults.append(f"{label}: damaged in the store, now removed from it: {entry.source}")
        else:
            faults.append(f"{label}: changed since it was made: {entry.source}")
    if faults:
        again = "run './doit.sh fetch', then './doit.sh' again" if is_fetched_again else "build again"
        raise IntegrityError(
            f"{len(faults)} file{'s' if len(faults) > 1 else ''} of the bundle would not be what {SUMS_PATH} says",
            details=joined_faults(faults),
            resolution=f"{again}; check the disk and the memory of this machine: something changed these bytes",
        )


def render_checksum(iso_name: str, digest: Digest, frame_name: str, frame_digest: Digest) -> str:
    """Render the checksum file: sha256sum(1) reads the first line and takes the second for a comment."""
    return f"{digest.hex}  {iso_name}\n# frame {frame_digest.hex}  {frame_name}\n"


def check_sources(entries: Sequence[Entry]) -> None:
    """Check that every file to be put on the ISO is there with its size; name all that are not.

    Raises: MissingError.
    """
    faults = [fault for entry in entries if (fault := _fault(entry)) is not None]
    if faults:
        raise MissingError(
            f"{len(faults)} file{'s' if len(faults) > 1 else ''} of the bundle cannot be taken",
            details=joined_faults(faults),
            resolution="run './doit.sh fetch', then './doit.sh' again",
        )


def check_listed(entries: Sequence[Entry], sums_file: Path) -> None:
    """Check that SHA256SUMS names every file that is put on the ISO, with its digest.

    Raises: ClosedWorldError.
    """
    rows = (line.partition("  ") for line in sums_file.read_text(encoding="utf-8").splitlines())
    listed = {path: digest for digest, _, path in rows}
    faults = [
        f"{entry.path} ({', '.join(entry.owners)})"
        for entry in entries
        if entry.path not in UNLISTED_PATHS and listed.get(entry.path) != entry.digest.hex
    ]
    if faults:
        raise ClosedWorldError(
            f"{len(faults)} file{'s' if len(faults) > 1 else ''} of the bundle would not be in {SUMS_PATH}",
            details=joined_faults(faults),
            resolution="report this: whatever adds files to the ISO must come before its checksums",
        )


def _fault(entry: Entry) -> str | None:
    try:
        size_bytes = entry.source.stat().st_size
    except OSError as exc:
        return f"{entry.path} ({', '.join(entry.owners)}): {exc.strerror}: {entry.source}"
    if size_bytes != entry.size_bytes:
        return f"{entry.path} ({', '.join(entry.owners)}): {size_bytes} bytes instead of {entry.size_bytes}"
    return None
