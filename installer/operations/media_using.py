# SPDX-License-Identifier: Apache-2.0
"""Make another ISO of this host the one in use, where that is no upgrade: the same versions, other states and payload.

The note of what a host is installed from is all that is changed here; the bootstrap of that ISO, which comes next, does
the rest: its states, its repository, its maps of images, its program. It may be run again at any time, and the same
command takes the ISO of before.
"""

from __future__ import annotations

from collections.abc import Iterator

from installer.base.errors import HostError, MediaError
from installer.base.paths import Paths
from installer.engine.context import Context
from installer.media import dnf, mounting, state
from installer.media import product as products
from installer.media.product import Product
from installer.operations import images, installed, media_serving
from installer.operations.media import Media


def choose(media: Media, paths: Paths) -> Product:
    """Note that this host is installed from ``media`` from now on, and return its product; twice is once.

    Raises:
        HostError: it is another version, or of what this host is installed from nothing is known.
        MediaError: it is not mounted, or not as it was verified.
    """
    found = state.media_state(media, paths)
    if found.missing:
        raise MediaError(
            f"{media.full_version} cannot be used: {found.missing}",
            details=media.title,
            resolution=found.resolution,
        )
    media_dir = paths.media_dir(media.full_version)
    mounting.check_custody(media_dir)
    new = products.load(media_dir)
    if media.is_in_use:
        return new
    if media.note is None:
        raise MediaError(
            f"{media.full_version} was never verified on this host",
            details="it is mounted, and nobody noted what it was then",
            resolution="caisson media remove it, then caisson media add its file",
        )
    own = _in_use(paths)
    found_differences = [*differences(own, new)]
    if found_differences:
        raise HostError(
            f"to use {new.full_version} is an upgrade from {own.full_version}, which this version does not do",
            details="\n".join(found_differences),
            resolution="its images and packages are served beside those of the ISO in use; 'use' takes an ISO of the "
            "same versions",
        )
    installed.note(new, paths)
    return new


def _in_use(paths: Paths) -> Product:
    """Return the product in use: of the ISO, or of the installer's copy where that is away. Raises: HostError."""
    known = installed.read(paths)
    name = known.full_version if known is not None else ""
    for directory in (paths.media_dir(name), paths.self_dir(name)) if name else ():
        try:
            return products.load(directory)
        except MediaError:
            continue
    raise HostError(
        "what this host is installed from cannot be told",
        details=f"see {paths.installed_file}",
        resolution="mount its ISO again: caisson media list",
    )


def differences(own: Product, new: Product) -> Iterator[str]:
    """Yield what would be another version on the host or in the cluster: name, what it is, what it would be. Pure."""
    for name in sorted({*own.versions, *new.versions} - {"caisson"}):
        yield from _differs(name, own.versions.get(name, ""), new.versions.get(name, ""))
    for name in dnf.HOST_PACKAGES:
        yield from _differs(f"package {name}", own.packages.get(name, ""), new.packages.get(name, ""))
    for name, image in sorted(own.images.items()):
        if name in new.images:  # what it lacks its states do not ask for
            yield from _differs(f"image {name}", image.reference, new.images[name].reference)
    for name, manifest in sorted(own.manifests.items()):
        there = new.manifests.get(name)
        yield from _differs(f"manifest {name}", manifest.sha256[:12], there.sha256[:12] if there else "")


def _differs(name: str, old: str, new: str) -> Iterator[str]:
    if old != new:
        yield f"{name}: {old or 'none'}, there {new or 'none'}"


def serve_added(context: Context) -> None:
    """Let nginx, which serves the ISO in use, serve those beside it too; what goes wrong is said, and stops nothing."""
    names = (context.facts.node_name, context.config.media_name)
    site = images.site_at(str(context.facts.control_plane_address), names, context.paths, context.source_dir)
    try:
        media_serving.publish(site, context.product, say=context.ui.progress)
    except (HostError, MediaError) as exc:
        context.ui.note(f"note: the ISOs beside the one in use: {exc.message}; see 'caisson media list'")
