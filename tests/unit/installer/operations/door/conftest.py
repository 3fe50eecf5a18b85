# SPDX-License-Identifier: Apache-2.0
"""A door as systemd opens it: a Unix socket, and a process for each connection, with it as stdin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from installer.base.paths import Paths
from tests.unit.installer.helpers import make_tree, product_bytes

REPOSITORY_DIR = Path(__file__).parents[5]
#: What the unit starts, on another root and for who runs the tests; the API is a program on PATH.
PROGRAM = """
import os, sys
from pathlib import Path
root, tree, allowed, programs = sys.argv[1:5]
from installer.base import session
from installer.base.paths import Paths
from installer.cli import main
from installer.engine import jobunit
from installer.operations.door import wire
session.SEARCH_PATH = programs + ":" + session.SEARCH_PATH
os.geteuid = lambda: 0
wire.allowed_users = lambda: frozenset({int(allowed)})
sys.exit(main.main(["door"], tree_dir=Path(tree), paths=Paths(Path(root))))
"""


class Doors:
    """A socket on which each connection gets a process of its own."""

    def __init__(self, root: Path, tree: Path, programs: Path) -> None:
        self.root, self.tree, self.programs = root, tree, programs
        self.allowed = os.getuid()
        self.file = root / "door.sock"
        self.started: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.file))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            words = [str(self.root), str(self.tree), str(self.allowed), str(self.programs)]
            with connection:
                self.started.append(
                    subprocess.Popen(
                        [sys.executable, "-B", "-c", PROGRAM, *words],
                        cwd=REPOSITORY_DIR,
                        stdin=connection.fileno(),
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                    )
                )

    def connect(self) -> socket.socket:
        """Return a connection to a process of its own."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(120)
        connection.connect(str(self.file))
        return connection

    def ask(self, request: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """Return the answer to one request."""
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        with self.connect() as connection:
            connection.sendall(line)
            with connection.makefile("rb") as answer:
                found: dict[str, Any] = json.loads(answer.readline())
        return found

    def said(self) -> str:
        """Return what all processes have said on stdout and stderr, once they have ended."""
        return "".join(part.decode() for process in self.started for part in process.communicate(timeout=120))

    def close(self) -> None:
        """Stop listening, and wait for what was started."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for process in self.started:
            process.communicate(timeout=120)


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    """Yield a door on a host of which /run is in memory and nothing is installed."""
    import tempfile  # noqa: PLC0415

    tree = make_tree(tmp_path / "tree", {"product.json": product_bytes().decode()})
    programs = tmp_path / "programs"
    programs.mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        opened = Doors(Path(directory), tree, programs)
        yield opened
        opened.close()


@pytest.fixture
def paths(doors: Doors) -> Paths:
    """Return the paths of the host behind the door."""
    return Paths(doors.root)
