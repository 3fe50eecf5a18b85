# SPDX-License-Identifier: Apache-2.0
"""The ISOs that lie on the bootstrap node side by side: list, verify, add, remove them.

A media is known by version and build. Each has a place at which it is mounted (``/srv/caisson/VERSION-BUILD``) by a
unit of its own, a note of what it was when it was verified, and lines in nginx' maps. One is in use: the one that this
host is installed from; states, packages and the first look for an image are of that one.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import MediaError, UsageError
from installer.base.mounts import Mount, is_mounted, read_mounts
from installer.base.paths import Paths
from installer.engine import mediaservers, traces
from installer.engine.mediaservers import MediaServer
from installer.media import mounting, notes, signature, state
from installer.media import product as products
from installer.media.mounting import FileFault
from installer.media.notes import Note
from installer.media.product import Product
from installer.operations import image_names, installed, media_maps
from installer.operations.media_maps import LaidOut, Layout

Say = Callable[[str], None]
INTERVAL_S = 1.5
"""Somebody who waits hears of it at least every two seconds."""
MARK = b"# Written by Caisson."
TOO_MANY = f"nginx looks into {media_maps.SLOTS} ISOs beside the one in use, the newest"
FEWER = "remove one that is not needed: caisson media remove BUILD"


@dataclass(frozen=True)
class Media:
    """An ISO that this host knows; ``note`` is None where none was written when it was mounted."""

    full_version: str
    title: str
    sha256: str
    version: str
    build: str
    profile: str
    is_in_use: bool
    note: Note | None


@dataclass(frozen=True)
class Row:
    """How an ISO is; ``served_by`` names the control planes that have a copy.

    What is wrong is in ``problem``, empty when nothing is, and how to put it right in ``resolution``.

    ``signed_by`` and ``size_bytes`` are None where that is not known.
    """

    name: str
    version: str
    build: str
    profile: str
    title: str
    in_use: bool
    mounted: bool
    mount_point: str
    made_from: str
    signed_by: str | None
    size_bytes: int | None
    hidden: tuple[str, ...]
    served_by: tuple[str, ...]
    problem: str
    resolution: str


# ---- what is known -------------------------------------------------------------------------------------------


def known(paths: Paths) -> list[Media]:
    """Return the ISOs that this host knows, the one in use first, then the newest builds.

    Raises:
        HostError: a note cannot be read.
    """
    in_use = installed.read(paths)
    noted = {note.full_version: note for note in notes.read_all(paths.media_notes_dir)}
    names = {*noted, *_mounted_by_units(paths), *([in_use.full_version] if in_use else [])}
    found = [_media(name, noted.get(name), in_use, paths) for name in names]
    return sorted(sorted(found, key=_age, reverse=True), key=lambda media: not media.is_in_use)


def _age(media: Media) -> tuple[str, str]:
    return media.build, media.full_version


def _mounted_by_units(paths: Paths) -> Iterator[str]:
    """Yield the builds that units of ours mount, whether or not they were noted."""
    prefix = mounting.unit_name(paths.at(traces.MEDIA_DIR)).rpartition(".")[0]
    for file in paths.units_dir.glob(f"{prefix}-*.mount"):
        try:
            text = file.read_bytes()
        except OSError:
            continue
        for line in text.decode(errors="replace").splitlines() if text.startswith(MARK) else ():
            place = Path(line.partition("=")[2]) if line.startswith("Where=") else None
            if place is not None and place.parent == paths.at(traces.MEDIA_DIR):
                yield place.name


def _media(name: str, note: Note | None, in_use: installed.Installed | None, paths: Paths) -> Media:
    is_in_use = in_use is not None and in_use.full_version == name
    if note is not None:
        return Media(name, note.title, note.sha256, note.version, note.build, note.profile, is_in_use, note)
    sha256 = in_use.product_sha256 if in_use is not None and is_in_use else ""
    try:
        found = products.load(paths.media_dir(name))
    except MediaError:
        version, _, build = name.rpartition("-")
        return Media(
            name, f"Caisson {name}", sha256, version or build, build if version else "", "", is_in_use, None
        )
    return Media(
        name,
        found.title,
        sha256 or found.sha256,
        found.version,
        found.build,
        found.profile_name,
        is_in_use,
        None,
    )


def find(text: str, paths: Paths) -> Media:
    """Return the ISO of this name: version and build, or the build alone.

    Raises:
        UsageError: there is none.
        HostError: a note cannot be read.
    """
    there = known(paths)
    for media in there:
        if text in (media.full_version, media.build):
            return media
    raise UsageError(
        f"there is no ISO {text} on this host",
        details="\n".join(media.full_version for media in there) or "there is none at all",
        resolution="'caisson media list' shows them; 'caisson media add FILE' adds one",
    )


@dataclass(frozen=True)
class Beside:
    """How an ISO beside the one in use is; see :class:`installer.media.state.MediaState`."""

    name: str
    mount_point: str
    made_from: str
    missing: str
    resolution: str


def beside(paths: Paths) -> tuple[Beside, ...]:
    """Return how the ISOs are that were added to the one in use; none on a host that is installed from nothing.

    Raises:
        HostError: a note cannot be read.
    """
    there = known(paths)
    added = [media for media in there if not media.is_in_use] if any(m.is_in_use for m in there) else []
    states = [(media, state.media_state(media, paths)) for media in added]
    unserved = _unserved(there, paths)
    return tuple(
        Beside(
            media.full_version,
            found.mount_point,
            found.made_from,
            *_problem(media.full_version, found, unserved),
        )
        for media, found in states
    )


def _unserved(there: Sequence[Media], paths: Paths) -> set[str]:
    """Return the builds that are mounted, and more than nginx looks into."""
    mounts = read_mounts()
    mounted = [
        media.full_version
        for media in there
        if not media.is_in_use and is_mounted(paths.media_dir(media.full_version), mounts)
    ]
    return set(mounted[media_maps.SLOTS :])


def _problem(name: str, found: state.MediaState, unserved: Container[str]) -> tuple[str, str]:
    if found.missing or name not in unserved:
        return found.missing, found.resolution
    return f"its images are not served: {TOO_MANY}", FEWER


# ---- list ----------------------------------------------------------------------------------------------------


def rows(paths: Paths, own: Product) -> list[Row]:
    """Return how each ISO is; ``own`` is the product of the one in use, from the installer's own copy.

    Raises:
        HostError: a note cannot be read.
    """
    there = known(paths)
    mounts = read_mounts()
    hidden = _hidden(there, paths, own)
    unserved = _unserved(there, paths)
    servers = mediaservers.known(paths)
    return [
        _row(media, paths, hidden.get(media.full_version, ()), mounts, unserved, servers) for media in there
    ]


def _row(
    media: Media,
    paths: Paths,
    hidden: Sequence[str],
    mounts: Sequence[Mount],
    unserved: Container[str],
    servers: Sequence[MediaServer],
) -> Row:
    found = state.media_state(media, paths)
    problem, resolution = _problem(media.full_version, found, unserved)
    note = media.note
    size = note.size_bytes if note else 0
    if not size and found.made_from:
        size = notes.volume_bytes(notes.descriptor(Path(found.made_from)))
    return Row(
        name=media.full_version,
        version=media.version,
        build=media.build,
        profile=media.profile,
        title=media.title,
        in_use=media.is_in_use,
        mounted=is_mounted(paths.media_dir(media.full_version), mounts),
        mount_point=found.mount_point,
        made_from=found.made_from,
        signed_by=note.signed_by if note else None,
        size_bytes=size or None,
        hidden=tuple(hidden),
        served_by=tuple(server.name for server in servers if media.full_version in server.builds),
        problem=problem,
        resolution=resolution,
    )


def _hidden(there: Sequence[Media], paths: Paths, own: Product) -> dict[str, list[str]]:
    """Return build -> names of its images that are served from another ISO, with another digest."""
    layouts = [("", own_layout(own, paths)), *added_layouts(there, paths, lambda _: None)]
    found: dict[str, list[str]] = {}
    for clash in media_maps.clashes(layouts):
        found.setdefault(clash.hidden_from, []).append(clash.name)
    return found


def own_layout(own: Product, paths: Paths) -> Layout:
    """Return what the ISO in use serves by name: it need not be mounted for that."""
    parsed = [(image_names.parse(image.reference), image.digest) for image in own.images.values()]
    found = tuple(LaidOut(name.path, name.tag, digest.partition(":")[2], {}) for name, digest in parsed)
    return Layout(str(paths.media_dir(own.full_version) / media_maps.OCI_DIR), found)


def added_layouts(there: Sequence[Media], paths: Paths, say: Say) -> list[tuple[str, Layout]]:
    """Return title and layout of each ISO beside the one in use, the newest first; who is left out is said.

    Left out is one that is away, and what is more than nginx looks into.
    """
    found: list[tuple[str, Layout]] = []
    for media in there:
        if media.is_in_use:
            continue
        if len(found) == media_maps.SLOTS:
            say(f"{media.full_version} is left out: {TOO_MANY}; {FEWER}")
            continue
        try:
            found.append((media.full_version, media_maps.read_layout(paths.media_dir(media.full_version))))
        except MediaError as exc:
            say(f"{media.full_version} is left out: {exc.message}")
    return found


# ---- verify --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    """What of an ISO was compared, and what is wrong; ``notes`` says what could not be compared."""

    name: str
    files: int
    size_bytes: int
    faults: tuple[FileFault, ...]
    notes: tuple[str, ...]


def verify(media: Media, paths: Paths, *, pinned: str, say: Say) -> Verified:
    """Compare every file of a mounted ISO with SHA256SUMS, and that with what was noted, and who signed it.

    Raises:
        MediaError: it is not mounted.
    """
    media_dir = paths.media_dir(media.full_version)
    if not is_mounted(media_dir, read_mounts()):
        found = state.media_state(media, paths)
        raise MediaError(found.missing, details=media.title, resolution=found.resolution)
    faults, told = [], []
    sums, note = signature.SUMS_FILE_NAME, media.note
    try:
        if note is None:
            told.append(f"nobody noted what its {sums} was when it was mounted: 'caisson bootstrap' does")
        elif notes.sums_digest(media_dir) != note.sums_sha256:
            faults.append(FileFault("differs", sums, "it is another than the one that was verified"))
        if pinned and not signature.is_signed(media_dir):
            faults.append(
                FileFault("missing", signature.SIGNATURE_FILE_NAME, f"signed by {pinned} is demanded")
            )
        elif signature.is_signed(media_dir):
            signature.check(media_dir, pinned, note=lambda _: None)
    except (MediaError, OSError) as exc:
        text = exc.message if isinstance(exc, MediaError) else str(exc.strerror)
        faults.append(FileFault("differs", signature.SIGNATURE_FILE_NAME, text))
    try:
        compared = mounting.compare(
            media_dir, progress=lambda text: say(f"{media.full_version}: {text}"), interval_s=INTERVAL_S
        )
    except MediaError as exc:
        more = "; ".join((exc.message, *exc.details.splitlines()))
        return Verified(media.full_version, 0, 0, (*faults, FileFault("unreadable", sums, more)), tuple(told))
    return Verified(
        media.full_version, compared.files, compared.size_bytes, (*faults, *compared.faults), tuple(told)
    )
