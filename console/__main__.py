# SPDX-License-Identifier: Apache-2.0
"""Start the console: on the sockets that systemd hands over, else where ``--listen`` says."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tornado.netutil import bind_sockets

from console import core as shared
from console import server as web
from console.core import Core
from console.server import Server
from console.settings import DEFAULT_FILE, SettingsError, load

FIRST_DESCRIPTOR = 3
IDLE_S = 600.0
LOOK_S = 15.0
EXIT_SETTINGS = 78
"""EX_CONFIG of sysexits.h: systemd shows it by that name."""


def main(words: Sequence[str] | None = None) -> int:
    """Serve until told to stop, or until nobody has needed it for ten minutes and systemd listens in its place."""
    options = _options(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        settings = load(options.settings, Path(credentials) if credentials else None)
        core = shared.make(settings)
        context = web.tls_context(core)
    except (SettingsError, OSError, ValueError) as exc:
        print(f"console: {exc}", file=sys.stderr)
        return EXIT_SETTINGS
    handed = handed_sockets()
    sockets = handed or [
        one for place in options.listen or settings.listen for one in bound(place, settings.port)
    ]
    asyncio.run(_serve(core, web.server(core, context), sockets, may_end=bool(handed)))
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m console", description=__doc__)
    parser.add_argument(
        "--settings", type=Path, default=DEFAULT_FILE, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--listen", action="append", metavar="ADDRESS[:PORT]", help="where to listen without systemd"
    )
    return parser.parse_args(words)


def bound(place: str, default_port: int) -> list[socket.socket]:
    """Return sockets that listen at ``ADDRESS:PORT``."""
    address, _, port = place.rpartition(":") if place.count(":") == 1 else (place, "", "")
    return bind_sockets(int(port or default_port), address)


def handed_sockets() -> list[socket.socket]:
    """Return the sockets of systemd; none where it has not started this. Source: sd_listen_fds(3)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = [socket.socket(fileno=number) for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count)]
    for one in found:
        one.settimeout(0)
        one.set_inheritable(False)
    return found


async def _serve(core: Core, server: Server, sockets: list[socket.socket], *, may_end: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server.add_sockets(sockets)
    _tell_systemd("READY=1")
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
        if may_end and is_unused(core, server):
            break
    _tell_systemd("STOPPING=1")
    server.stop()
    await server.close_all_connections()
    await core.close()


def is_unused(core: Core, server: Server) -> bool:
    """Say whether nobody is logged in, nobody is connected, and nobody was for ten minutes."""
    if len(core.sessions) or server.open:
        core.last_used = core.now()
    return core.now() - core.last_used >= IDLE_S


def _tell_systemd(what: str) -> None:
    """Tell systemd how it stands. Source: sd_notify(3)."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(what.encode("ascii"), "\0" + name[1:] if name.startswith("@") else name)


if __name__ == "__main__":
    sys.exit(main())
