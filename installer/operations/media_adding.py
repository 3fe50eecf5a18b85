# SPDX-License-Identifier: Apache-2.0
"""Add an ISO to those of this host, or remove one: verified, mounted, served; or nothing of it stays."""

from __future__ import annotations

import os
import platform
import shlex
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import HostError, InstallerError, MediaError, UsageError
from installer.base.mounts import is_mounted, read_mounts
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import format_bytes
from installer.media import custody, mounting, notes, rpmkeys, scratch, signature, state
from installer.media import product as products
from installer.media.product import Product
from installer.operations import image_names, images, installed, media_maps
from installer.operations.images import Site
from installer.operations.media import INTERVAL_S, Media, Say, added_layouts, known, own_layout
from installer.operations.media_maps import Clash
from installer.operations.media_serving import container, publish, served_names

SCRATCH_DIR = "/run/caisson-media"


@dataclass(frozen=True)
class Added:
    """An ISO that is on this host now; ``changed``: something was done; ``clashes`` are names that it shares."""

    name: str
    made_from: str
    changed: bool
    in_use: bool
    clashes: tuple[Clash, ...]


def add(given: str, site: Site, own: Product, *, pinned: str, say: Say) -> Added:
    """Verify an ISO, mount it beside the others, serve its images and packages; nothing in use is changed.

    The ISO that is in use may be given too, from another file: then it is mounted from there.

    Raises:
        UsageError: it is neither a file nor a drive.
        MediaError: it is damaged, not root's alone, not signed as demanded, or none for this host.
        HostError: this host is installed from nothing yet, or nginx does not run.
    """
    paths = site.paths
    in_use = installed.read(paths)
    if in_use is None:
        raise HostError(
            "this host is installed from no ISO yet",
            details=f"{paths.installed_file} is not there",
            resolution="start the bootstrap.sh of an ISO first",
        )
    file = _given(given)
    with _opened(file, paths) as source_dir:
        found = products.load(source_dir)
        _refuse_unfit(found, own, source_dir)
        signature.check(source_dir, pinned, note=say)
        sums_sha256 = notes.sums_digest(source_dir)
        before = next((media for media in known(paths) if media.full_version == found.full_version), None)
        is_in_use = found.full_version == in_use.full_version
        _refuse_double(found, sums_sha256, before, in_use)
        if not is_in_use:  # its images and packages are served as soon as it is mounted
            _refuse_many(paths, found.full_version)
            container()
            _refuse_hiding(found.full_version, source_dir, site, own)
        if before is None or before.note is None or state.media_state(before, paths).missing:
            _verify_all(source_dir, found, say)
            _keep(found, source_dir, site, own, is_new=before is None, is_in_use=is_in_use, say=say)
            is_changed = True
        else:
            is_changed = not is_in_use and publish(site, own, say=say)
        clashes = _clashes_of(found.full_version, paths, own)
    unit_file = paths.units_dir / mounting.unit_name(paths.media_dir(found.full_version))
    return Added(found.full_version, state.read_made_from(unit_file), is_changed, is_in_use, clashes)


def _given(given: str) -> Path:
    """Return the file or the device that is meant, once only root can change it.

    Raises:
        UsageError: it is neither.
        MediaError: others can change it, or it is no ISO.
    """
    file = Path(os.path.realpath(given))
    try:
        mode = file.stat().st_mode
    except OSError as exc:
        raise UsageError(
            f"{given} cannot be read: {exc.strerror}", resolution="give the ISO's file, or the drive it is on"
        ) from exc
    mounts = read_mounts()
    if stat.S_ISREG(mode):
        custody.refuse_changeable(file, mounts=mounts)
    elif stat.S_ISBLK(mode):
        custody.refuse_device(str(file), mounts=mounts)
    else:
        what = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a block device"
        raise UsageError(f"{given} is {what}", resolution="give the ISO's file, or the drive it is on")
    if not notes.descriptor(file):
        raise MediaError(
            f"{given} is no ISO",
            details="it has no volume descriptor of ISO 9660",
            resolution="copy the ISO again and compare its checksum",
        )
    return file


def _opened(file: Path, paths: Paths) -> AbstractContextManager[Path]:
    return scratch.mounted(
        file,
        paths.at(SCRATCH_DIR),
        types="iso9660",
        resolution="copy the ISO again, compare its checksum",
    )


def _refuse_unfit(found: Product, own: Product, source_dir: Path) -> None:
    """Refuse an ISO of another profile, or whose packages are for other machines. Raises: MediaError."""
    if (found.profile_name, found.is_lab) != (own.profile_name, own.is_lab):
        raise MediaError(
            f"{found.title} is of another profile than the ISO in use",
            details=f"that one:  {found.profile_name}\nin use:    {own.profile_name}",
            resolution=f"give an ISO that was built with the profile {own.profile_name}",
        )
    machine = platform.machine()
    archs = {
        file.name.rsplit(".", 2)[1]
        for file in (source_dir / "repo").rglob("*.rpm")
        if file.name.count(".") > 1
    }
    foreign = sorted(archs - {"noarch", machine})
    if foreign:
        raise MediaError(
            f"{found.title} is for another architecture: {', '.join(foreign)}",
            details=f"this host is {machine}",
            resolution=f"give an ISO for {machine}",
        )


def _refuse_double(
    found: Product, sums_sha256: str, before: Media | None, in_use: installed.Installed
) -> None:
    """Refuse an ISO that calls itself like one that is here and is another. Raises: MediaError."""
    is_other = before is not None and before.sha256 not in ("", found.sha256)
    is_other = is_other or (
        found.full_version == in_use.full_version and found.sha256 != in_use.product_sha256
    )
    if before is not None and before.note is not None:
        is_other = is_other or before.note.sums_sha256 != sums_sha256
    if is_other:
        raise MediaError(
            f"there is another ISO that is called {found.full_version} on this host",
            details=f"the {signature.SUMS_FILE_NAME} or the {products.FILE_NAME} of both differ",
            resolution=f"one of both was changed: 'caisson media verify {found.full_version}' looks at the one that is "
            "here; compare the checksum of the other",
        )


def _refuse_many(paths: Paths, name: str) -> None:
    beside = [media for media in known(paths) if not media.is_in_use and media.full_version != name]
    if len(beside) >= media_maps.SLOTS:
        raise MediaError(
            f"there are {len(beside)} ISOs beside the one in use already",
            details="\n".join(media.full_version for media in beside),
            resolution="remove one first: caisson media remove BUILD",
        )


def _refuse_hiding(name: str, source_dir: Path, site: Site, own: Product) -> None:
    """Refuse an ISO with names of images that the site has pushed: its own would be served in their place, unseen.

    Names that an ISO of this host has already are no news.

    Raises:
        MediaError: it has some.
        HostError: the registry does not answer.
    """
    taken = {image.name for image in own_layout(own, site.paths).images} | set(served_names(site.paths))
    new = {
        image_names.of_path(image.path, image.tag): f"sha256:{image.digest}"
        for image in media_maps.read_layout(source_dir).images
        if image.name not in taken
    }
    pushed = images.pushed_digests(site, new)
    hidden = sorted(one.said() for one, digest in pushed.items() if digest != new[one])
    if hidden:
        count = "1 image" if len(hidden) == 1 else f"{len(hidden)} images"
        shown = " ".join(shlex.quote(one) for one in hidden)
        raise MediaError(
            f"{name} has {count} of a name that the site has pushed another image under",
            details="\n".join((*hidden, "the ISO's would be served in their place, from the next pull on")),
            resolution=f"to have the ISO's: for each, caisson images remove {shown}\n"
            "to have the site's: push it under another tag, let the pods name that, and remove this one then\n"
            "then run the same command again",
        )


def _verify_all(source_dir: Path, found: Product, say: Say) -> None:
    """Compare every byte and every package's signature, as the phase verify-media does. Raises: MediaError."""
    media_maps.read_layout(source_dir)
    verified = mounting.verify(source_dir, progress=say, interval_s=INTERVAL_S)
    say(f"{verified.files} files, {format_bytes(verified.size_bytes)} verified")
    packages = sorted((source_dir / "repo").rglob("*.rpm"))
    if packages:
        keys = [source_dir / name for name in found.rpm_keys]
        rpmkeys.check_signatures(keys, packages, progress=say, interval_s=INTERVAL_S)


def _keep(
    found: Product, source_dir: Path, site: Site, own: Product, *, is_new: bool, is_in_use: bool, say: Say
) -> None:
    """Mount a verified ISO, note it and serve it; of one that is new nothing stays when that fails."""
    paths, name = site.paths, found.full_version
    media_dir = paths.media_dir(name)
    try:
        mounting.keep_mounted(found, source_dir, media_dir, paths.units_dir, note=say)
        file = state.read_made_from(paths.units_dir / mounting.unit_name(media_dir))
        notes.write(notes.make(found, media_dir, Path(file)), paths.media_notes_dir)
        if not is_in_use:
            publish(site, own, say=say)
    except BaseException:
        if is_new:
            _take_back(name, site, own, say)
        raise


def _take_back(name: str, site: Site, own: Product, say: Say) -> None:
    """Undo what was done for an ISO that could not be added; what fails here too is said, the reason is raised."""
    try:
        publish(site, own, without=name, say=say)
    except InstallerError as exc:
        say(f"{exc.message}")
    try:
        _forget(name, site.paths, say)
    except InstallerError as exc:
        say(f"{exc.message}; see 'caisson media list'")


def _clashes_of(name: str, paths: Paths, own: Product) -> tuple[Clash, ...]:
    there = known(paths)
    layouts = [(own.full_version, own_layout(own, paths)), *added_layouts(there, paths, lambda _: None)]
    return tuple(
        clash for clash in media_maps.clashes(layouts) if name in (clash.hidden_from, clash.served_from)
    )


# ---- remove --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removed:
    """An ISO that is not mounted any more; ``made_from`` is the file or the drive, which is left as it is."""

    name: str
    made_from: str


def remove(media: Media, site: Site, own: Product, *, say: Say) -> Removed:
    """Serve an ISO no more, unmount it, remove its unit and its note; its file stays.

    Raises:
        HostError: it is in use, or nginx does not run.
        MediaError: something still reads from it.
    """
    if media.is_in_use:
        raise HostError(
            f"{media.full_version} is in use: this host is installed from it",
            details="states, packages and images of the cluster come from it",
            resolution="'caisson media use' of another takes its place, if that has the same versions; an ISO that was "
            "lost comes back with 'caisson media add FILE'",
        )
    paths = site.paths
    unit_file = paths.units_dir / mounting.unit_name(paths.media_dir(media.full_version))
    made_from = state.read_made_from(unit_file)
    container()
    publish(site, own, without=media.full_version, say=say, is_sure=False)
    try:
        _forget(media.full_version, paths, say)
    except MediaError:
        publish(site, own, say=say)
        raise
    return Removed(media.full_version, made_from)


def _forget(name: str, paths: Paths, say: Say) -> None:
    """Unmount an ISO, remove its unit, its note and its place. Raises: MediaError when it is busy.

    What somebody wrote into the place while nothing was mounted there is not Caisson's to delete: it is said.
    """
    media_dir = paths.media_dir(name)
    unit = mounting.unit_name(media_dir)
    if (paths.units_dir / unit).exists():
        run(["systemctl", "disable", "--now", unit], timeout_s=120, check=False)
    elif is_mounted(media_dir, read_mounts()):
        run(["umount", media_dir], timeout_s=60, check=False)
    if is_mounted(media_dir, read_mounts()):
        run(["systemctl", "enable", unit], timeout_s=60, check=False)
        raise MediaError(
            f"the media at {media_dir} is busy",
            details="something reads from it: a pull that is not over, a shell that stands in it",
            resolution=f"see 'fuser -vm {media_dir}'; end that, then run the same command again",
        )
    (paths.units_dir / unit).unlink(missing_ok=True)
    run(["systemctl", "daemon-reload"], timeout_s=60)
    notes.forget(name, paths.media_notes_dir)
    try:
        media_dir.rmdir()
    except FileNotFoundError:
        pass
    except OSError as exc:
        say(
            f"{media_dir} stays: {exc.strerror}; what is in it is no part of the ISO, and yours to move or delete"
        )
