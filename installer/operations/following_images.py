# SPDX-License-Identifier: Apache-2.0
"""Bring the site's images to the control planes that serve too: a timer does it each quarter of an hour.

What has a tag here is pushed there, blobs first, by digest: what is there already is not sent, and a push that was cut
off anywhere is gone on with. When that was done last, and of how many images, is noted, and shown as an age.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import HostError, InstallerError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.engine import mediaservers
from installer.operations import image_names, images
from installer.operations.image_files import Place, Root, Source
from installer.operations.image_names import ImageName
from installer.operations.images import Site

Say = Callable[[str], None]
NOTES_DIR = "/var/lib/caisson/replicas"
LOCK_FILE = "/run/caisson-follow.lock"
"""Its own: it changes nothing of this host, and may take long."""


@dataclass(frozen=True)
class Followed:
    """How far a control plane follows: when (seconds since 1970) it had how many images; 0 is never."""

    name: str
    at: int
    images: int
    fault: str = ""

    @property
    def age_s(self) -> int:
        """Seconds since then; -1 where it never was."""
        return max(0, int(time.time()) - self.at) if self.at else -1

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data; the schema is media.schema.json."""
        return {**asdict(self), "age_s": self.age_s}


def follow(site: Site, *, say: Say) -> list[Followed]:
    """Bring every control plane that serves what this host's registry has; one that fails stops no other.

    Raises:
        HostError: the registry here does not answer.
    """
    servers = mediaservers.known(site.paths)
    if not servers:
        return []
    source, named = stored(site)
    found = []
    for server in servers:
        before = read(server.name, site.paths)
        there = Site(server.address, site.ports, (), site.paths)
        begun = int(time.time())
        try:
            sent = push_all(source, named, there, partial(_say_of, say, server.name))
            found.append(Followed(server.name, begun, len(named)))
            say(f"{server.name}: {len(named)} images of the site, {sent} new")
        except InstallerError as exc:
            found.append(Followed(server.name, before.at, before.images, exc.message))
            say(f"{server.name}: {exc.message}")
        write(found[-1], site.paths)
    return found


def _say_of(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


def push_all(source: Source, named: list[tuple[ImageName, Root]], there: Site, say: Say) -> int:
    """Push all images to another registry; return how many were not there as they are here. Raises: HostError."""
    with there.pushing() as registry:
        pushed = [images.push_one(source, root, name, there, registry, say=say) for name, root in named]
    return sum(not one.was_there for one in pushed)


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
    places = {digest: Place(file.stat().st_size, file) for digest, file in images.blob_files(site.paths)}
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
    try:
        data = json.loads(_file(name, paths).read_text(encoding="utf-8"))
        return Followed(name, int(data["at"]), int(data["images"]), str(data.get("fault", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return Followed(name, 0, 0)


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
        resolution="the timer tries again; where it is refused: caisson media replicate NODE",
    )
