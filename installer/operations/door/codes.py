# SPDX-License-Identifier: Apache-2.0
"""Let somebody in by a code that root has made: 128 bits, for five minutes, once.

What lies in memory is named by the code's digest and holds no secret: whose code it is, with which role, for how long.
The token is made when the code is used. Where the API does not answer then, a grant takes its place: root's own, for an
hour, and for looking.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import AccessError, HostError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.engine.jobs import stamp
from installer.operations import kube_api
from installer.operations.door import users
from installer.operations.door.wire import UNKNOWN_USER, RefusalError

CODE_BYTES = 16
GROUP_LENGTH = 4
CODE_LIFE_S = 300.0
GRANT_LIFE_S = 3600.0
LEFTOVER_S = 600.0
LOCAL_USER = "local"
ALIKE = str.maketrans({"0": "O", "1": "I", "8": "B"})
"""What people read for a letter; base32 has none of these digits. Source: RFC 4648, section 6."""


@dataclass(frozen=True)
class Entry:
    """What a code, or a grant, stands for; ``until`` is by the clock that began with this boot, in seconds."""

    user: str
    role: str
    seconds: int
    maker: str
    until: float


def make(paths: Paths, user: str, role: str, seconds: int, *, maker: str) -> str:
    """Make a code and lay down what it stands for; old ones go.

    Raises:
        HostError: /run cannot be written.
    """
    code = base64.b32encode(os.urandom(CODE_BYTES)).decode("ascii").rstrip("=")
    _put(paths.codes_dir, code, Entry(user, role, seconds, maker, _now() + CODE_LIFE_S))
    return "-".join(code[place : place + GROUP_LENGTH] for place in range(0, len(code), GROUP_LENGTH))


def normal(typed: str) -> str:
    """Return a code as it was made, of how somebody has typed it.

    >>> normal(" abcd-ef0h 2345")
    'ABCDEFOH2345'
    """
    return "".join(letter for letter in typed.upper().translate(ALIKE) if letter.isalnum())


def redeem(paths: Paths, typed: str) -> tuple[Entry, dict[str, Any]]:
    """Use a code up: return whose it was, and a token, or a grant where the API does not answer.

    Raises:
        RefusalError: there is no such code; which of the reasons it is, is not told.
        HostError: /run cannot be written.
        ClusterError: the API answers, and makes no token.
    """
    entry = _take(paths.codes_dir, normal(typed))
    if entry is None:
        raise RefusalError(
            UNKNOWN_USER,
            AccessError(
                "this code is not known",
                details=f"a code is for one log-in, within {CODE_LIFE_S / 60:.0f} minutes, on the host that made it",
                resolution="make another: sudo caisson console login",
            ),
        )
    if not kube_api.is_ready(paths):
        return entry, _grant(paths, entry)
    # Somebody may have given the user another role since.
    role = users.role_of(paths, entry.user)
    if not role:
        role = entry.role
        users.ensure(paths, entry.user, role)
    made = users.token(paths, entry.user, entry.seconds)
    return entry, {"token": made.token, "ends": made.ends, "user": entry.user, "role": role}


def forget(paths: Paths, user: str) -> None:
    """Take away the codes of a user that nobody has used yet."""
    for file in paths.codes_dir.glob("[!.]*"):
        entry = _read(file)
        if entry is not None and entry.user == user:
            file.unlink(missing_ok=True)


def _grant(paths: Paths, entry: Entry) -> dict[str, Any]:
    grant = base64.urlsafe_b64encode(os.urandom(32)).decode("ascii").rstrip("=")
    until = _now() + GRANT_LIFE_S
    _put(paths.grants_dir, grant, Entry(LOCAL_USER, "", int(GRANT_LIFE_S), entry.maker, until))
    ends = stamp(time.gmtime(time.time() + GRANT_LIFE_S))
    return {"grant": grant, "ends": ends, "user": LOCAL_USER, "role": ""}


def granted(paths: Paths, grant: str) -> Entry:
    """Return what a grant stands for.

    Raises:
        RefusalError: it is none, or none any more.
    """
    file = paths.grants_dir / _name(grant)
    entry = _read(file)
    if entry is None or entry.until <= _now():
        raise RefusalError(
            UNKNOWN_USER,
            AccessError(
                "this session is not known, or has ended",
                resolution="make another code: sudo caisson console login",
            ),
        )
    return entry


# ---- in memory -----------------------------------------------------------------------------------------------


def _name(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()


def _now() -> float:
    """Return the seconds since the boot, also those of a suspended host: nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _put(directory: Path, secret: str, entry: Entry) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for place in (directory.parent, directory):
            place.chmod(0o700)
        for old in _old(directory):
            old.unlink(missing_ok=True)
        write_file(directory / _name(secret), json.dumps(asdict(entry)), mode=0o600)
    except OSError as exc:
        raise HostError(
            f"{directory} cannot be written: {exc.strerror}", resolution="make room on /run (df -h /run)"
        ) from exc


def _old(directory: Path) -> Iterator[Path]:
    """Yield what is used up, has ended, or cannot be read."""
    for file in directory.iterdir():
        entry = _read(file)
        if file.name.startswith("."):  # being written or taken this very moment, or left by a kill
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > LEFTOVER_S:
                    yield file
        elif entry is None or entry.until <= _now():
            yield file


def _take(directory: Path, secret: str) -> Entry | None:
    """Return what a secret stands for, and take it away first: of two who come at once one gets it."""
    file = directory / _name(secret)
    taken = directory / f".{file.name}.{os.getpid()}"
    try:
        file.rename(taken)
    except OSError:
        return None
    try:
        entry = _read(taken)
    finally:
        with contextlib.suppress(OSError):
            taken.unlink()
    return entry if entry is not None and entry.until > _now() else None


def _read(file: Path) -> Entry | None:
    """Return what lies there; None when it is nothing, or not root's alone."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as source:
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                return None
            return Entry(**json.loads(source.read()))
    except (OSError, ValueError, TypeError):
        return None
