# SPDX-License-Identifier: Apache-2.0
"""Look who can change the images that a site brings along: what is in them runs on every node.

An ISO or a drive is looked at as the media itself is (custody.py); of a directory each file counts, by owner, mode and
access list, with all that is above it. What lies on a mounted ISO is judged by that ISO.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from installer.base.errors import MediaError
from installer.base.mounts import Mount
from installer.media import custody, mounting

PUT_RIGHT = "chown root, chmod go-w"


def real_iso(given: Path, *, mounts: Sequence[Mount], root: Path = Path("/")) -> Path:
    """Return the file or the drive behind the name of an ISO, once only root can change it.

    Raises:
        MediaError: others can, or it is neither a file nor a drive.
    """
    file = Path(os.path.realpath(given))
    try:
        mode = file.stat().st_mode
    except OSError as exc:
        raise MediaError(
            f"{given} cannot be read: {exc.strerror}",
            details="images.iso in the configuration names it",
            resolution="check the file and its disk",
        ) from exc
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise MediaError(
            f"{given} is neither a file nor a drive",
            details="images.iso in the configuration names it",
            resolution="name the ISO's file or its drive, or a directory under images.directory",
        )
    try:
        if stat.S_ISBLK(mode):
            custody.refuse_device(str(file), mounts=mounts, root=root)
        else:
            custody.refuse_changeable(file, mounts=mounts, root=root)
    except MediaError as exc:
        *copied, _ = exc.resolution.splitlines()  # the last line is about the media itself
        raise MediaError(
            exc.message,
            details=f"{exc.details}\nwhat is in it runs on every node",
            resolution="\n".join((*copied, "then name the copy under images.iso in the configuration")),
        ) from exc
    return file


def find_faults(place: Path, *, mounts: Sequence[Mount], root: Path = Path("/")) -> Iterator[str]:
    """Name what of a file or of a whole directory others than root can change; ``place`` is absolute.

    Nothing in a file system that nobody can write to is a fault by its mode: only what leads there is.
    """
    real = place.resolve()
    mount = custody.mount_of(real, mounts, root)
    foreign = custody.find_foreign(real, mounts, root)
    if foreign and not (mount is not None and _is_iso(mount)):
        yield f"{place}: {foreign}".replace("\n", "; ")
        return
    if mount is not None and mount.mount_point != "/" and _is_frozen(mount):
        yield from custody.find_faults((root / mount.mount_point.lstrip("/")).parent)
        try:
            mounting.check_custody(real, root=root, mounts=mounts)
        except MediaError as exc:
            yield f"{exc.message}: {exc.details}".replace("\n", "; ")
        return
    yield from custody.find_faults(real)
    if real.is_dir():
        yield from custody.find_faults_below(real)


def _is_iso(mount: Mount) -> bool:
    return mount.fstype.rpartition(".")[2] in mounting.ISO_TYPES


def _is_frozen(mount: Mount) -> bool:
    """Say whether nobody writes to a file system: an ISO, or one of which the kernel itself takes no write.

    The options are those of this mount and of the file system: one that is mounted a second time, there for writing,
    has both words.
    """
    return _is_iso(mount) or ("ro" in mount.options and "rw" not in mount.options)
