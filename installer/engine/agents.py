# SPDX-License-Identifier: Apache-2.0
"""Let the installer's own code work on another host, out of memory: nothing of it is written there.

The host's Python gets a few lines as an argument and, through stdin, the installer as an archive. It keeps that in a
file without a name (memfd), imports from it, and answers one line of JSON for each that it is told. When the
connection ends, so does it.
"""

from __future__ import annotations

import io
import json
import secrets
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import CommandError, InstallerError
from installer.base.run import RUNNING_DIR, Completed, Conversation
from installer.engine.remotefiles import NO_PYTHON, no_python, python_words
from installer.engine.ssh import Connection

START_TIMEOUT_S = 60.0
SUFFIXES = (".py", ".json", "")
"""What Python or a package that the installer carries reads; jsonschema has vocabularies without a suffix."""
LOADER = """
import os, sys
stream = sys.stdin.buffer
left = int(stream.readline())
handle = os.memfd_create("caisson")
while left:
    part = stream.read(min(left, 1 << 20))
    if not part:
        sys.exit("the archive is not whole")
    left -= len(part)
    while part:
        part = part[os.write(handle, part):]
place = "/proc/self/fd/%d" % handle
sys.path[:0] = [place + "/installer/vendor", place]
from installer.checks.agent import serve
serve(sys.argv[1])
"""


def archive(tree_dir: Path, *, vendor: Sequence[Path] = ()) -> bytes:
    """Return the installer below ``tree_dir`` as an archive that Python imports from.

    ``vendor`` are packages that it carries, where the tree itself has none (a checkout).
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as output:
        for place, directory in (
            (Path(), tree_dir / "installer"),
            *((Path("installer/vendor"), v) for v in vendor),
        ):
            for file in sorted(directory.rglob("*")):
                if file.suffix in SUFFIXES and file.is_file():
                    output.write(file, place / file.relative_to(directory.parent))
    return packed.getvalue()


class Agent:
    """The installer at work on one host; made by :func:`on` and :func:`here`, safe to use from several threads."""

    def __init__(self, title: str, talk: Conversation, mark: str) -> None:
        self.title = title
        self._talk = talk
        self._mark = mark
        self._lock = threading.Lock()
        self._heard: list[str] = []
        self._said = ""
        self._is_closed = False
        self._is_lost = False

    def start(self, packed: bytes, explain: Callable[[Completed], InstallerError]) -> None:
        """Send the archive and wait until it answers.

        Raises:
            InstallerError: it does not; ``explain`` makes the error.
        """
        self._talk.tell(b"%d\n" % len(packed) + packed)
        if self._hear(START_TIMEOUT_S) is None:
            code = self._talk.returncode
            self.close()
            said = "\n".join(self._heard) + "\n"
            raise explain(Completed(1 if code is None else code, said, self._said))

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            CommandError: it gave none in time, or says what it ran into.
        """
        with self._lock:
            if not self._is_lost:
                self._talk.tell(json.dumps(request).encode() + b"\n")
            answer = None if self._is_lost else self._hear(timeout_s)
            self._is_lost = answer is None  # what comes late is no answer to the next request
        if answer is None:
            raise CommandError(
                f"{self.title} gave no answer to '{request['do']}'",
                details="\n".join(f"| {line}" for line in self._said.splitlines()[-12:]),
                resolution="check that the host is up and not overloaded, then start this again",
            )
        if "fault" in answer:
            raise CommandError(
                f"'{request['do']}' failed on {self.title}",
                details=str(answer["fault"]),
                resolution="correct what the line above says, then start this again",
            )
        return answer

    def close(self) -> None:
        """Let it end; may be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._talk.close(timeout_s=10)

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next answer; what else is said on its way is kept for an error."""
        while True:
            line = self._talk.hear(timeout_s=timeout_s)
            if line is None:
                self._said = self._talk.said
                return None
            text = line.decode("utf-8", errors="replace")
            if text.startswith(f"{self._mark} "):
                answer: dict[str, Any] = json.loads(text.partition(" ")[2])
                return answer
            self._heard.append(text)


def on(host: Connection, packed: bytes) -> Agent:
    """Start the installer on another host, as root.

    Raises:
        HostError: the host has no Python that serves.
        LoginError: sudo refused it.
        CommandError: it did not start.
    """
    mark = secrets.token_hex(8)
    agent = Agent(host.entry.title, host.converse(python_words(["-c", LOADER, mark]), mark=mark), mark)

    def explain(said: Completed) -> InstallerError:
        if f"{mark}> {NO_PYTHON}" in said.stdout:
            return no_python(host)
        if f"{mark}<" not in said.stdout:
            return host.explain(said, mark)
        return _not_started(host.entry.title, said)

    _start(agent, packed, explain)
    return agent


def here(packed: bytes, *, title: str = "this host", running_dir: Path = RUNNING_DIR) -> Agent:
    """Start the same on this host.

    Raises:
        CommandError: it did not start.
    """
    mark = secrets.token_hex(8)
    words = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", LOADER, mark]
    agent = Agent(title, Conversation(words, running_dir=running_dir), mark)
    _start(agent, packed, lambda said: _not_started(title, said))
    return agent


def _start(agent: Agent, packed: bytes, explain: Callable[[Completed], InstallerError]) -> None:
    try:
        agent.start(packed, explain)
    except BaseException:
        agent.close()
        raise


def _not_started(title: str, said: Completed) -> CommandError:
    lines = (said.stderr.strip() or said.stdout.strip()).splitlines()[-12:]
    return CommandError(
        f"the installer does not start on {title}",
        details="\n".join(f"| {line}" for line in lines),
        resolution="see the last lines above; EL9's own Python must be whole (rpm -V python3-libs)",
    )
