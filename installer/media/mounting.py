# SPDX-License-Identifier: Apache-2.0
"""Trust the media and keep it: verify every byte, find what it was mounted from, mount that now and at each boot.

The operator mounts the ISO anywhere and starts its ``bootstrap.sh``. From there: SHA256SUMS is checked over
the whole tree, the file or device behind the mount is found, and a systemd mount unit puts it at
``/srv/caisson/VERSION-BUILD``, now and after each boot; a missing ISO stops no boot (``nofail``).
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from installer.base.errors import CommandError, MediaError
from installer.base.files import write_file
from installer.base.mounts import Mount, find_mount, read_mounts
from installer.base.run import run
from installer.base.ui import format_bytes
from installer.media import custody
from installer.media.product import FILE_NAME, Product, load
from installer.media.signature import UNLISTED_FILE_NAMES

SUMS_FILE_NAME = "SHA256SUMS"
CHUNK_BYTES = 4 * 1024 * 1024
WORKERS = 2
SHOWN_FILES = 20
SUM_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")
ISO_TYPES = ("iso9660", "udf")
LINK = -1
"""In place of a size: what is there is no file."""
VOLATILE_TYPES = ("tmpfs", "ramfs", "overlay")


# ---- verify ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileFault:
    """A file of the media that is not as SHA256SUMS says: what it is (missing, say), its path, what is known more."""

    what: str
    path: str
    more: str = ""

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.what}: {self.path}" + (f" ({self.more})" if self.more else "")


@dataclass(frozen=True)
class Compared:
    """What was read, and what is wrong with it."""

    files: int
    size_bytes: int
    faults: tuple[FileFault, ...]


@dataclass(frozen=True)
class Verified:
    """What was read and found good."""

    files: int
    size_bytes: int


def parse_sums(text: str, *, origin: str = SUMS_FILE_NAME) -> dict[str, str]:
    """Parse SHA256SUMS into relative path -> hexadecimal digest.

    Raises:
        MediaError: a line of another shape, a path that leaves the tree, a path that is there twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = SUM_LINE.match(line)
        path = match.group(2) if match else ""
        is_unsafe = path.startswith("/") or ".." in path.split("/")
        if match is None or is_unsafe or path in sums:
            raise MediaError(
                f"{origin}:{number} is not a line of sha256sum, or names a file twice or outside the media",
                details=f"line: {line[:200]!r}",
                resolution="the media is damaged: copy the ISO again and compare its checksum",
            )
        sums[path] = match.group(1)
    return sums


def verify(media_dir: Path, *, progress: Callable[[str], None], interval_s: float | None = None) -> Verified:
    """Read the whole media and compare it with SHA256SUMS; see :func:`compare`.

    Raises:
        MediaError: anything is wrong; ``details`` lists it.
    """
    compared = compare(media_dir, progress=progress, interval_s=interval_s)
    if compared.faults:
        shown = [str(fault) for fault in compared.faults[:SHOWN_FILES]]
        if len(compared.faults) > len(shown):
            shown.append(f"and {len(compared.faults) - len(shown)} more")
        raise MediaError(
            f"the media {media_dir} is damaged: {len(compared.faults)} files are not as {SUMS_FILE_NAME} says",
            details="\n".join(shown),
            resolution="copy the ISO again, compare its checksum, mount it and start again",
        )
    return Verified(files=compared.files, size_bytes=compared.size_bytes)


def compare(
    media_dir: Path,
    *,
    progress: Callable[[str], None],
    workers: int = WORKERS,
    interval_s: float | None = None,
) -> Compared:
    """Read the whole media and say which files are not as SHA256SUMS says.

    Every file is read, each wrong one is named: differing, unreadable, missing, not listed. A link is wrong: no ISO of
    Caisson has one, and it may lead out of it. Progress is told at each
    tenth, and every ``interval_s`` too, whether or not anything was read since.

    Raises:
        MediaError: SHA256SUMS or a directory cannot be read.
    """
    sums_file = media_dir / SUMS_FILE_NAME
    try:
        sums = parse_sums(sums_file.read_text(encoding="utf-8"), origin=str(sums_file))
    except (OSError, UnicodeDecodeError) as exc:
        raise MediaError(
            f"{sums_file} cannot be read",
            details=str(exc),
            resolution="the media is damaged or not Caisson's: copy the ISO again and compare its checksum",
        ) from exc
    present = _list_files(media_dir)
    faults = [FileFault("missing", path) for path in sorted(set(sums) - set(present))]
    unlisted = (path for path in set(present) - set(sums) if present[path] != LINK)
    faults += [FileFault(f"not listed in {SUMS_FILE_NAME}", path) for path in sorted(unlisted)]
    links = {path for path, size in present.items() if size == LINK}
    faults += [FileFault("a link", path, "an ISO has none") for path in sorted(links)]
    paths = sorted((set(sums) & set(present)) - links)
    total_bytes = sum(present[path] for path in paths)
    reading = _Reading(media_dir, total_bytes, progress)
    for path in paths:
        reading.pending.put((path, sums[path]))
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="verify") as pool:
        jobs = [pool.submit(reading.work) for _ in range(workers)]
        try:
            while wait(jobs, timeout=interval_s, return_when=FIRST_EXCEPTION).not_done:
                if any(job.done() and job.exception() for job in jobs):
                    break
                reading.tell()
            reading.stop.set()
            for job in jobs:
                job.result()
        finally:
            reading.stop.set()
    return Compared(len(paths), total_bytes, (*faults, *sorted(reading.faults, key=str)))


@dataclass
class _Reading:
    """The shared state of the workers that read the media."""

    media_dir: Path
    total_bytes: int
    progress: Callable[[str], None]
    pending: queue.SimpleQueue[tuple[str, str]] = field(default_factory=queue.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    faults: list[FileFault] = field(default_factory=list)
    read_bytes: int = 0
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Verify files until none is left."""
        chunk = memoryview(bytearray(CHUNK_BYTES))
        while not self.stop.is_set():
            try:
                path, expected = self.pending.get_nowait()
            except queue.Empty:
                return
            try:
                found = self._digest(self.media_dir / path, chunk)
            except OSError as exc:
                self.faults.append(FileFault("unreadable", path, str(exc.strerror)))
                continue
            if found != expected and not self.stop.is_set():
                more = f"sha256 {found[:12]}.., expected {expected[:12]}.."
                self.faults.append(FileFault("differs", path, more))

    def _digest(self, file: Path, chunk: memoryview) -> str:
        digest = hashlib.sha256()
        with file.open("rb", buffering=0) as source:
            while not self.stop.is_set():
                count = source.readinto(chunk)
                if not count:
                    break
                digest.update(chunk[:count])
                self._count(count)
        return digest.hexdigest()

    def _count(self, count: int) -> None:
        with self.mutex:
            before = self.read_bytes * 100 // max(self.total_bytes, 1)
            self.read_bytes += count
            percent = self.read_bytes * 100 // max(self.total_bytes, 1)
            if percent // 10 != before // 10:
                self._tell()

    def tell(self) -> None:
        """Say how far it is."""
        with self.mutex:
            self._tell()

    def _tell(self) -> None:
        percent = self.read_bytes * 100 // max(self.total_bytes, 1)
        done, total = format_bytes(self.read_bytes), format_bytes(self.total_bytes)
        self.progress(f"reading the media: {percent} % ({done} of {total})")


def _list_files(media_dir: Path) -> dict[str, int]:
    """Return every file with its size, a link with LINK, less SHA256SUMS and its signature.

    An unreadable directory is an error.

    Raises:
        MediaError: a directory cannot be read.
    """
    found: dict[str, int] = {}

    def refuse(error: OSError) -> None:
        raise MediaError(
            f"{error.filename} cannot be read: {error.strerror}",
            details=f"while listing the media {media_dir}",
            resolution="the media is damaged: copy the ISO again and compare its checksum",
        ) from error

    for directory, below, names in os.walk(media_dir, onerror=refuse):
        for name in (*names, *below):
            file = Path(directory, name)
            status = file.lstat()
            if not stat.S_ISDIR(status.st_mode):
                size = LINK if stat.S_ISLNK(status.st_mode) else status.st_size
                found[str(file.relative_to(media_dir))] = size
    return {path: size for path, size in found.items() if size == LINK or path not in UNLISTED_FILE_NAMES}


# ---- what is behind a mount ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backing:
    """What a media mount can be made from again: an ISO file, or a block device."""

    what: str
    is_file: bool


def find_backing(source_dir: Path, mounts: Sequence[Mount], *, root: Path = Path("/")) -> Backing:
    """Return the ISO file or the block device that ``source_dir`` is mounted from.

    Works for the kernel's own iso9660 on a loop device or a disk, and for a FUSE file system
    (``fuse.iso9660``) whose source is the loop device or the ISO file.

    Raises:
        MediaError: it is no mounted ISO, or its file is gone.
    """
    mount = find_mount(source_dir, mounts)
    if mount is None or not _is_iso(mount):
        kind = "nothing" if mount is None else f"a file system of type {mount.fstype} ({mount.source})"
        raise MediaError(
            f"{source_dir} is not a mounted ISO",
            details=f"it lies on {kind}",
            resolution="keep the ISO on this host, 'mount -o loop,ro FILE.iso DIR', start DIR/bootstrap.sh",
        )
    loop = re.match(r"^/dev/(loop\d+)$", mount.source)
    if loop:
        return Backing(_loop_file(loop.group(1), root), is_file=True)
    place = root / mount.source.lstrip("/")
    if mount.source.startswith("/dev/"):
        return Backing(_stable_name(mount.source, root), is_file=False)
    if mount.source.startswith("/") and place.is_file():
        return Backing(mount.source, is_file=True)
    raise MediaError(
        f"what {source_dir} was mounted from cannot be found",
        details=f"its source is '{mount.source}', type {mount.fstype}",
        resolution="mount the ISO with 'mount -o loop,ro FILE.iso DIR' and start DIR/bootstrap.sh",
    )


def _is_iso(mount: Mount) -> bool:
    return mount.fstype in ISO_TYPES or mount.fstype.split(".")[0] == "fuse"


def _loop_file(name: str, root: Path) -> str:
    """Return the file behind a loop device."""
    file = root / "sys/block" / name / "loop/backing_file"
    try:
        what = file.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
    except OSError as exc:
        raise MediaError(
            f"the file behind /dev/{name} cannot be found: {exc.strerror}",
            details=f"{file} cannot be read",
            resolution="mount the ISO with 'mount -o loop,ro FILE.iso DIR' and start DIR/bootstrap.sh",
        ) from exc
    if what.endswith(" (deleted)") or not (root / what.lstrip("/")).is_file():
        raise MediaError(
            f"the ISO behind /dev/{name} is no longer there: {what}",
            details="the media must stay on this host: packages and images are served from it",
            resolution="copy the ISO to a disk (/var/lib/caisson-media), mount it, start again",
        )
    return what


def _stable_name(device: str, root: Path) -> str:
    """Return a name of a block device that is the same after a reboot, or the device when there is none.

    A label comes last: whatever disk has the same one may take it at the next boot.
    """
    for directory in ("dev/disk/by-id", "dev/disk/by-path", "dev/disk/by-label"):
        links = sorted((root / directory).glob("*")) if (root / directory).is_dir() else []
        for link in links:
            if link.resolve() == (root / device.lstrip("/")).resolve():
                return f"/{directory}/{link.name}"
    return device


def check_custody(source_dir: Path, *, root: Path = Path("/"), mounts: Sequence[Mount] | None = None) -> None:
    """Refuse media that somebody but root can change, by its file or its disk; pass over what is no mounted ISO.

    Raises:
        MediaError: the file, or a directory on its path, is not root's alone, or that cannot be told.
    """
    seen = read_mounts() if mounts is None else mounts
    try:
        backing = find_backing(source_dir.resolve(), seen, root=root)
    except MediaError:
        return  # keep_mounted says so, with what to do
    if backing.is_file:
        custody.refuse_changeable((root / backing.what.lstrip("/")).resolve(), mounts=seen, root=root)
    else:
        custody.refuse_device(backing.what, mounts=seen, root=root)


def check_source(source_dir: Path, *, root: Path = Path("/"), mounts: Sequence[Mount]) -> None:
    """Refuse what the phases verify-media and mount-media would, as far as it shows without reading the media.

    A tree that lies on no ISO is passed over: it may be a copy that only checks.

    Raises:
        MediaError: the ISO is gone, has a name that no unit can hold, or is not root's alone.
    """
    mount = find_mount(source_dir.resolve(), mounts)
    if mount is None or not _is_iso(mount):
        return
    _refuse_name(find_backing(source_dir.resolve(), mounts, root=root))
    check_custody(source_dir, root=root, mounts=mounts)


def is_lasting(backing: Backing, mounts: Sequence[Mount]) -> bool:
    """Say whether the ISO file will still be there after a reboot, as far as its file system tells."""
    mount = find_mount(Path(backing.what), mounts)
    return not backing.is_file or mount is None or mount.fstype not in VOLATILE_TYPES


# ---- mount it at each boot -----------------------------------------------------------------------------------


def unit_name(mount_point: Path) -> str:
    r"""Return the name that systemd wants for the mount unit of a path.

    Source: systemd.unit(5), "String escaping for inclusion in unit names".

    >>> unit_name(Path("/srv/caisson/0.1.0-rc1"))
    'srv-caisson-0.1.0\\x2drc1.mount'
    """
    parts = []
    for index, byte in enumerate(os.fsencode(str(mount_point).strip("/"))):
        character = chr(byte)
        if character == "/":
            parts.append("-")
        elif (character.isascii() and (character.isalnum() or character in ":_")) or (
            character == "." and index
        ):
            parts.append(character)
        else:
            parts.append(f"\\x{byte:02x}")
    return "".join(parts) + ".mount"


def render_unit(backing: Backing, mount_point: Path, title: str) -> str:
    """Return the text of the mount unit."""
    what = backing.what.replace("%", "%%")
    lines = ["# Written by Caisson.", "[Unit]", f"Description=Media of {title}"]
    if backing.is_file:
        lines.append('RequiresMountsFor="' + what.replace("\\", "\\\\").replace('"', '\\"') + '"')
        # A file that is gone is no failure of the boot: the unit is skipped, `caisson status` says what is missing.
        lines.append(f"ConditionPathExists={what}")
    lines += [
        "",
        "[Mount]",
        f"What={what}",
        f"Where={mount_point}",
        "Type=iso9660",
        f"Options={'loop,' if backing.is_file else ''}ro,nofail",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


def keep_mounted(
    product: Product, source_dir: Path, mount_point: Path, units_dir: Path, *, note: Callable[[str], None]
) -> bool:
    """Mount the media at ``mount_point``, now and after each boot; return whether anything was changed.

    Raises:
        MediaError: its file cannot be found, it cannot be mounted, or something else is seen there.
    """
    mounts = read_mounts()
    backing = find_backing(source_dir.resolve(), mounts)
    _refuse_name(backing)
    check_custody(source_dir)
    if not is_lasting(backing, mounts):
        note(f"warning: {backing.what} lies in memory and is gone after a reboot: copy the ISO to a disk")
    unit = unit_name(mount_point)
    mount_point.mkdir(parents=True, exist_ok=True)
    is_changed = write_file(
        units_dir / unit, render_unit(backing, mount_point, f"Caisson {product.full_version}")
    )
    if is_changed:
        run(["systemctl", "daemon-reload"], timeout_s=60)
    if run(["systemctl", "is-enabled", unit], timeout_s=30, check=False).stdout.strip() != "enabled":
        run(["systemctl", "enable", unit], timeout_s=60)
        is_changed = True
    if run(["systemctl", "is-active", unit], timeout_s=30, check=False).stdout.strip() != "active":
        _start(unit, mount_point, backing)
        is_changed = True
    if not _is_same_media(product, source_dir, mount_point, backing):
        note(f"another media is mounted at {mount_point}: replacing it")
        run(["systemctl", "stop", unit], timeout_s=90, check=False)
        _start(unit, mount_point, backing)
        is_changed = True
        if not _is_same_media(product, source_dir, mount_point, backing):
            raise MediaError(
                f"{mount_point} shows another media than {source_dir}",
                details=f"unit: {unit}\nmade from: {backing.what}",
                resolution=f"see 'fuser -vm {mount_point}', then 'umount {mount_point}' and start again",
            )
    return is_changed


def _refuse_name(backing: Backing) -> None:
    """Refuse the name of an ISO that no unit can hold: systemd passes over lines that are not UTF-8.

    Raises:
        MediaError: it has a line break or bytes that are no UTF-8.
    """
    if not backing.what.isprintable():  # lone surrogates, which stand for such bytes, are not
        raise MediaError(
            f"the name of the ISO cannot stand in a mount unit: {backing.what!r}",
            details="it has bytes that are no UTF-8, or characters that cannot be printed",
            resolution=f"move it to {custody.PLACE} under another name, mount it there, and start again",
        )


def _start(unit: str, mount_point: Path, backing: Backing) -> None:
    try:
        run(["systemctl", "start", unit], timeout_s=90)
    except CommandError as exc:
        log = run(
            ["journalctl", "-u", unit, "-n", "10", "-o", "cat", "--no-pager"], timeout_s=30, check=False
        )
        raise MediaError(
            f"the media cannot be mounted at {mount_point}",
            details=f"unit: {unit}\nmade from: {backing.what}\n{log.stdout.rstrip()}",
            resolution=f"does 'mount -o loop,ro {backing.what} /mnt' work by hand?",
        ) from exc


def _is_same_media(product: Product, source_dir: Path, mount_point: Path, backing: Backing) -> bool:
    """Say whether what was verified is seen there: made from the same file or device, with the same sums.

    product.json and SHA256SUMS name every byte, but only the verified ISO is known to have those bytes: another
    file with the same two, mounted there by an earlier run, is not it.
    """
    if not (mount_point / FILE_NAME).is_file():
        return False
    if load(mount_point).sha256 != product.sha256:
        return False
    try:
        is_same = (mount_point / SUMS_FILE_NAME).read_bytes() == (source_dir / SUMS_FILE_NAME).read_bytes()
        return is_same and find_backing(mount_point.resolve(), read_mounts()) == backing
    except (OSError, MediaError):
        return False
