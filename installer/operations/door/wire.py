# SPDX-License-Identifier: Apache-2.0
"""Read one request from the socket and write lines of an answer; who asks is what the kernel says.

A request is one line of JSON, at most :data:`LIMIT_BYTES`, read within :data:`READ_LIMIT_S`; nothing follows it.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema

from installer.base.document import Document
from installer.base.errors import (
    AccessError,
    ClusterError,
    ConfigError,
    HostKeyError,
    InstallerError,
    InterruptedJobError,
    LockedError,
    LoginError,
    ReachError,
    UsageError,
    to_json,
)
from installer.config import schema
from installer.engine.jobs import stamp
from installer.operations import schemas

CONSOLE_USER = "caisson-console"
LIMIT_BYTES = 64 * 1024
READ_LIMIT_S = 5.0
WRITE_LIMIT_S = 15.0
BAD_REQUEST, UNKNOWN_USER, FORBIDDEN, NOT_FOUND, CONFLICT, TOO_LARGE = 400, 401, 403, 404, 409, 413
FAULT, NO_ANSWER = 500, 503
STATUSES: tuple[tuple[type[InstallerError], int], ...] = (
    (UsageError, BAD_REQUEST),
    (ConfigError, BAD_REQUEST),
    (AccessError, FORBIDDEN),
    (LockedError, CONFLICT),
    (InterruptedJobError, CONFLICT),
    (HostKeyError, CONFLICT),
    (LoginError, CONFLICT),
    (ReachError, CONFLICT),
    (ClusterError, NO_ANSWER),
)
"""What an error is in the numbers of HTTP, where nobody says otherwise; every other one is 500."""
RESOLUTION = "see docs/reference/door.md; the console and the installer must be of one version"


class RefusalError(Exception):
    """A request that is not answered with a result: an error, and its number."""

    def __init__(self, status: int, error: InstallerError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


@dataclass(frozen=True)
class Peer:
    """The process at the other end, as the kernel says."""

    pid: int
    uid: int


@dataclass(frozen=True)
class Request:
    """What is asked. ``token`` and ``grant`` say for whom, ``client`` from where, as the console says."""

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    grant: str = field(default="", repr=False)
    client: str = ""


# ---- who asks ------------------------------------------------------------------------------------------------


def peer(connection: socket.socket) -> Peer:
    """Return who is at the other end. Source: unix(7), SO_PEERCRED; it cannot be said otherwise by them."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(pid, uid)


def allowed_users() -> frozenset[int]:
    """Return who may ask: root, and the console's user where there is one."""
    try:
        return frozenset({0, pwd.getpwnam(CONSOLE_USER).pw_uid})
    except KeyError:
        return frozenset({0})


def need_known(found: Peer, allowed: Iterable[int]) -> None:
    """Refuse every other user, before a byte of the request is read.

    Raises:
        RefusalError: it is another.
    """
    if found.uid not in allowed:
        raise RefusalError(
            FORBIDDEN,
            AccessError(
                f"user {found.uid} may not ask the door",
                details=f"process {found.pid}; only root and {CONSOLE_USER} may",
                resolution="open the console in a browser, or use the command 'caisson' as root",
            ),
        )


# ---- the request ---------------------------------------------------------------------------------------------


def read_request(connection: socket.socket, *, limit_s: float = READ_LIMIT_S) -> Request:
    """Read and check the request.

    Raises:
        RefusalError: it is too long, too late, cut off, or no request.
    """
    return parse(_read_line(connection, limit_s))


def _read_line(connection: socket.socket, limit_s: float) -> bytes:
    deadline, content = time.monotonic() + limit_s, b""
    while b"\n" not in content:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([connection], [], [], left_s)[0]:
            raise _bad(f"no whole request came within {limit_s:g} s", f"{len(content)} bytes of it did")
        chunk = _receive(connection)
        content += chunk
        if len(content) > LIMIT_BYTES:
            raise RefusalError(TOO_LARGE, _error("the request is too long", f"at most {LIMIT_BYTES} bytes"))
        if not chunk:
            raise _bad("the request was cut off", f"{len(content)} bytes came, without an end of line")
    line, _, rest = content.partition(b"\n")
    if rest:
        raise _bad("something follows the request", "one connection has one request")
    return line


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(16_384)
    except OSError:
        return b""


def parse(line: bytes) -> Request:
    """Read the line of a request; every fault of it is named.

    Raises:
        RefusalError: it is none.
    """
    try:
        data = json.loads(
            line.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        # Not what stands there: it may be a secret.
        raise _bad("the request is no JSON", f"{type(exc).__name__} in {len(line)} bytes") from None
    found = schemas.load("door")
    _check(data, {**found["definitions"]["request"], "definitions": found["definitions"]})
    arguments = data.get("arguments") or {}
    verb = str(data["verb"])
    _check(arguments, {**found["definitions"]["verbs"][verb], "definitions": found["definitions"]})
    return Request(
        verb,
        arguments,
        str(data.get("token") or ""),
        str(data.get("grant") or ""),
        str(data.get("client") or ""),
    )


def _check(data: Any, wanted: Mapping[str, Any]) -> None:
    try:
        faults = [
            f"{fault.path}: {fault.message}" for fault in schema.find_faults(Document(data, [], {}), wanted)
        ]
    except (RecursionError, jsonschema.SchemaError) as exc:
        raise _bad("the request is no JSON that can be checked", type(exc).__name__) from None
    if faults:
        raise _bad("the request is not one that the door knows", "\n".join(faults[:20])[:2000])


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _error(message: str, details: str) -> UsageError:
    return UsageError(message, details=details, resolution=RESOLUTION)


def _bad(message: str, details: str) -> RefusalError:
    return RefusalError(BAD_REQUEST, _error(message, details))


# ---- the answer ----------------------------------------------------------------------------------------------


def refusal_of(error: InstallerError) -> RefusalError:
    """Return an error as a refusal, with the number of its class."""
    return RefusalError(next((status for kind, status in STATUSES if isinstance(error, kind)), FAULT), error)


def of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer that has a result."""
    return {"time": stamp(), "result": dict(result)}


def of_refusal(refusal: RefusalError) -> dict[str, Any]:
    """Return the answer that has an error."""
    return {"time": stamp(), "error": {**to_json(refusal.error), "status": refusal.status}}


def send(connection: socket.socket, data: Mapping[str, Any]) -> bool:
    """Write one line; return whether it was taken. Somebody who has gone away, or reads nothing, is no fault."""
    connection.settimeout(WRITE_LIMIT_S)
    try:
        connection.sendall(json.dumps(data).encode("utf-8") + b"\n")
    except OSError:
        return False
    finally:
        connection.settimeout(None)
    return True


def is_gone(connection: socket.socket) -> bool:
    """Say whether the other side has closed the connection; a byte after the request counts as that."""
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready)


def of_stdin() -> socket.socket:
    """Return the connection that systemd gives as stdin.

    Raises:
        UsageError: stdin is none.
    """
    try:
        found = socket.socket(fileno=os.dup(0))
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM:
            return found
    except OSError:
        pass
    raise UsageError(
        "stdin is no connection",
        details="systemd starts this for each connection to /run/caisson-console/door.sock",
        resolution="see: systemctl status caisson-door.socket",
    )
