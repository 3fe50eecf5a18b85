# SPDX-License-Identifier: Apache-2.0
"""Start real servers on loopback in the foreground of a child, wait until they answer, end them.

A server gets SIGTERM from the kernel when the thread that started it ends, however that is: nothing of ours
outlives a killed run.
"""

from __future__ import annotations

import contextlib
import http
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cleanup import wait_until
from lab.errors import LabError
from lab.run import spawn

if TYPE_CHECKING:
    from subprocess import Popen

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 20

_LISTENING = "0A"  # state TCP_LISTEN in /proc/net/tcp
_PROC = Path("/proc")
#: Loopback is never reached through a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A program that listens on one port of loopback; ``path`` answers 200 once it serves."""

    name: str
    args: tuple[str | Path, ...]
    port: int
    path: str
    log_file: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return where the server is reached, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who listens on a port; ``pid`` 0 and no command when we may not see it."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else "a process that this user cannot see"


def start(server: Server) -> Popen[bytes]:
    """Start a server and return when it answers; its log begins anew.

    Raises:
        LabError: its port is taken, its program is not there, it ended, or it did not answer in time.
    """
    if holder := port_holder(server.port):
        raise port_taken(server, holder)
    server.log_file.parent.mkdir(parents=True, exist_ok=True)
    server.log_file.write_bytes(b"")
    process = spawn(
        ["setpriv", "--pdeathsig", "TERM", "--", *server.args], output_file=server.log_file, env=server.env
    )
    try:
        wait_until(lambda: process.poll() is not None or is_answering(server), START_TIMEOUT_S)
        if process.poll() is None and is_answering(server):
            return process
    except BaseException:
        stop(process)
        raise
    code = process.poll()
    stop(process)
    ended = f"did not answer within {START_TIMEOUT_S:g} s" if code is None else f"ended with code {code}"
    raise LabError(
        f"the lab's {server.name} {ended}",
        details="\n".join(server.log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]),
        resolution=f"see {server.log_file}",
    )


def require_loopback() -> None:
    """Check that loopback is up: in a new network namespace it is not, and no server there could be reached.

    Raises:
        LabError: it is down.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((LOOPBACK, 9))  # sends nothing; the kernel looks for a route
        except OSError as exc:
            raise LabError(
                "loopback is down, so the lab's upstream cannot be reached",
                details=f"{LOOPBACK}: {exc.strerror}",
                resolution="set it up ('ip link set lo up'), or build from a warm store, which needs no network",
            ) from exc


def stop(process: Popen[bytes]) -> None:
    """End a server that this process started: politely, then not."""
    if process.poll() is None:
        process.terminate()
        if not wait_until(lambda: process.poll() is not None, STOP_TIMEOUT_S):
            process.kill()
    process.wait()


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Have a server run for the length of a block; give its URL."""
    process = start(server)
    try:
        yield server.url
    finally:
        stop(process)


def is_answering(server: Server) -> bool:
    """Tell whether the server's ``path`` answers 200."""
    return fetch_text(server.url + server.path) is not None


def fetch_text(url: str, *, timeout_s: float = 2.0) -> str | None:
    """Return the text behind a URL on loopback, or None when there is no 200 to be had."""
    try:
        with OPENER.open(url, timeout=timeout_s) as answer:
            return (
                bytes(answer.read()).decode(errors="replace") if answer.status == http.HTTPStatus.OK else None
            )
    except (OSError, urllib.error.URLError, ValueError):
        return None


def port_taken(server: Server, holder: Holder) -> LabError:
    """Return the error for a port that somebody else listens on."""
    return LabError(
        f"port {server.port} on loopback, which the lab's {server.name} needs, is taken",
        details=f"held by {holder}",
        resolution="end it ('.venv/bin/python -m lab upstream down' in its checkout if it is a lab), then run again",
    )


def port_holder(port: int) -> Holder | None:
    """Return who listens on a TCP port of this network namespace, or None when nobody does."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in listening_inodes(_table(name), port)}
    if not inodes:
        return None
    for directory in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (directory / "fd").iterdir():
                link = str(descriptor.readlink())
                if link.startswith("socket:[") and link[len("socket:[") : -1] in inodes:
                    words = (directory / "cmdline").read_bytes().split(b"\0")
                    command = b" ".join(words).decode(errors="replace").strip()
                    return Holder(pid=int(directory.name), command=command)
    return Holder(pid=0, command="")


def listening_inodes(table: str, port: int) -> set[str]:
    r"""Return the socket inodes that listen on a port, from the text of /proc/net/tcp or tcp6.

    >>> row = " 0: 0100007F:445C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1"
    >>> listening_inodes("\n".join(["sl local_address rem_address st ...", row]), 17500)
    {'4711'}
    """
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port}


def _table(name: str) -> str:
    try:
        return (_PROC / "net" / name).read_text()
    except OSError:
        return ""
