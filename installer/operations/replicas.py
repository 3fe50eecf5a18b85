# SPDX-License-Identifier: Apache-2.0
"""Compare the ISOs of this host with the copies on the control planes that serve too: what the pillars here say.

A copy goes over SSH, with the login of whoever gives the command, so no timer makes one. What is not the same is told
by ``caisson media list`` and ``caisson status``, with that command, before a pull fails of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from installer.base.paths import Paths
from installer.engine import mediaservers
from installer.engine.mediaservers import MediaServer
from installer.operations import media
from installer.operations.media import Media


@dataclass(frozen=True)
class Replica:
    """A control plane that serves too.

    ``builds`` are the ISOs that it has, the one it takes for that in use first; ``lacks`` those of this host that it
    has not; ``needless`` those that this host has no more. ``missing`` says what is wrong, empty when nothing is, and
    ``resolution`` how to put it right.
    """

    name: str
    builds: tuple[str, ...]
    lacks: tuple[str, ...]
    needless: tuple[str, ...]
    missing: str
    resolution: str

    @property
    def shown(self) -> str:
        """Say in one line what it has."""
        return self.missing or f"has {', '.join(self.builds)}"


def compare(servers: Sequence[MediaServer], there: Sequence[Media]) -> tuple[Replica, ...]:
    """Return what each server has of the ISOs that are known, the one in use first. Pure."""
    return tuple(_replica(server, there) for server in servers)


def find(paths: Paths) -> tuple[Replica, ...]:
    """Return how the copies are; nothing where no other node serves.

    Raises:
        HostError: a note of an ISO cannot be read.
    """
    servers = mediaservers.known(paths)
    return compare(servers, media.known(paths)) if servers else ()


def _replica(server: MediaServer, there: Sequence[Media]) -> Replica:
    known = [one.full_version for one in there]
    in_use = next((one.full_version for one in there if one.is_in_use), "")
    lacks = tuple(name for name in known if name not in server.builds)
    needless = tuple(name for name in server.builds if name not in known)
    said = [f"it lacks {', '.join(lacks)}"] if lacks else []
    if in_use and in_use in server.builds and server.builds[0] != in_use:
        said.append(f"its packages are those of {server.builds[0]}, and {in_use} is in use here")
    if needless:
        said.append(f"it still has {', '.join(needless)}, removed here")
    fix = f"caisson media replicate {shlex.quote(server.name)}" if said else ""
    return Replica(server.name, server.builds, lacks, needless, "; ".join(said), fix)
