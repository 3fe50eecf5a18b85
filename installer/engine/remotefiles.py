# SPDX-License-Identifier: Apache-2.0
"""Write files on another host: through stdin, under their names only when they are whole, compared by digest.

What does it there is the host's own Python, from an argument: a minimal host has no tar, and sftp knows no sudo.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from installer.base.errors import CommandError, HostError
from installer.engine.ssh import Connection

TIMEOUT_S = 300.0
FIND_PYTHON = (
    "for python in /usr/libexec/platform-python python3; do "
    "if \"$python\" -I -S -B -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; "
    'then exec "$python" -I -S -B -X utf8 "$@"; fi; done; exit 69'
)
"""Start the host's own Python, as bootstrap.sh does; exit code 69 (EX_UNAVAILABLE) when there is none that serves."""
NO_PYTHON = 69
RECEIVER = """
import hashlib, json, os, sys
stream, digests = sys.stdin.buffer, {}
for entry in json.loads(stream.readline()):
    path, left = entry["path"], entry["size"]
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    new = os.path.join(os.path.dirname(path), ".%s.%d.new" % (os.path.basename(path), os.getpid()))
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "r+b") as output:
            while left:
                part = stream.read(min(left, 1 << 20))
                if not part:
                    raise EOFError(path)
                output.write(part)
                left -= len(part)
            output.flush()
            os.fchmod(output.fileno(), entry["mode"])
            os.fsync(output.fileno())
            output.seek(0)
            digest = hashlib.sha256()
            for part in iter(lambda: output.read(1 << 20), b""):
                digest.update(part)
        if digest.hexdigest() != entry["sha256"]:
            raise ValueError("%s arrived with digest %s" % (path, digest.hexdigest()))
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    parent = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)
    digests[path] = digest.hexdigest()
print(json.dumps(digests))
"""
COMPARER = """
import hashlib, json, os, stat, sys
for entry in json.load(sys.stdin):
    try:
        with open(os.open(entry["path"], os.O_RDONLY | os.O_NOFOLLOW), "rb") as source:
            status = os.fstat(source.fileno())
            is_same = (
                stat.S_ISREG(status.st_mode)
                and stat.S_IMODE(status.st_mode) == entry["mode"]
                and status.st_size == entry["size"]
                and hashlib.sha256(source.read()).hexdigest() == entry["sha256"]
            )
    except OSError:
        is_same = False
    if not is_same:
        print(json.dumps(entry["path"]))
"""


@dataclass(frozen=True)
class RemoteFile:
    """A file as it is to be on the other host; ``path`` is absolute."""

    path: str
    data: bytes
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        """The digest of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


def python_words(words: Sequence[str]) -> list[str]:
    """Return the command that starts the host's own Python, isolated, with these arguments. Pure."""
    return ["/bin/sh", "-c", FIND_PYTHON, "sh", *words]


def no_python(host: Connection) -> HostError:
    """Return the error of a host without a Python that serves."""
    return HostError(
        f"there is no Python 3.9 or newer on {host.entry.title}",
        details="tried /usr/libexec/platform-python and python3",
        resolution="EL9 has it in the package python3: install that there, then start this again",
    )


def differing(host: Connection, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return which of the files are not there, or not as they are to be: content, mode, and no link.

    Raises:
        HostError: the host has no Python that serves.
        CommandError: it could not be looked there.
        ReachError: the connection was lost.
    """
    words = python_words(["-c", COMPARER])
    said = host.run(words, timeout_s=TIMEOUT_S, stdin=json.dumps(_listed(files)).encode(), check=False)
    if said.returncode == NO_PYTHON:
        raise no_python(host)
    if said.returncode != 0:
        last = said.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise CommandError(
            f"the files of {host.entry.title} cannot be compared", details=last[0], resolution="start again"
        )
    paths = {json.loads(line) for line in said.stdout.splitlines()}
    return [file for file in files if file.path in paths]


def _listed(files: Sequence[RemoteFile]) -> list[dict[str, object]]:
    return [
        {"path": file.path, "size": len(file.data), "mode": file.mode, "sha256": file.sha256}
        for file in files
    ]


def put(host: Connection, files: Sequence[RemoteFile], *, is_secret: bool = False) -> None:
    """Write files as root, each whole or not at all; directories that are missing are made.

    Raises:
        HostError: the host has no Python that serves.
        CommandError: one could not be written there.
        ReachError: the connection was lost.
    """
    said = host.run(
        python_words(["-c", RECEIVER]),
        timeout_s=TIMEOUT_S,
        stdin=json.dumps(_listed(files)).encode() + b"\n" + b"".join(file.data for file in files),
        check=False,
        is_secret=is_secret,
    )
    if said.returncode == NO_PYTHON:
        raise no_python(host)
    wanted = {file.path: file.sha256 for file in files}
    if said.returncode == 0 and json.loads(said.stdout) == wanted:
        return
    last = said.stderr.strip().splitlines()[-1:] or ["no reason given"]
    raise CommandError(
        f"{len(files)} files for {host.entry.title} did not all arrive",
        details=f"files: {', '.join(wanted)}\n{last[0]}",
        resolution="check space and permissions there; those that are not named above may be there already",
    )
