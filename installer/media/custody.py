# SPDX-License-Identifier: Apache-2.0
"""Look who can change the ISO file after it was verified: states and programs from it run as root, after each boot too.

A loop device shows whatever the file holds now, so a good signature says something only as long as nobody but root
can write to the file, or put another one in its place.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from installer.base.errors import MediaError

PLACE = "/var/lib/caisson-media"


def refuse_changeable(file: Path) -> None:
    """Refuse an ISO file that another user than root (or who runs this) can change or replace.

    Raises:
        MediaError: one can; each place on the path that lets them is named.
    """
    faults = list(find_faults(file))
    if faults:
        raise MediaError(
            f"the ISO {file} can be changed by another user than root",
            details="\n".join(
                [*faults, "what was verified is then not what is installed, now and after a boot"]
            ),
            resolution=f"install -D -t {PLACE} -o root -g root -m 0644 {shlex.quote(str(file))}\n"
            "unmount the media, mount that file instead, and start its bootstrap.sh",
        )


def find_faults(file: Path) -> Iterator[str]:
    """Name each part of the path, from the file up, that somebody else owns or may write to.

    What lies in a directory with the sticky bit can be replaced by its owner only.
    """
    child: os.stat_result | None = None
    for place in (file, *file.parents):
        try:
            found = place.lstat()
        except OSError as exc:
            yield f"{place}: {exc.strerror}"
            return
        yield from (f"{place}: {fault}" for fault in _faults_of(found, child))
        child = found


def _faults_of(found: os.stat_result, child: os.stat_result | None) -> Iterator[str]:
    if not _is_trusted(found.st_uid):
        yield f"owned by {_name(found.st_uid)}"
    if child is not None and found.st_mode & stat.S_ISVTX and _is_trusted(child.st_uid):
        return
    if found.st_mode & stat.S_IWOTH:
        yield "everybody may write to it"
    elif found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        # With an access control list these bits are its mask: what it lets anybody do at most.
        yield f"the group {found.st_gid} may write to it"


def _is_trusted(user_id: int) -> bool:
    return user_id in (0, os.geteuid())


def _name(user_id: int) -> str:
    try:
        return f"{pwd.getpwuid(user_id).pw_name} (user {user_id})"
    except KeyError:
        return f"user {user_id}"
