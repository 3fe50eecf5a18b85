# SPDX-License-Identifier: Apache-2.0
"""Delete directory trees, and nothing that is merely reached through them.

A volume that is still mounted below the kubelet's directory is somebody's data: tools that ran ``rm -r`` there have
emptied file servers (rancher/rke2#8296, k3s-io/k3s#3264). So no link is followed, and no directory is entered that is
on another device or on another mount: a bind mount of the same file system has the same device, and is told apart by
the number of its mount only. Source: proc(5), ``/proc/PID/fdinfo``, ``mnt_id``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

DEEP = 100
"""A directory deeper than this is moved up first: each level holds a descriptor, and a pod can make any depth."""
NOT_ENTERED = "is a mount: not entered"
EMPTIED = "is a mount: emptied"
KEPT = "kept"
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Deleted:
    """What became of a tree: how many entries went; what is left, each with the reason."""

    count: int = 0
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tree:
    """The tree that is deleted: its own directory, the mount and the device that it is on, and what is to stay."""

    descriptor: int
    mount: str
    device: int
    keep: frozenset[str]
    deleted: Deleted


def delete_tree(place: Path, *, keep: Collection[Path] = ()) -> Deleted:
    """Delete a directory with all that is in it on its own mount; a file or a link is unlinked itself.

    ``keep``: what stays, with the directories above it. What could not go is in ``left``; nothing is raised for it.
    A tree that is not there is no fault. One that is a mount of its own is emptied.
    """
    deleted = Deleted()
    kept = frozenset(map(str, keep))
    try:
        status = place.lstat()
        if str(place) in kept:
            deleted.left[str(place)] = KEPT
        elif not stat.S_ISDIR(status.st_mode):
            place.unlink()
            deleted.count += 1
        else:
            _delete_directory(place, kept, deleted)
    except FileNotFoundError:
        pass
    except OSError as exc:
        deleted.left[str(place)] = exc.strerror or str(exc)
    return deleted


def _delete_directory(place: Path, kept: frozenset[str], deleted: Deleted) -> None:
    descriptor = os.open(place, FLAGS)
    try:
        device = os.fstat(descriptor).st_dev
        tree = _Tree(descriptor, mount_number(descriptor), device, kept, deleted)
        while True:
            had, count = len(deleted.left), deleted.count
            _empty(tree, descriptor, str(place), depth=0)
            # What was moved up from the depths is there now, unless nothing was or nothing could be.
            if not _names(descriptor) or len(deleted.left) > had or deleted.count == count:
                break
        is_empty = not _names(descriptor)
    finally:
        os.close(descriptor)
    if not is_empty:
        return
    try:
        place.rmdir()
        deleted.count += 1
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        deleted.left[str(place)] = EMPTIED


def _names(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


def mount_number(descriptor: int) -> str:
    """Return the number of the mount that an open directory is on."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    return next(line.split()[1] for line in text.splitlines() if line.startswith("mnt_id:"))


def _empty(tree: _Tree, descriptor: int, place: str, *, depth: int) -> None:
    with os.scandir(descriptor) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        path = f"{place}/{name}"
        if path in tree.keep:
            tree.deleted.left[path] = KEPT
            continue
        try:
            if is_directory:
                _delete_below(tree, descriptor, name, path, depth=depth + 1)
            else:
                os.unlink(name, dir_fd=descriptor)
                tree.deleted.count += 1
        except FileNotFoundError:
            continue
        except OSError as exc:
            tree.deleted.left[path] = exc.strerror or str(exc)


def _delete_below(tree: _Tree, parent: int, name: str, path: str, *, depth: int) -> None:
    if depth > DEEP and not any(kept.startswith(f"{path}/") for kept in tree.keep):
        os.rename(
            name, f".deep.{os.getpid()}.{tree.deleted.count}", src_dir_fd=parent, dst_dir_fd=tree.descriptor
        )
        tree.deleted.count += 1
        return
    descriptor = os.open(name, FLAGS, dir_fd=parent)
    try:
        if os.fstat(descriptor).st_dev != tree.device or mount_number(descriptor) != tree.mount:
            tree.deleted.left[path] = NOT_ENTERED
            return
        _empty(tree, descriptor, path, depth=depth)
        if _names(descriptor):
            return
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)
    tree.deleted.count += 1
