# SPDX-License-Identifier: Apache-2.0
"""Bring the site's images to the control planes that serve too: a timer does it each quarter of an hour.

What has a tag here is pushed there, blobs first, by digest: what is there already is not sent, and a push that was cut
off anywhere is gone on with. What was removed here is removed there (image_removals.py). When that was done last, and
of how many images, is noted, and shown as an age.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import HostError, InstallerError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.engine import mediaservers
from installer.engine.mediaservers import MediaServer
from installer.operations import image_names, image_removals, images
from installer.operations.image_files import Place, Root, Source
from installer.operations.image_names import ImageName
from installer.operations.image_removals import Removal
from installer.operations.images import Site

Say = Callable[[str], None]
NOTES_DIR = "/var/lib/caisson/replicas"
LOCK_FILE = "/run/caisson-follow.lock"
"""Its own: it changes nothing of this host, and may take long."""


@dataclass(frozen=True)
class Followed:
    """How far a control plane follows: when (seconds since 1970) it had how many images; 0 is never.

    ``to_remove``: how many that were removed here it still has.
    """

    name: str
    at: int
    images: int
    fault: str = ""
    to_remove: int = 0

    @property
    def age_s(self) -> int:
        """Seconds since then; -1 where it never was."""
        return max(0, int(time.time()) - self.at) if self.at else -1

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data; the schema is media.schema.json."""
        return {**asdict(self), "age_s": self.age_s}


def follow(site: Site, *, say: Say) -> list[Followed]:
    """Bring every control plane that serves what this host's registry has, and let it remove what was removed here.

    One that fails stops no other, and an image that cannot be brought no other image.

    Raises:
        HostError: the registry here does not answer.
    """
    servers = mediaservers.known(site.paths)
    names = [server.name for server in servers]
    _tidy(names, site.paths)
    if not servers:
        return []
    source, named = stored(site)
    due = image_removals.due(names, site.paths, is_here=partial(_is_here, site))
    found = []
    for server in servers:
        found.append(_follow_one(server, source, named, due.get(server.name, ()), site, say))
        write(found[-1], site.paths)
    return found


def _follow_one(
    server: MediaServer,
    source: Source,
    named: list[tuple[ImageName, Root]],
    due: Sequence[Removal],
    site: Site,
    say: Say,
) -> Followed:
    before, begun = read(server.name, site.paths), int(time.time())
    there = Site(server.address, site.ports, (), site.paths)
    try:
        sent, faults = push_all(source, named, there, partial(_say_of, say, server.name))
        before = Followed(server.name, begun, len(named) - len(faults))
        say(f"{server.name}: {before.images} images of the site, {sent} new")
    except InstallerError as exc:
        faults = [exc.message]
    try:
        removed = image_removals.carry_out(server.name, due, site.paths)
        if removed:
            say(f"{server.name}: {removed} removed, as here")
    except InstallerError as exc:
        faults.append(f"what was removed here is still there: {exc.message}")
    for fault in faults:
        say(f"{server.name}: {fault}")
    left = len(image_removals.outstanding(server.name, site.paths))
    return replace(before, fault="; ".join(faults), to_remove=left)


def _say_of(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


def _is_here(site: Site, removal: Removal) -> bool:
    with site.inside() as registry:
        place = f"/v2/{removal.path}/manifests/{removal.tag}"
        return registry.get("HEAD", place, 200, 404).status == 200


def push_all(
    source: Source, named: list[tuple[ImageName, Root]], there: Site, say: Say
) -> tuple[int, list[str]]:
    """Push all images to another registry; return how many were not there as they are here, and why which were not.

    Raises:
        HostError: it does not answer.
    """
    sent, faults = 0, []
    with there.pushing() as registry:
        for name, root in named:
            try:
                sent += not images.push_one(source, root, name, there, registry, say=say).was_there
            except InstallerError as exc:
                registry.ask("GET", "/v2/")  # one that is off says nothing to any of them
                faults.append(f"{name.said()}: {exc.message}" + (f" ({exc.details})" if exc.details else ""))
            except FileNotFoundError:
                faults.append(f"{name.said()}: it was removed here meanwhile")
    return sent, faults


def stored(site: Site) -> tuple[Source, list[tuple[ImageName, Root]]]:
    """Return what the registry of this host has, as a source of images: each tag, and the blobs where they lie.

    Raises:
        HostError: it does not answer.
    """
    named = []
    with site.inside() as registry:
        for path in registry.names():
            for tag in registry.tags(path):
                reply = registry.get("HEAD", f"/v2/{path}/manifests/{tag}", 200, 404)
                if reply.status == 200:
                    digest = reply.headers["Docker-Content-Digest"]
                    root = Root(f"{path}:{tag}", digest, reply.headers.get("Content-Type", ""))
                    named.append((image_names.of_path(path, tag), root))
    places = {}
    for digest, file in images.blob_files(site.paths):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            places[digest] = Place(file.stat().st_size, file)
    return Source("the registry of this host", tuple(root for _, root in named), places), named


# ---- what is noted -------------------------------------------------------------------------------------------


def _file(name: str, paths: Paths) -> Path:
    return paths.at(f"{NOTES_DIR}/{name}.json")


def write(found: Followed, paths: Paths) -> None:
    """Note how far one follows."""
    text = json.dumps(asdict(found), indent=1, sort_keys=True) + "\n"
    write_file(_file(found.name, paths), text, mode=0o600, dir_mode=0o700)


def read(name: str, paths: Paths) -> Followed:
    """Return how far one follows; never, where nothing was noted."""
    left = len(image_removals.outstanding(name, paths))
    try:
        data = json.loads(_file(name, paths).read_text(encoding="utf-8"))
        return Followed(name, int(data["at"]), int(data["images"]), str(data.get("fault", "")), left)
    except (OSError, ValueError, KeyError, TypeError):
        return Followed(name, 0, 0, to_remove=left)


def _tidy(names: Collection[str], paths: Paths) -> None:
    """Take the notes of nodes away that do not serve any more: one of that name that comes later has nothing yet."""
    image_removals.tidy(names, paths)
    for file in paths.at(NOTES_DIR).glob("[!.]*.json"):
        if file.stem not in names:
            file.unlink(missing_ok=True)


def known(paths: Paths) -> Iterator[Followed]:
    """Yield how far each control plane that serves follows."""
    for server in mediaservers.known(paths):
        yield read(server.name, paths)


def failure(found: list[Followed]) -> HostError | None:
    """Return the error of those that could not follow, None where all did."""
    behind = [one for one in found if one.fault]
    if not behind:
        return None
    return HostError(
        f"{', '.join(one.name for one in behind)} does not follow the site's images",
        details="\n".join(f"{one.name}: {one.fault}" for one in behind),
        resolution="the timer tries again; where it is refused: caisson media replicate NODE; what is damaged here: "
        "caisson images verify",
    )
