# SPDX-License-Identifier: Apache-2.0
"""Push the images that a site brings along, out of a directory or a second ISO, to its registry: all, or none.

What is brought is looked through before anything is pushed, and every fault of it is told at once. Once all are pushed
that is noted, so that the drive they came on may be taken away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from installer.base.errors import InstallerError, MediaError
from installer.base.files import write_file
from installer.base.mounts import read_mounts
from installer.base.ui import format_bytes
from installer.engine.context import Context
from installer.media import brought as custody
from installer.media import scratch
from installer.media.product import Product
from installer.operations import images, media_serving
from installer.operations.image_files import Root, Source, open_source
from installer.operations.image_names import ImageName
from installer.operations.images import Site

MOUNT_DIR = "/run/caisson-images"
TYPES = "iso9660,udf"
ARCHIVE = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
INDEX = "index.json"


@dataclass(frozen=True)
class Place:
    """Where a site's images are: an ISO, or a directory."""

    path: Path
    is_iso: bool

    @property
    def is_there(self) -> bool:
        """Tell whether something is there; an empty directory is where a drive was mounted."""
        return any(self.path.iterdir()) if self.path.is_dir() else self.path.exists()


@dataclass(frozen=True)
class Brought:
    """One image that is to be pushed: what it is called, and where it is."""

    name: ImageName
    root: Root
    source: Source
    digest: str


def run_site_images(context: Context) -> bool:
    """Push the images that the configuration names (``images``) to the site's registry; without them, do nothing.

    Each is pushed under the name that it has in its archive. What is there already with the same digest stays.

    Raises:
        MediaError: an image cannot be pushed, or is called as one of the ISO; nothing was pushed.
        HostError: the registry refuses one, or does not answer.
    """
    places = _given(context)
    if not places:
        context.ui.detail("the configuration names no images of the site (images.directory, images.iso)")
        return False
    before = _noted(context)
    there = _there(context, places, before)
    if not there:
        return False
    site = _site(context)
    with _opened(context, there) as directories:
        brought = look_through(directories, site, context.product, say=context.ui.progress)
        results = _push(context, site, brought)
    changed = [pushed for pushed in results if not pushed.was_there]
    count = "1 image" if len(results) == 1 else f"{len(results)} images"
    context.ui.note(f"{count} of the site, {len(changed)} new")
    # Of a place that is gone now the images are still there.
    kept = before.images if len(there) < len(places) else {}
    pushed_images = {**kept, **{one.name: one.digest for one in results}}
    note = {"places": [str(place.path) for place in places], "images": pushed_images}
    write_file(context.paths.site_images_file, json.dumps(note, indent=1, sort_keys=True) + "\n", mode=0o600)
    return bool(changed)


def check(context: Context) -> None:
    """Look through what is to be pushed before the host is changed; what was pushed once is not looked through again.

    Raises:
        MediaError: an image cannot be pushed, or is called as one of an ISO.
    """
    places, before = _given(context), _noted(context)
    if all(str(place.path) in before.places for place in places):
        return
    with _opened(context, _there(context, places, before)) as directories:
        found = look_through(directories, _site(context), context.product, say=context.ui.progress)
    context.ui.detail(f"{len(found)} images of the site: {', '.join(one.name.said() for one in found)}")


def look_through(
    directories: Sequence[Path], site: Site, product: Product, *, say: Callable[[str], None]
) -> list[Brought]:
    """Return the images of directories, in the order of their files; of two that are the same, the first.

    Raises:
        MediaError: an image cannot be pushed, or is called as one of an ISO; ``details`` has all of them.
    """
    of_iso = {
        (name.path, name.tag) for name in (site.parse(one.reference) for one in product.images.values())
    }
    of_added = media_serving.served_names(site.paths)
    faults: list[str] = []
    found: dict[tuple[str, str], Brought] = {}
    for place in [file for directory in directories for file in _candidates(directory, site, faults)]:
        say(f"the images of {place}")
        for brought in _of_source(place, site, faults):
            key, title = (brought.name.path, brought.name.tag), brought.name.said(site.own)
            other = found.setdefault(key, brought)
            if key in of_iso:
                faults.append(
                    f"{place}: {title} is an image of the ISO, which is served in its place: give it another tag"
                )
            elif f"{brought.name.path}:{brought.name.tag}" in of_added:
                faults.append(
                    f"{place}: {title} is an image of an ISO that was added ('caisson media list'), which is served "
                    "in its place: give it another tag, or remove that ISO"
                )
            elif other.digest != brought.digest:
                faults.append(f"{place}: {title} is another image in {other.source.title}")
    if not found and not faults:
        faults = [f"{directory}: no archive (*.tar) and no OCI layout in it" for directory in directories]
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise MediaError(
            f"the images of the site cannot be pushed: {count}",
            details="\n".join(faults),
            resolution="correct each, or take it out of what 'images' in the configuration names; nothing was pushed",
        )
    return list(found.values())


# ---- where they come from ---------------------------------------------------------------------------------------


def _given(context: Context) -> list[Place]:
    named = ((context.config.images_directory, False), (context.config.images_iso, True))
    return [Place(context.paths.at(str(path)), is_iso) for path, is_iso in named if path is not None]


def _site(context: Context) -> Site:
    names = (context.facts.node_name, context.config.media_name)
    return images.site_at(str(context.facts.control_plane_address), names, context.paths, context.source_dir)


@dataclass(frozen=True)
class Noted:
    """The places whose images were all pushed once, and those images: name to digest."""

    places: Sequence[str] = ()
    images: Mapping[str, str] = field(default_factory=dict)


def _noted(context: Context) -> Noted:
    """Return what was pushed once; nothing where that was not done, or cannot be read."""
    try:
        data = json.loads(context.paths.site_images_file.read_text(encoding="utf-8"))
        return Noted([str(place) for place in data["places"]], dict(data["images"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Noted()


def _there(context: Context, places: Sequence[Place], before: Noted) -> list[Place]:
    """Return the places but those that are gone and were pushed before: a drive that was taken away is no fault."""
    gone = [place for place in places if str(place.path) in before.places and not place.is_there]
    if gone:
        names = ", ".join(str(place.path) for place in gone)
        context.ui.note(f"not there any more, and pushed before: {names}")
    return [place for place in places if place not in gone]


@contextmanager
def _opened(context: Context, places: Sequence[Place]) -> Iterator[list[Path]]:
    """Yield the directories; an ISO is mounted meanwhile.

    Raises:
        MediaError: one is not there, can be changed by others than root, or cannot be mounted.
    """
    absent = [str(place.path) for place in places if not place.path.exists()]
    if absent:
        raise MediaError(
            f"there are no images of the site at {', '.join(absent)}",
            details="'images' in the configuration names it, and it is not there",
            resolution="mount or copy it there, or take it out of the configuration",
        )
    with ExitStack() as stack:
        yield [_directory(context, place, stack) for place in places]


def _directory(context: Context, place: Place, stack: ExitStack) -> Path:
    if not place.is_iso:
        return place.path
    file = custody.real_iso(place.path, mounts=read_mounts(), root=context.paths.root)
    return stack.enter_context(
        scratch.mounted(
            file,
            context.paths.at(MOUNT_DIR),
            types=TYPES,
            options="ro,nosuid,nodev,noexec",
            resolution="give an ISO file or a device that holds one; or mount it and name the directory",
        )
    )


# ---- what is in them --------------------------------------------------------------------------------------------


def _candidates(directory: Path, site: Site, faults: list[str]) -> list[Path]:
    """Return what in a directory holds images, or the directory if it is a layout; what cannot be one is a fault."""
    if not directory.is_dir():
        faults.append(f"{directory}: is no directory; name an ISO under images.iso")
        return []
    try:
        entries = sorted(file for file in directory.iterdir() if not file.name.startswith("."))
    except OSError as exc:
        faults.append(f"{directory}: cannot be read: {exc.strerror}")
        return []
    if (directory / INDEX).is_file():
        chosen = [directory]
    else:
        chosen = [file for file in entries if file.name.endswith(ARCHIVE) or (file / INDEX).is_file()]
        packed = [file for file in entries if file.name.endswith(COMPRESSED)]
        faults += [f"{file}: is compressed: unpack it to a .tar first" for file in packed]
    mounts, root = read_mounts(), site.paths.root
    if directory == site.paths.at(MOUNT_DIR):  # its ISO was looked at
        return chosen
    foreign = {file: [*custody.find_faults(file, mounts=mounts, root=root)] for file in chosen or [directory]}
    told = dict.fromkeys(fault for found in foreign.values() for fault in found)
    faults += [f"{fault}: others than root may change it: {custody.PUT_RIGHT}" for fault in told]
    return [file for file in chosen if not foreign[file]]


def _of_source(place: Path, site: Site, faults: list[str]) -> Iterator[Brought]:
    try:
        source = open_source(place)
        named = images.named(source, site)
    except InstallerError as exc:
        faults.append(_line(place, exc))
        return
    for name, root in named:
        try:
            digest, _ = images.whole(source, root)
            lacks = images.lacking(source, digest)
        except InstallerError as exc:
            faults.append(_line(place, exc))
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            faults.append(f"{place}: a manifest of {name.said(site.own)} cannot be read: {exc}")
            continue
        if lacks:
            faults.append(f"{place}: {name.said(site.own)} is not whole: {', '.join(lacks)} is not in it")
            continue
        yield Brought(name, root, source, digest)


def _line(place: Path, exc: InstallerError) -> str:
    text = exc.message if str(place) in exc.message else f"{place}: {exc.message}"
    return f"{text} ({exc.details})" if exc.details else text


# ---- pushed ----------------------------------------------------------------------------------------------------


def _push(context: Context, site: Site, brought: Sequence[Brought]) -> list[images.Pushed]:
    results = []
    with site.pushing() as registry:
        for number, one in enumerate(brought, start=1):

            def say(text: str, number: int = number) -> None:
                context.ui.progress(f"image {number} of {len(brought)}: {text}")

            pushed = images.push_one(one.source, one.root, one.name, site, registry, say=say)
            sent = f"{pushed.sent_blobs} blobs, {format_bytes(pushed.sent_bytes)} sent"
            context.ui.detail(f"{pushed.name}: {'there already' if pushed.was_there else sent}")
            if not pushed.was_there:
                context.journal.step(f"pushed {pushed.name} {pushed.digest}")
            results.append(pushed)
    return results
