# SPDX-License-Identifier: Apache-2.0
"""Look whether the media is where it should be, now and after the next boot."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import MediaError
from installer.base.mounts import Mount, is_mounted, read_mounts
from installer.base.paths import Paths
from installer.media import mounting as media
from installer.media.product import Product, load

#: Where an ISO says what it is: the primary volume descriptor. Source: ECMA-119, 8.4.
DESCRIPTOR_OFFSET, DESCRIPTOR_BYTES = 16 * 2048, 2048


@dataclass(frozen=True)
class MediaState:
    """Whether the media is where it should be; ``missing`` says what is not, empty when all is well."""

    mount_point: str
    made_from: str
    missing: str
    resolution: str


def media_state(product: Product, paths: Paths) -> MediaState:
    """Look whether the media of ``product`` is mounted and will be after a reboot, and if not, what is missing."""
    mount_point = paths.media_dir(product.full_version)
    unit = media.unit_name(mount_point)
    made_from = _made_from(paths.units_dir / unit)
    mounts = read_mounts()
    if not is_mounted(mount_point, mounts):
        missing, resolution = _not_mounted(mount_point, unit, made_from)
    else:
        mount = [entry for entry in mounts if entry.mount_point == str(mount_point)][-1]
        missing, resolution = _another(product, mount_point, unit)
        if not missing:
            missing, resolution = _lost_at_boot(paths, mount, unit, made_from)
    return MediaState(str(mount_point), made_from, missing, resolution)


def unknown(product: Product, paths: Paths) -> MediaState:
    """Return the state of a media that gave no answer."""
    text, fix = "the media gives no answer", "see 'dmesg | tail' for the disk that the ISO lies on"
    return MediaState(str(paths.media_dir(product.full_version)), "", text, fix)


def _not_mounted(mount_point: Path, unit: str, made_from: str) -> tuple[str, str]:
    missing, start = f"nothing is mounted at {mount_point}", f"systemctl start '{unit}'"
    if not made_from:
        return missing, "mount the ISO anywhere and start its bootstrap.sh: it finds everything else in place"
    if not Path(made_from).exists():
        return f"{missing}: {made_from} is not there", f"put the ISO back as {made_from}, then: {start}"
    return missing, start


def _another(product: Product, mount_point: Path, unit: str) -> tuple[str, str]:
    """Say whether something else than the media of ``product`` is mounted; empty when it is not."""
    resolution = f"systemctl restart '{unit}'"
    try:
        if load(mount_point).sha256 != product.sha256:
            return f"another media than {product.title} is mounted at {mount_point}", resolution
    except MediaError as exc:
        return exc.message, resolution
    return "", ""


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
    file = Path(made_from)
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
    return _descriptor(one) == _descriptor(other) != b""


def _descriptor(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            source.seek(DESCRIPTOR_OFFSET)
            return source.read(DESCRIPTOR_BYTES)
    except OSError:
        return b""


def _made_from(unit_file: Path) -> str:
    """Return what the mount unit mounts, empty when there is no unit."""
    try:
        match = re.search(r"^What=(.+)$", unit_file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1).replace("%%", "%") if match else ""
