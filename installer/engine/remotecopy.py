# SPDX-License-Identifier: Apache-2.0
"""Copy a file of gigabytes to another host over SSH, in pieces: what arrived before a cut is not sent again.

Pieces go into ``NAME.part`` beside the file, each on the disk before the next is sent. The file gets its name only when
its digest there is that of the bytes here; another digest throws the part away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from installer.base.errors import CommandError, HostError
from installer.base.ui import format_bytes
from installer.engine import remotefiles
from installer.engine.ssh import Connection

PIECE_BYTES = 32 << 20
SPARE_BYTES = 1 << 30
"""What stays free on the other host's disk."""
PIECE_TIMEOUT_S = 600.0
DIGEST_TIMEOUT_S = 3600.0
Say = Callable[[str], None]
LOOK = """
import json, os, sys
path = sys.argv[1]
directory = os.path.dirname(path)
os.makedirs(directory, mode=0o755, exist_ok=True)
def size(name):
    try:
        return os.lstat(name).st_size
    except OSError:
        return -1
found = os.statvfs(directory)
print(json.dumps({"whole": size(path), "part": size(path + ".part"), "free": found.f_bavail * found.f_frsize}))
"""
WRITE = """
import os, sys
path, offset = sys.argv[1] + ".part", int(sys.argv[2])
handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
os.ftruncate(handle, offset)
os.lseek(handle, offset, os.SEEK_SET)
while True:
    piece = sys.stdin.buffer.read(1 << 20)
    if not piece:
        break
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view):]
os.fsync(handle)
print(os.fstat(handle).st_size)
"""
FINISH = """
import hashlib, json, os, sys
path, name, wanted = sys.argv[1], sys.argv[2], sys.argv[3]
digest = hashlib.sha256()
handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW)
with open(handle, "rb") as stream:
    for piece in iter(lambda: stream.read(1 << 20), b""):
        digest.update(piece)
    if digest.hexdigest() == wanted:
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
if digest.hexdigest() != wanted:
    os.unlink(name)
elif name != path:
    os.replace(name, path)
    parent = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(parent)
print(json.dumps(digest.hexdigest()))
"""


@dataclass(frozen=True)
class Copied:
    """What was sent; nothing where all of it was there."""

    sent_bytes: int
    resumed_at: int


def copy(host: Connection, source: Path, target: str, size_bytes: int, *, say: Say) -> Copied:
    """Copy the first ``size_bytes`` of a file or a device to an absolute path there; go on where an earlier copy ended.

    Raises:
        HostError: there is no room for it, or no Python.
        CommandError: it did not arrive as it is here.
        ReachError: the connection was lost; the next run goes on.
    """
    title = host.entry.title
    say(f"the digest of {source}")
    wanted = digest_of(source, size_bytes)
    found = _look(host, target)
    if found["whole"] == size_bytes:
        say(f"{title}: the digest of {target}")
        if _finish(host, target, target, wanted) == wanted:
            return Copied(0, size_bytes)
        found = _look(host, target)
    begun = min(max(found["part"], 0), size_bytes)
    if found["free"] < size_bytes - begun + SPARE_BYTES:
        raise HostError(
            f"{title} has no room for {source.name}",
            details=f"{format_bytes(size_bytes - begun)} are to come, and {format_bytes(SPARE_BYTES)} stay free; there "
            f"are {format_bytes(found['free'])}",
            resolution=f"make room there where {target} goes",
        )
    at = begun
    for piece in _pieces(source, begun, size_bytes):
        said = host.run(
            remotefiles.python_words(["-c", WRITE, target, str(at)]), timeout_s=PIECE_TIMEOUT_S, stdin=piece
        )
        at += len(piece)
        if said.stdout.strip() != str(at):
            raise CommandError(
                f"{title} has written another size than it was sent",
                details=f"{target}.part: {said.stdout.strip()!r} in place of {at}",
                resolution="check its disk, then run the same command again",
            )
        say(f"{title}: {format_bytes(at)} of {format_bytes(size_bytes)} copied")
    say(f"{title}: the digest of what arrived")
    there = _finish(host, target, f"{target}.part", wanted)
    if there != wanted:
        raise CommandError(
            f"{source.name} did not arrive on {title} as it is here",
            details=f"here:  sha256:{wanted}\nthere: sha256:{there}\nwhat arrived was deleted there",
            resolution="run the same command again; if it comes back, check the disks of both",
        )
    return Copied(size_bytes - begun, begun)


def digest_of(source: Path, size_bytes: int) -> str:
    """Return the digest of the first ``size_bytes`` of a file or a device, in hexadecimal. Raises: HostError."""
    digest, left = hashlib.sha256(), size_bytes
    try:
        with source.open("rb") as stream:
            while left and (piece := stream.read(min(left, 1 << 20))):
                digest.update(piece)
                left -= len(piece)
    except OSError as exc:
        raise _unreadable(source, str(exc.strerror)) from exc
    if left:
        raise _unreadable(source, f"it ends {left} bytes early")
    return digest.hexdigest()


def _pieces(source: Path, begin: int, end: int) -> Iterator[bytes]:
    with source.open("rb") as stream:
        stream.seek(begin)
        at = begin
        while at < end:
            piece = stream.read(min(PIECE_BYTES, end - at))
            if not piece:
                raise _unreadable(source, f"it ends {end - at} bytes early")
            at += len(piece)
            yield piece


def _unreadable(source: Path, why: str) -> HostError:
    return HostError(
        f"{source} cannot be read", details=why, resolution="'caisson media list' says what is wrong with it"
    )


def _look(host: Connection, target: str) -> dict[str, int]:
    said = host.run(remotefiles.python_words(["-c", LOOK, target]), timeout_s=60, check=False)
    if said.returncode == remotefiles.NO_PYTHON:
        raise remotefiles.no_python(host)
    try:
        found: dict[str, int] = json.loads(said.stdout)
    except ValueError as exc:
        raise CommandError(
            f"{host.entry.title} does not say what it has of {target}",
            details=said.stderr.strip()[-500:],
            resolution="run the same command again",
        ) from exc
    return found


def _finish(host: Connection, target: str, name: str, wanted: str) -> str:
    """Give the file its name if its digest is right, else delete it; return the digest that it has there."""
    words = remotefiles.python_words(["-c", FINISH, target, name, wanted])
    return str(json.loads(host.run(words, timeout_s=DIGEST_TIMEOUT_S).stdout))
