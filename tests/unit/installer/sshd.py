# SPDX-License-Identifier: Apache-2.0
"""A real sshd on loopback, in a mount namespace with users of its own: real logins, passwords and sudo.

Nothing of it is left on the machine: /etc/passwd, /etc/shadow, /etc/group and /etc/sudoers are other files for this
sshd alone. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from installer.base.paths import Paths
from installer.base.terminal import Terminal
from installer.config.nodes import NodeEntry

PASSWORD = "pass word'\"$1"
#: name -> shell, line of sudoers; all have PASSWORD.
USERS = {
    "free": ("/bin/bash", "free ALL=(ALL) NOPASSWD: ALL"),
    "asked": ("/bin/bash", "asked ALL=(ALL) ALL"),
    "mixed": ("/bin/bash", "mixed ALL=(ALL) ALL\nmixed ALL=(ALL) NOPASSWD: /bin/sh"),
    "plain": ("/bin/bash", ""),
    "shut": ("/usr/sbin/nologin", ""),
    "noisy": ("/bin/bash", "noisy ALL=(ALL) NOPASSWD: ALL"),
    "told": ("/bin/bash", ""),
}
OWN_FILES = ("passwd", "shadow", "group", "sudoers")


class Typist(Terminal):
    """A terminal at which somebody types answers, one after the other; without any there is no terminal."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    @property
    def is_there(self) -> bool:
        return bool(self.answers or self.questions)

    def ask(self, question: str) -> str:
        self.questions.append(question)
        return self.answers.pop(0) if self.answers else ""

    def ask_secret(self, question: str) -> str:
        return self.ask(question) if self.is_there else ""


@dataclass
class Server:
    """The running server, and what an installer that logs in to it works with."""

    directory: Path
    port: int
    identity: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def paths(self) -> Paths:
        return Paths(self.directory / "root")

    @property
    def fingerprints(self) -> list[str]:
        """What ssh-keygen says of the host's keys, ed25519 first."""
        return [_fingerprint(self.directory / f"host_{kind}.pub") for kind in ("ed25519", "rsa")]

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def entry(self, user: str = "root", *, with_key: bool = True, host_key: str | None = None) -> NodeEntry:
        return NodeEntry(
            "127.0.0.1",
            user=user,
            port=self.port,
            identity=self.identity if with_key else None,
            host_key=self.fingerprints[0] if host_key is None else host_key,
        )

    def start(self, *more: str) -> None:
        """Start sshd, with more lines of configuration before the others, and wait until it listens."""
        config = self.directory / "config"
        config.write_text("\n".join([*more, *self._configuration()]) + "\n")
        binds = " && ".join(f"mount --bind {self.directory}/{name} /etc/{name}" for name in OWN_FILES)
        command = f"{binds} && exec /usr/sbin/sshd -D -e -f {config}"
        with (self.directory / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log)

    def stop(self) -> None:
        """End sshd with its sessions."""
        for process in self.processes:
            for pid in _descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait(timeout=10)
        self.processes.clear()

    def _configuration(self) -> list[str]:
        return [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.directory}/host_ed25519",
            f"HostKey {self.directory}/host_rsa",
            f"AuthorizedKeysFile {self.directory}/keys/%u",
            "StrictModes no",
            "UsePAM no",
            "PidFile none",
            "PermitRootLogin yes",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            "Match User told",
            "ForceCommand echo 'Please login as the user rocky rather than root.'; exit 142",
        ]


@contextmanager
def serving(*more: str) -> Iterator[Server]:
    """Run an sshd for the time of a ``with``."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    directory = Path(
        tempfile.mkdtemp(prefix="sshd-", dir="/tmp")
    )  # short: the path of a socket has 108 bytes at most
    directory.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(directory, port, directory / "id")
    try:
        _make_keys(directory)
        _make_users(directory)
        server.start(*more)
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def keygen(file: Path, *, kind: str = "ed25519", passphrase: str = "") -> None:
    """Make a pair of keys."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(file)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def _fingerprint(file: Path) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", str(file)], check=True, capture_output=True, text=True)
    return said.stdout.split()[1]


def _make_keys(directory: Path) -> None:
    for name, kind in (("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("id", "ed25519")):
        keygen(directory / name, kind=kind)
    (directory / "keys").mkdir()
    for user in ("root", *USERS):
        shutil.copy(directory / "id.pub", directory / "keys" / user)


def _make_users(directory: Path) -> None:
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, check=True, capture_output=True, text=True
    ).stdout.strip()
    passwd, shadow, group = (Path(f"/etc/{name}").read_text() for name in ("passwd", "shadow", "group"))
    sudoers = ["root ALL=(ALL) ALL", "Defaults lecture=always"]
    # Nor does what the shell of this machine's root reads at a login take part.
    (directory / "home/root").mkdir(parents=True)
    passwd = re.sub(r"^root:.*$", f"root:x:0:0::{directory}/home/root:/bin/bash", passwd, flags=re.MULTILINE)
    for number, (name, (shell, rule)) in enumerate(USERS.items(), 4300):
        home = directory / "home" / name
        home.mkdir(parents=True)
        if name == "noisy":
            (home / ".bashrc").write_text("echo Welcome; echo to this host >&2\n")
        passwd += f"{name}:x:{number}:{number}::{home}:{shell}\n"
        shadow += f"{name}:{hashed}:19000:0:99999:7:::\n"
        group += f"{name}:x:{number}:\n"
        sudoers.append(rule)
    for name, text, mode in (
        ("passwd", passwd, 0o644),
        ("shadow", shadow, 0o600),
        ("group", group, 0o644),
        ("sudoers", "\n".join(sudoers) + "\n", 0o440),
    ):
        (directory / name).write_text(text)
        (directory / name).chmod(mode)


def _descendants(pid: int) -> Sequence[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            found += [*_descendants(child), child]
    return found
