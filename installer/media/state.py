# SPDX-License-Identifier: Apache-2.0
"""Look whether an ISO is where it should be, now and after the next boot; and if not, say how to put it right.

What is told: nothing is mounted; its file or drive is gone, was moved, cut off, or replaced by another; something is
mounted over it; it is mounted from a drive that was pulled out; it was changed while it was mounted.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from installer.base.errors import HostError, MediaError
from installer.base.mounts import Mount, is_mounted, read_mounts
from installer.base.paths import Paths
from installer.media import mounting, notes
from installer.media.notes import Note, descriptor, volume_bytes
from installer.media.product import load

OTHER_PLACE = "from another file or drive: caisson media add FILE"


class Identity(Protocol):
    """What tells an ISO from others; ``sha256`` is that of its product.json, empty when it is not known."""

    @property
    def full_version(self) -> str:
        """Return version and build."""

    @property
    def title(self) -> str:
        """Return what it is called."""

    @property
    def sha256(self) -> str:
        """Return the digest of its product.json."""


@dataclass(frozen=True)
class MediaState:
    """Whether the media is where it should be; ``missing`` says what is not, empty when all is well."""

    mount_point: str
    made_from: str
    missing: str
    resolution: str


def media_state(media: Identity, paths: Paths) -> MediaState:
    """Look whether ``media`` is mounted and will be after a reboot, and if not, what is missing."""
    mount_point = paths.media_dir(media.full_version)
    unit = mounting.unit_name(mount_point)
    made_from = read_made_from(paths.units_dir / unit)
    mounts = read_mounts()
    note = _note(media, paths)
    if not is_mounted(mount_point, mounts):
        missing, resolution = _not_mounted(paths, mount_point, unit, made_from, note)
    else:
        mount = [entry for entry in mounts if entry.mount_point == str(mount_point)][-1]
        missing, resolution = _pulled_out(paths, mount, made_from, unit)
        if not missing:
            missing, resolution = _another(media, mount_point, unit, note, mounts)
        if not missing:
            missing, resolution = _lost_at_boot(paths, mount, unit, made_from)
        if not missing:
            missing, resolution = _replaced(paths, made_from, note)
    return MediaState(str(mount_point), made_from, missing, resolution)


def unknown(media: Identity, paths: Paths) -> MediaState:
    """Return the state of a media that gave no answer."""
    text, fix = "the media gives no answer", "see 'dmesg | tail' for the disk that the ISO lies on"
    return MediaState(str(paths.media_dir(media.full_version)), "", text, fix)


def _note(media: Identity, paths: Paths) -> Note | None:
    try:
        return notes.read(media.full_version, paths.media_notes_dir)
    except HostError:
        return None  # what is mounted can be looked at without it


def _is_device(made_from: str) -> bool:
    return made_from.startswith("/dev/")


def _place(paths: Paths, made_from: str) -> Path:
    """Return where the file is; devices are looked for below the root of a test, too."""
    return paths.at(made_from) if _is_device(made_from) else Path(made_from)


def _not_mounted(
    paths: Paths, mount_point: Path, unit: str, made_from: str, note: Note | None
) -> tuple[str, str]:
    missing, start = f"nothing is mounted at {mount_point}", f"systemctl start '{unit}'"
    if not made_from:
        return missing, "mount the ISO anywhere and start its bootstrap.sh: it finds everything else in place"
    if not _place(paths, made_from).exists():
        again = "plug in the drive again" if _is_device(made_from) else "put the ISO back as"
        shown = f"{again}, {made_from}" if _is_device(made_from) else f"{again} {made_from}"
        return f"{missing}: {made_from} is not there", f"{shown}, then: {start}\n{OTHER_PLACE}"
    replaced, fix = _replaced(paths, made_from, note)
    return (f"{missing}: {replaced}", f"{fix}, then: {start}") if replaced else (missing, start)


def _pulled_out(paths: Paths, mount: Mount, made_from: str, unit: str) -> tuple[str, str]:
    """Say whether the drive that the media is mounted from is not there any more; empty when it is.

    Plugged in again a drive may have another name, while what is mounted still asks the one that went.
    """
    if not _is_device(made_from) or not mount.source.startswith("/dev/"):
        return "", ""
    wanted, source = paths.at(made_from), paths.at(mount.source)
    if not wanted.exists():
        if source.exists():
            return "", ""  # only its name is gone: _lost_at_boot says so
        return (
            f"the drive {made_from} was pulled out while it was mounted",
            f"plug it in again, then: systemctl restart '{unit}'\n{OTHER_PLACE}",
        )
    if wanted.resolve() == source.resolve():
        return "", ""
    return (
        f"the drive {made_from} was pulled out while it was mounted, and is /dev/{wanted.resolve().name} now",
        f"systemctl restart '{unit}'",
    )


def _another(
    media: Identity, mount_point: Path, unit: str, note: Note | None, mounts: Sequence[Mount]
) -> tuple[str, str]:
    """Say whether something else than ``media`` is seen there; empty when it is not."""
    resolution = f"systemctl restart '{unit}'"
    missing = ""
    try:
        seen = load(mount_point)
        if media.sha256 not in ("", seen.sha256):
            missing = f"another media than {media.title} is mounted at {mount_point}"
        elif note is not None and notes.sums_digest(mount_point) != note.sums_sha256:
            missing = f"the media at {mount_point} was changed since it was verified"
            resolution = f"put the ISO that was verified back, then: {resolution}\n{OTHER_PLACE}"
    except MediaError as exc:
        missing = exc.message
    except OSError as exc:
        missing = f"{mount_point}/{mounting.SUMS_FILE_NAME} cannot be read: {exc.strerror}"
    cover = _cover(mount_point, mounts) if missing else None
    if cover is None:
        return missing, resolution
    where = shlex.quote(cover.mount_point)
    return (
        f"{cover.source} ({cover.fstype}) is mounted over the media, at {cover.mount_point}",
        f"see 'findmnt --mountpoint {where}'; then: umount {where}",
    )


def _cover(mount_point: Path, mounts: Sequence[Mount]) -> Mount | None:
    """Return what was mounted later over a media: at its very place, or above it; None when nothing was."""
    points = [entry.mount_point for entry in mounts]
    first = points.index(str(mount_point))
    later = [
        entry
        for entry in mounts[first + 1 :]
        if Path(entry.mount_point) in (mount_point, *mount_point.parents)
    ]
    return later[-1] if later else None


def _lost_at_boot(paths: Paths, mount: Mount, unit: str, made_from: str) -> tuple[str, str]:
    """Say why the media, which is mounted now, will not be after a reboot; empty when it will be."""
    if not made_from:
        again = "run 'caisson bootstrap' again: its phase mount-media writes the unit"
        return f"the media is mounted, but there is no {unit} to mount it after a reboot", again
    wants_dir = paths.units_dir / "multi-user.target.wants"
    if wants_dir.is_dir() and not (wants_dir / unit).is_symlink():
        return (
            f"the media is mounted, but {unit} is not enabled: a reboot loses it",
            f"systemctl enable '{unit}'",
        )
    loop = re.match(r"^/dev/(loop\d+)$", mount.source)
    file = _place(paths, made_from)
    backing = _backing_file(paths, loop.group(1)) if loop else ""
    if not file.exists():
        text = f"{made_from} is no longer there: the media is lost with the next reboot"
        if loop and backing and not backing.endswith(" (deleted)"):
            return text, _find_again(paths, file, mount.source, backing)
        return text, _put_back(made_from, mount.source, is_loop=bool(loop))
    if loop and backing.endswith(" (deleted)") and not _is_same_volume(file, paths.at(mount.source)):
        saved = shlex.quote(f"{made_from}.saved")
        fix = f"save the mounted one: cp {mount.source} {saved}; leave the right one of both as {made_from}"
        return f"{made_from} is another file than the one that is mounted: a reboot mounts that one", fix
    return "", ""


def _replaced(paths: Paths, made_from: str, note: Note | None) -> tuple[str, str]:
    """Say whether the file or the drive holds another ISO than the one that was verified, or a part of it."""
    file = _place(paths, made_from)
    fix = f"put the ISO that was verified back as {made_from}"
    fix = f"plug in the right drive as {made_from}" if _is_device(made_from) else fix
    found = descriptor(file)
    if (
        note is not None
        and note.descriptor_sha256
        and hashlib.sha256(found).hexdigest() != note.descriptor_sha256
    ):
        what = "another ISO than the one that was verified" if found else "no ISO any more"
        return f"{made_from} is {what}", fix
    if not _is_device(made_from) and found and file.stat().st_size < volume_bytes(found):
        return f"{made_from} is cut off: {file.stat().st_size} bytes of {volume_bytes(found)}", fix
    return "", ""


def _find_again(paths: Paths, file: Path, source: str, backing: str) -> str:
    """Say how an ISO file comes back that is mounted, was not deleted, and is not where it was.

    The kernel names it by its path when it was opened, whatever covers that now, or from the root of a file system
    that was unmounted: only where that very ISO is found by this name was it moved. Source: d_path(9).
    """
    if backing != str(file) and _is_same_volume(Path(backing), paths.at(source)):
        return f"it was moved: mv {shlex.quote(backing)} {shlex.quote(str(file))}"
    directory = shlex.quote(str(file.parent))
    return (
        f"its file system was unmounted, or something else is mounted over {directory}: see 'findmnt -T {directory}', "
        f"then unmount what covers it, or mount its file system again"
    )


def _put_back(made_from: str, source: str, *, is_loop: bool) -> str:
    if is_loop:
        # A file that was deleted lives on as long as it is mounted.
        return f"do not reboot; write it again from what is mounted: cp {source} {shlex.quote(made_from)}"
    return f"bring {made_from} back before a reboot"


def _backing_file(paths: Paths, loop: str) -> str:
    try:
        text = paths.at(f"/sys/block/{loop}/loop/backing_file").read_text("utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return text.rstrip("\n")


def _is_same_volume(one: Path, other: Path) -> bool:
    """Compare what two ISOs say that they are: name, size and the time when they were made."""
    return descriptor(one) == descriptor(other) != b""


def read_made_from(unit_file: Path) -> str:
    """Return what a mount unit mounts, empty when there is no unit."""
    try:
        match = re.search(r"^What=(.+)$", unit_file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1).replace("%%", "%") if match else ""
