# SPDX-License-Identifier: Apache-2.0
"""Remember which of the site's images were removed here and are still on control planes that serve too.

One file for each, below ``/var/lib/caisson/replicas/NODE.removed``, written before the tag is deleted here. Only what
was removed by name is removed there: a registry here that lost its disk, and is empty, takes nothing from the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import LockedError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.engine import lock as lockfile
from installer.engine import mediaservers
from installer.operations import bus

NOTES_DIR = "/var/lib/caisson/replicas"
SUFFIX = ".removed"
FORGET = "caisson_replica.forget_images"
AT_ONCE = 200
"""So many names go in one question: together they are one word of a command line, of which the kernel takes 128 KiB."""
LIMIT_S = 1900.0
"""Longer than the registry there may collect."""


@dataclass(frozen=True)
class Removal:
    """A tag that was removed: the path under which a registry keeps it, and the digest that it had here."""

    path: str
    tag: str
    digest: str


def note(removal: Removal, paths: Paths) -> None:
    """Note for each control plane that serves too that a tag is to go there."""
    for server in mediaservers.known(paths):
        write_file(
            _file(removal, server.name, paths),
            json.dumps(asdict(removal), indent=1, sort_keys=True) + "\n",
            mode=0o600,
            dir_mode=0o700,
        )


def outstanding(name: str, paths: Paths) -> list[Removal]:
    """Return what is still to go from a control plane; a note that cannot be read (a power cut) is none."""
    found = []
    for file in sorted(_directory(name, paths).glob("[!.]*.json")):
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            found.append(Removal(str(data["path"]), str(data["tag"]), str(data["digest"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def due(
    names: Collection[str], paths: Paths, *, is_here: Callable[[Removal], bool]
) -> dict[str, list[Removal]]:
    """Return what is to go now from each control plane; what was pushed here again meanwhile stays there, too.

    ``is_here`` says whether this host's registry has a tag. It is asked while no removal is at work here, which writes
    its note before it deletes; while one is, or another job, nothing is due until the next time.
    """
    noted = {name: outstanding(name, paths) for name in names}
    if not any(noted.values()):
        return {}
    try:
        with lockfile.hold(paths.lock_file):
            kept = {one for found in noted.values() for one in found if is_here(one)}
            for name, found in noted.items():
                forget(name, [one for one in found if one in kept], paths)
    except LockedError:
        return {}
    return {name: [one for one in found if one not in kept] for name, found in noted.items()}


def carry_out(name: str, removals: Sequence[Removal], paths: Paths) -> int:
    """Let a control plane remove what was removed here, and collect its blobs; return how many tags it had.

    Raises:
        InstallerError: it could not, or does not answer; what is left is due again.
    """
    removed = 0
    for begin in range(0, len(removals), AT_ONCE):
        part = removals[begin : begin + AT_ONCE]
        said = bus.ask_to_do(name, FORGET, {"images": [asdict(one) for one in part]}, limit_s=LIMIT_S)
        removed += int(said["removed"])
        forget(name, part, paths)
    return removed


def forget(name: str, removals: Sequence[Removal], paths: Paths) -> None:
    """Take notes away."""
    for removal in removals:
        _file(removal, name, paths).unlink(missing_ok=True)


def tidy(names: Collection[str], paths: Paths) -> None:
    """Take the notes of nodes away that do not serve any more."""
    for directory in paths.at(NOTES_DIR).glob(f"[!.]*{SUFFIX}"):
        if directory.name[: -len(SUFFIX)] not in names:
            shutil.rmtree(directory, ignore_errors=True)


def _directory(name: str, paths: Paths) -> Path:
    return paths.at(f"{NOTES_DIR}/{name}{SUFFIX}")


def _file(removal: Removal, name: str, paths: Paths) -> Path:
    digest = hashlib.sha256(f"{removal.path}:{removal.tag}".encode()).hexdigest()
    return _directory(name, paths) / f"{digest}.json"
