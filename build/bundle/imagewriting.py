# SPDX-License-Identifier: Apache-2.0
"""Have xorriso write an image of files straight from where they are, and take its media sum on the way.

    entries -> path list -> xorriso --pipe--> media sum, image file -> sum implanted

Everything that xorriso would take from files or from the clock is set: owner, modes, dates, volume dates. The
tree is sorted by xorriso itself. The same version of xorriso gives the same bytes for the same lock. The image
comes through a pipe because its media sum has to be in it before its SHA-256 can be taken: so the finished
image is read once, and not twice. Source: xorriso(1) 1.5.4; libburnia, "Reproducibility considerations".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from build.base import ui
from build.base.errors import BuildError
from build.base.files import write_atomically
from build.base.run import run
from build.bundle.mediasum import MediaSum
from build.store.filelist import Entry

_FILE_MODE, _DIRECTORY_MODE, _SCRIPT_MODE = "0444", "0555", "0755"
_PIPE_BYTES = 1 << 20
_PROGRESS_S = 2.0
_TIMEOUT_S = 4 * 3600


def write_image(
    file: Path, entries: Sequence[Entry], volume: str, source_date_epoch: int, work_dir: Path
) -> None:
    """Write an image, with its media sum in it.

    Raises: BuildError, also when the disk is full; CommandError.
    """
    path_list = work_dir / "iso.paths"
    write_atomically(path_list, render_path_list(entries).encode())
    scripts = sorted(entry.path for entry in entries if entry.is_executable)
    media_sum = MediaSum(file.name)
    with _pumped(file, media_sum, sum(entry.size_bytes for entry in entries)) as descriptor:
        run(
            xorriso_args(descriptor, path_list, scripts, volume=volume, source_date_epoch=source_date_epoch),
            env={"SOURCE_DATE_EPOCH": str(source_date_epoch)},
            timeout_s=_TIMEOUT_S,
            log_file=work_dir / "xorriso.log",
            pass_fd=descriptor,
        )
    media_sum.implant(file)


@contextlib.contextmanager
def _pumped(file: Path, media_sum: MediaSum, total_bytes: int) -> Iterator[int]:
    """Give a descriptor to write to; what comes is taken into the sum and written to the file.

    Raises: BuildError when it cannot be written.
    """
    source, sink = os.pipe()
    with contextlib.suppress(OSError):  # more than a user may have: then in smaller pieces
        fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    failures: list[OSError | BuildError] = []

    def pump() -> None:
        try:
            _pump(source, file, media_sum, total_bytes)
        except (OSError, BuildError) as exc:
            failures.append(exc)
        finally:
            os.close(source)

    pumping = threading.Thread(target=pump, name="image", daemon=True)
    pumping.start()
    try:
        yield sink
    except BuildError:
        if not failures:
            raise  # else xorriso ended because nobody took what it wrote
    finally:
        os.close(sink)
        pumping.join()
    for failure in failures:
        raise _writing_error(failure, file) from failure


def _pump(source: int, file: Path, media_sum: MediaSum, total_bytes: int) -> None:
    """Take all that comes; say every two seconds how much it was."""
    written_bytes, said = 0, time.monotonic()
    with file.open("wb", buffering=0) as image:
        while data := os.read(source, _PIPE_BYTES):
            media_sum.update(data)
            left = memoryview(data)
            while left:
                left = left[image.write(left) :]
            written_bytes += len(data)
            if time.monotonic() - said >= _PROGRESS_S:
                said = time.monotonic()
                ui.note(f"image: {ui.bytes_text(written_bytes)} of {ui.bytes_text(total_bytes)}")


def _writing_error(failure: OSError | BuildError, file: Path) -> BuildError:
    if isinstance(failure, BuildError):
        return failure
    is_full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
    return BuildError(
        "no space left for the image" if is_full else "the image cannot be written",
        details=f"{failure.strerror}: {file.parent}",
        resolution="free space there, and build again" if is_full else "check the disk and its permissions",
    )


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
    descriptor: int, path_list: Path, scripts: Sequence[str], *, volume: str, source_date_epoch: int
) -> list[str]:
    """Return the command that writes an image to a descriptor: files from a list, everything else set here."""
    date = datetime.fromtimestamp(source_date_epoch, UTC).strftime("%Y%m%d%H%M%S00")
    seconds = f"={source_date_epoch}"
    return [
        "xorriso",
        "-no_rc",
        "-report_about", "WARNING",
        "-abort_on", "SORRY",
        "-return_with", "SORRY", "32",
        "-outdev", f"stdio:/dev/fd/{descriptor}",
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
