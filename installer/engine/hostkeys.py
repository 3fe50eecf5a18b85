# SPDX-License-Identifier: Apache-2.0
"""Know other hosts by their keys: nothing is sent to a host before somebody has confirmed the key that it shows.

A fingerprint comes from the operator (``--host-key``, ``hostKey`` in the list) or is shown and confirmed on the
terminal; there is no third way, and no "first use". What was confirmed is kept in ``Paths.known_hosts_file``, one
key a host, for OpenSSH itself to check.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import HostKeyError, ReachError
from installer.base.files import write_file
from installer.base.run import run
from installer.base.terminal import Terminal
from installer.config.nodes import NodeEntry

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
"""In the order in which one is chosen when nobody says which."""
REACH_TIMEOUT_S = 5.0
SCAN_TIMEOUT_S = 10.0
_WRITING = threading.Lock()
NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)


@dataclass(frozen=True)
class HostKey:
    """The public key of a host: ``kind`` and ``text`` as in known_hosts."""

    kind: str
    text: str

    @property
    def fingerprint(self) -> str:
        """Return what ssh-keygen -lf shows. Source: OpenSSH, sshkey_fingerprint: base64 of SHA-256, no padding.

        >>> HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA==").fingerprint
        'SHA256:cwGYv4Ytz+7XR5tA2CqtPzW5unsYy7vrG2iR4JSz0pU'
        """
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return f"SHA256:{base64.b64encode(digest).decode('ascii').rstrip('=')}"

    @property
    def title(self) -> str:
        """Return the key as people compare it."""
        return f"{self.fingerprint} ({self.kind})"


def reach(entry: NodeEntry, *, timeout_s: float = REACH_TIMEOUT_S) -> None:
    """Connect to the SSH server of a host and read how it greets.

    Raises:
        ReachError: nobody listens there, no way leads there, nothing answers, or what answers is no SSH server.
    """
    where = f"{entry.address} port {entry.port}"
    try:
        with socket.create_connection((entry.address, entry.port), timeout_s) as connection:
            greeting = connection.makefile("rb").readline(256)
    except OSError as exc:
        raise _not_reached(where, exc, timeout_s) from exc
    if not greeting.startswith(b"SSH-2.0-"):
        raise ReachError(
            f"{where} is no SSH server",
            details=f"it greets with {greeting[:60]!r}"
            if greeting
            else "it closes the connection without a word",
            resolution="give the port of its SSH server; a server that has too many connections closes them, too",
        )


def _not_reached(where: str, exc: OSError, timeout_s: float) -> ReachError:
    if isinstance(exc, socket.timeout):
        return ReachError(
            f"{where} does not answer within {timeout_s:g} s",
            details="neither yes nor no: the host is off, the address is another's, or a packet filter drops it",
            resolution="check that the host is on and has this address, and let TCP to this port pass on the way",
        )
    if exc.errno == errno.ECONNREFUSED:
        return ReachError(
            f"nobody listens on {where}",
            details="the host is there: it refused the connection",
            resolution="start sshd there (systemctl enable --now sshd), or give its port with --port",
        )
    if exc.errno in NO_WAY:
        return ReachError(
            f"no way leads to {where}",
            details=f"{exc.strerror}: no such host in this network, no route, or a firewall that refuses",
            resolution="check the address, 'ip route get ADDRESS' here, and that firewalld there lets ssh in",
        )
    return ReachError(
        f"{where} cannot be reached: {exc.strerror or exc}",
        details="the connection could not be made",
        resolution="check the address and the network of this host",
    )


def scan(entry: NodeEntry) -> tuple[HostKey, ...]:
    """Ask a host for its keys, which proves nothing about it.

    Raises:
        ReachError: it cannot be reached, or has no key of a known kind.
    """
    reach(entry)
    timeout = str(int(SCAN_TIMEOUT_S))
    words = ["ssh-keyscan", "-T", timeout, "-p", str(entry.port), "-t", "ed25519,ecdsa,rsa", entry.address]
    said = run(words, timeout_s=3 * SCAN_TIMEOUT_S, check=False)
    keys = {key.kind: key for key in (_parse(line) for line in said.stdout.splitlines()) if key is not None}
    if not keys:
        raise ReachError(
            f"{entry.address} port {entry.port} shows no host key",
            details=said.stderr.strip() or "it has none of the kinds ed25519, ecdsa, rsa",
            resolution="run 'ssh-keygen -A' there and restart sshd",
        )
    return tuple(keys[kind] for kind in KINDS if kind in keys)


def _parse(line: str) -> HostKey | None:
    """Read a line of known_hosts; None for a comment, a mark (``@revoked``) or another kind of key.

    >>> _parse("10.0.0.2 ssh-ed25519 AAAA"), _parse("# 10.0.0.2:22 SSH-2.0-OpenSSH_8.7")
    (HostKey(kind='ssh-ed25519', text='AAAA'), None)
    """
    words = line.split()
    if len(words) < 3 or words[1] not in KINDS:
        return None
    try:
        base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    return HostKey(words[1], words[2])


def known(file: Path, entry: NodeEntry) -> HostKey | None:
    """Return the key that somebody has confirmed, None when nobody has."""
    name = host_pattern(entry)
    keys = (_parse(line) for line in _lines(file) if line.split()[:1] == [name])
    return next((key for key in keys if key is not None), None)


def remember(file: Path, entry: NodeEntry, key: HostKey) -> None:
    """Keep a key as the only one of its host."""
    with _WRITING:
        line = f"{host_pattern(entry)} {key.kind} {key.text}"
        _write(file, [*_without(file, entry), line])


def forget(file: Path, entry: NodeEntry) -> None:
    """Forget the key of a host, as when it was installed again or has left the cluster."""
    with _WRITING:
        kept = _without(file, entry)
        if kept != _lines(file):
            _write(file, kept)


def _without(file: Path, entry: NodeEntry) -> list[str]:
    return [line for line in _lines(file) if line.split()[:1] != [host_pattern(entry)]]


def _write(file: Path, lines: Sequence[str]) -> None:
    write_file(file, "".join(f"{line}\n" for line in lines), mode=0o600)


def host_pattern(entry: NodeEntry) -> str:
    """Return how known_hosts names a host. Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.

    >>> host_pattern(NodeEntry("10.0.0.2")), host_pattern(NodeEntry("10.0.0.2", port=2222))
    ('10.0.0.2', '[10.0.0.2]:2222')
    """
    return entry.address if entry.port == 22 else f"[{entry.address}]:{entry.port}"


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def confirm(file: Path, entry: NodeEntry, terminal: Terminal) -> HostKey:
    """Return the key of a host that somebody has confirmed: before, by the fingerprint given, or now.

    A fingerprint that is given wins over what was known: the operator has looked again.

    Raises:
        HostKeyError: the host shows another key, or nobody can be asked, or who was asked said no.
        ReachError: it cannot be reached.
    """
    there = known(file, entry)
    if there is not None and entry.host_key in ("", there.fingerprint):
        return there
    keys = scan(entry)
    chosen = next((key for key in keys if key.fingerprint == entry.host_key), None)
    if chosen is None:
        if entry.host_key:
            raise wrong_key(entry, entry.host_key, keys)
        chosen = _ask(entry, keys, terminal)
    remember(file, entry, chosen)
    return chosen


def wrong_key(entry: NodeEntry, expected: str, keys: Sequence[HostKey]) -> HostKeyError:
    """Return the error of a host that shows other keys than the one it should have."""
    return HostKeyError(
        f"{entry.title} shows another key than it should: nothing was sent to it",
        details="\n".join([f"expected: {expected}", *(f"it shows: {key.title}" for key in keys)]),
        resolution="on that host's own console run 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub'; if it is one "
        "of those shown (the host was installed again), give it with --host-key; if not, another machine answers "
        "under this address",
    )


def _ask(entry: NodeEntry, keys: Sequence[HostKey], terminal: Terminal) -> HostKey:
    shown = "\n".join(f"it shows: {key.title}" for key in keys)
    how = "compare it with 'ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub' on that host's own console"
    if not terminal.is_there:
        raise HostKeyError(
            f"nobody has confirmed the key of {entry.title}, and no terminal is there to ask: nothing was sent to it",
            details=shown,
            resolution=f"{how}, then give it: --host-key {keys[0].fingerprint}",
        )
    answer = terminal.ask(
        f"{entry.title} was never seen before. It shows\n  {keys[0].title}\n{how}.\n"
        "Is it the same (yes, no, or its fingerprint)? "
    )
    if answer.lower() == "yes":
        return keys[0]
    for key in keys:
        if answer == key.fingerprint:
            return key
    raise HostKeyError(
        f"the key of {entry.title} was not confirmed: nothing was sent to it",
        details=shown,
        resolution=f"{how}; if it is the same start again and answer yes",
    )
