# SPDX-License-Identifier: Apache-2.0
"""Assemble the ISO straight from the store and the tree of generated files; nothing is copied on the way.

    all tables, SHA256SUMS -> path list -> xorriso -> checksum implanted -> caisson-*.iso
    the finished image -> .iso.sha256 (and .asc, when signed), .iso.frame

Everything that xorriso would take from files or from the clock is set: owner, modes, dates, volume dates. The
tree is sorted by xorriso itself. The same version of xorriso gives the same bytes for the same lock.
Source: xorriso(1) 1.5.4; libburnia, "Reproducibility considerations".
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from build.base import ui
from build.base.errors import BuildError, ClosedWorldError, MissingError, joined_faults
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.base.run import run
from build.bundle import sign
from build.bundle.frame import frame_file, make_frame, write_frame
from build.bundle.implant import implant_md5
from build.inventory.model import Digest
from build.store import filelist
from build.store.filelist import Entry

SUMS_PATH = "SHA256SUMS"
#: What SHA256SUMS cannot name: itself, and what is made of it.
UNLISTED_PATHS = frozenset({SUMS_PATH, sign.SIGNATURE_PATH, sign.KEY_PATH})
_FILE_MODE, _DIRECTORY_MODE, _SCRIPT_MODE = "0444", "0555", "0755"
_PROGRESS_S = 2.0
_TIMEOUT_S = 4 * 3600


def checksum_file(iso_file: Path) -> Path:
    """Return the file beside an ISO that sha256sum(1) checks it with."""
    return iso_file.with_name(f"{iso_file.name}.sha256")


def plan_iso(
    *,
    parts: Sequence[Path],
    sums_file: Path,
    proofs: Sequence[Path],
    iso_file: Path,
    volume: str,
    source_date_epoch: int,
    store_files: Sequence[Path],
    workspace: Workspace,
    signing_key: str = "",
) -> Step:
    """Plan the assembly. ``parts`` are all tables; ``proofs`` are results of checks that pass first.

    With a ``signing_key`` (fingerprint) the checksum file beside the image is signed too.
    """
    beside = [checksum_file(iso_file), frame_file(iso_file)]
    if signing_key:
        beside.append(sign.signature_file(checksum_file(iso_file)))
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
            workspace.work_dir,
            signing_key,
        ),
        inputs=tuple(dict.fromkeys((*parts, sums_file, *proofs, *store_files))),
        outputs=(iso_file, *beside),
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
    work_dir: Path,
    signing_key: str = "",
) -> None:
    """Write the ISO and what lies beside it.

    Raises: MissingError when a file of the bundle is gone or has another size; CommandError; BuildError;
    SignatureError, KeyFileError.
    """
    entries = (
        *filelist.merge_parts(parts),
        filelist.describe_file(SUMS_PATH, sums_file, owners=("checksums",)),
    )
    check_sources(entries)
    check_listed(entries, sums_file)
    temporary = iso_file.with_name(f".{iso_file.name}.{os.getpid()}.tmp")
    iso_file.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        with _progress(iso_file.name, temporary, sum(entry.size_bytes for entry in entries)):
            write_image(temporary, entries, volume, source_date_epoch, work_dir)
            implant_md5(temporary)
            digest = Digest.of_file(temporary)
        frame = make_frame(temporary, entries)
        temporary.chmod(0o644)
        temporary.replace(iso_file)
    finally:
        temporary.unlink(missing_ok=True)
    frame_digest = write_frame(frame_file(iso_file), frame)
    text = render_checksum(iso_file.name, digest, frame_file(iso_file).name, frame_digest)
    write_atomically(checksum_file(iso_file), text.encode())
    signature = sign.signature_file(checksum_file(iso_file))
    signature.unlink(missing_ok=True)
    if signing_key:
        sign.sign_file(checksum_file(iso_file), signature, signing_key)
    ui.note(f"{iso_file}: {ui.bytes_text(iso_file.stat().st_size)}, {digest}")


def write_image(
    file: Path, entries: Sequence[Entry], volume: str, source_date_epoch: int, work_dir: Path
) -> None:
    """Write an image of files straight from where they are, without a checksum in it yet.

    Raises: BuildError; CommandError.
    """
    path_list = work_dir / "iso.paths"
    write_atomically(path_list, render_path_list(entries).encode())
    scripts = sorted(entry.path for entry in entries if entry.is_executable)
    run(
        xorriso_args(file, path_list, scripts, volume=volume, source_date_epoch=source_date_epoch),
        env={"SOURCE_DATE_EPOCH": str(source_date_epoch)},
        timeout_s=_TIMEOUT_S,
        log_file=work_dir / "xorriso.log",
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
            resolution="run 'doit fetch', then 'doit' again",
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


def render_path_list(entries: Sequence[Entry]) -> str:
    """Render xorriso's list of ``path on the ISO=file``, one a line, sorted; ``=`` in the path is escaped.

    Raises: BuildError for a file name that such a list cannot hold.
    """
    lines = []
    for entry in sorted(entries, key=lambda entry: entry.path):
        source = str(entry.source.absolute())
        if "\n" in source or entry.path.endswith("\\"):
            raise BuildError(
                f"file '{entry.path}' cannot be put on an ISO",
                details=f"from {source!r}",
                resolution="rename the file or build in a directory with a plain name",
            )
        lines.append("/{}={}\n".format(entry.path.replace("=", "\\="), source))
    return "".join(lines)


def xorriso_args(
    iso_file: Path, path_list: Path, scripts: Sequence[str], *, volume: str, source_date_epoch: int
) -> list[str]:
    """Return the command that writes the ISO: files from a list, everything else set here."""
    date = datetime.fromtimestamp(source_date_epoch, UTC).strftime("%Y%m%d%H%M%S00")
    seconds = f"={source_date_epoch}"
    return [
        "xorriso",
        "-no_rc",
        "-report_about", "WARNING",
        "-abort_on", "SORRY",
        "-return_with", "SORRY", "32",
        "-stdio_sync", "off",
        "-outdev", f"stdio:{iso_file}",
        "-volid", volume,
        "-volset_id", volume,
        "-application_id", "CAISSON",
        "-preparer_id", "CAISSON",
        "-publisher", "",
        "-system_id", "",
        "-joliet", "off",
        "-rockridge", "on",
        "-compliance", "iso_9660_level=3:always_gmt",
        "-acl", "off",
        "-xattr", "off",
        "-hardlinks", "off",
        "-md5", "off",
        "-pathspecs", "on",
        "-path_list", str(path_list),
        "-chown_r", "0", "/", "--",
        "-chgrp_r", "0", "/", "--",
        "-find", "/", "-type", "d", "-exec", "chmod", _DIRECTORY_MODE, "--",
        "-find", "/", "-type", "f", "-exec", "chmod", _FILE_MODE, "--",
        *(word for script in scripts for word in ("-chmod", _SCRIPT_MODE, f"/{script}", "--")),
        "-alter_date_r", "b", seconds, "/", "--",
        "-volume_date", "uuid", date,
        "-volume_date", "all_file_dates", seconds,
        "-commit",
        "-end",
    ]  # fmt: skip


@contextlib.contextmanager
def _progress(title: str, file: Path, total_bytes: int) -> Iterator[None]:
    """Say every two seconds how much of the image is written, then that its sums are taken."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PROGRESS_S):
            try:
                written = file.stat().st_size
            except OSError:
                continue
            is_written = written >= total_bytes
            state = (
                "its checksums" if is_written else f"{ui.bytes_text(written)} of {ui.bytes_text(total_bytes)}"
            )
            ui.note(f"{title}: {state}")

    watcher = threading.Thread(target=watch, name="iso progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
