# SPDX-License-Identifier: Apache-2.0
"""Run the real console on loopback, with its API server and its door, and be a browser of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode

from tornado.netutil import bind_sockets

from console import core as shared
from console import server as web
from console.core import Core
from console.settings import load
from tests.authorities import make_authority, make_leaf
from tests.unit.console.apiserver import ApiServer
from tests.unit.console.doorway import Doorway
from tests.unit.console.world import World

REPOSITORY_DIR = Path(__file__).parents[3]
SAME = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Answer:
    """What the console has answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """Return it as text."""
        return self.body.decode("utf-8")

    @property
    def location(self) -> str:
        """Return where it sends the browser."""
        return str(self.headers.get("Location", ""))


@dataclass
class Running:
    """A console that runs."""

    core: Core
    api: ApiServer
    door: Doorway
    world: World
    port: int
    server: web.Server
    loop: asyncio.AbstractEventLoop
    directory: Path

    @property
    def host(self) -> str:
        """Return what a browser sends as Host."""
        return f"127.0.0.1:{self.port}"

    def browser(self, address: str = "127.0.0.1") -> Browser:
        """Return a browser, which may have another address of its own."""
        return Browser(self, address)


@dataclass
class Browser:
    """A browser: it keeps a cookie, follows nothing, and says from which site it asks."""

    running: Running
    address: str
    cookie: str = ""
    last: str = ""
    sent: list[str] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask, with exactly these headers beside Host and the cookie."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.running.core.settings.api_ca_file)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.running.port, context=context, timeout=60, source_address=(self.address, 0)
        )
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            found = {"Host": self.running.host, **(headers or {})}
            if self.cookie:
                found.setdefault("Cookie", f"__Host-caisson={self.cookie}")
            data = None if body is None else body.encode()
            if data is not None:
                found.setdefault("Content-Type", "application/x-www-form-urlencoded")
                found["Content-Length"] = str(len(data))
            for name, value in found.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            response = connection.getresponse()
            answer = Answer(response.status, response.msg, response.read())
        given = re.match(r"__Host-caisson=([^;]*)", answer.headers.get("Set-Cookie", ""))
        if given:
            self.cookie = given[1]
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Load a page."""
        answer = self.ask(
            "GET", path, headers={**SAME, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        self.last = answer.text if answer.headers.get_content_type() == "text/html" else self.last
        return answer

    def live(self, path: str) -> Answer:
        """Load a page again as its script does."""
        return self.ask("GET", path, headers={**SAME, "X-Caisson-Live": "1"})

    def post(self, path: str, values: dict[str, str] | None = None, *, fill: bool = True) -> Answer:
        """Send a form of this site; the hidden fields are those of the last page."""
        given = dict(values or {})
        if fill:
            for name in ("csrf", "key"):
                found = re.search(rf'name="{name}" value="([^"]+)"', self.last)
                if found:
                    given.setdefault(name, found[1])
        return self.ask("POST", path, urlencode(given), SAME)

    def login(self, token: str) -> Answer:
        """Log in by a token."""
        return self.post("/login", {"token": token}, fill=False)


def cost_s(browser: Browser, path: str) -> float:
    """Return the least time that three loads have kept a processor busy: what else runs here does not count.

    It is that of the browser, the console, the API server and the door together.
    """
    found = []
    for _ in range(3):
        begun = time.process_time()
        browser.get(path)
        found.append(time.process_time() - begun)
    return min(found)


@dataclass
class Program:
    """The real program in a process of its own, and how systemd would hear of it."""

    process: subprocess.Popen[bytes]
    told: socket.socket
    console: Running
    log_file: Path

    def memory_bytes(self, what: str = "VmRSS") -> int:
        """Return how much memory it has; ``VmHWM`` is the most that it had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition(f"{what}:")[2].split()[0]) * 1024


@contextlib.contextmanager
def program(console: Running, *, before: str = "") -> Iterator[Program]:
    """Start the program as sd_listen_fds(3) has it, with the API server and the door of a console that runs.

    ``before`` is Python that is carried out in its process before it begins.
    """
    directory = console.directory
    config = json.loads((directory / "console.json").read_text(encoding="utf-8"))
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        (directory / "log").open("wb") as log,
    ):
        told.bind(str(directory / "notify"))
        told.settimeout(120)
        config["port"] = listening.getsockname()[1]
        settings = directory / "program.json"
        settings.write_text(json.dumps(config), encoding="utf-8")
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            f"import console.__main__ as it; {before or 'pass'};"
            "sys.exit(it.main(['--settings', sys.argv[2]]))"
        )
        started = subprocess.Popen(
            [sys.executable, "-B", "-c", code, str(listening.fileno()), str(settings)],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY_DIR),
                "LISTEN_FDS": "1",
                "NOTIFY_SOCKET": str(directory / "notify"),
            },
            pass_fds=[listening.fileno()],
            cwd="/",
            stderr=log,
        )
        try:
            assert told.recv(64) == b"READY=1"
            yield Program(started, told, replace(console, port=config["port"]), directory / "log")
        finally:
            started.kill()
            started.wait(60)


Pair = tuple[Path, Path]
Identity = tuple[Pair, Pair]
"""An authority and a leaf of it for 127.0.0.1: each a certificate and its key."""


def make_identity(directory: Path) -> Identity:
    """Make an authority, and a leaf for 127.0.0.1."""
    authority = make_authority(directory / "ca")
    (directory / "leaf").mkdir(exist_ok=True)
    return authority, make_leaf(directory / "leaf", authority)


@contextlib.contextmanager
def running(world: World, directory: Path, identity: Identity | None = None) -> Iterator[Running]:
    """Run a console, its API server and its door, until the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    authority, leaf = identity or make_identity(directory)
    (directory / "tls.crt").write_bytes(leaf[0].read_bytes())
    (directory / "tls.key").write_bytes(leaf[1].read_bytes())
    api = ApiServer(world, leaf)
    door = Doorway(world, directory / "door.sock")
    (sock,) = bind_sockets(0, "127.0.0.1")
    port = sock.getsockname()[1]
    content = {
        "listen": ["127.0.0.1"],
        "port": port,
        "names": ["console.harbour.internal"],
        "api": f"https://127.0.0.1:{api.port}",
        "ca": str(authority[0]),
        "cluster": "harbour",
        "door": str(door.path),
        "product": {"version": "0.2.0", "build": "20261120", "profile": "lab", "lab": True},
    }
    (directory / "console.json").write_text(json.dumps(content), encoding="utf-8")
    begun: dict[str, Running] = {}
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        core = shared.make(load(directory / "console.json"), now=world.now)
        server = web.server(core, web.tls_context(core))
        server.add_sockets([sock])
        loop = asyncio.get_running_loop()
        begun["it"] = Running(core, api, door, world, port, server, loop, directory)
        ready.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()
        await core.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(180)
    try:
        yield begun["it"]
    finally:
        world.released.set()
        begun["it"].loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        api.stop()
        door.stop()
