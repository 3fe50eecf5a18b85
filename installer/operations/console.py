# SPDX-License-Identifier: Apache-2.0
"""Tell where the console of this host is, and by which fingerprint its certificate is known."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.config import changes
from installer.config.ports import PORTS_FILE, WORKER_ROLE, read_ports

PORT_NAME = "console"
CERTIFICATE_FILE = "/etc/caisson/console/tls.crt"
LOGIN_COMMAND = "sudo caisson console login"


@dataclass(frozen=True)
class Console:
    """Where it is; ``fingerprint`` is SHA-256 of the certificate, as browsers show it."""

    url: str
    fingerprint: str


def find(paths: Paths, tree_dir: Path) -> Console:
    """Return where the console of this host is.

    Raises:
        HostError: it has none.
    """
    known = changes.recorded(paths)
    role = str((known or {}).get("node", {}).get("role", ""))
    if known is None or role == WORKER_ROLE:
        raise HostError(
            "there is no console on this host",
            details="a worker has none" if known else "Caisson is not installed here",
            resolution="start this on a control-plane node",
        )
    port = next((port.port for port in read_ports(tree_dir / PORTS_FILE) if port.name == PORT_NAME), None)
    if port is None:
        raise HostError("this version has no console", resolution="use that of a newer ISO")
    return Console(f"https://{known['node']['control_plane_address']}:{port}", fingerprint(paths))


def fingerprint(paths: Paths) -> str:
    """Return the SHA-256 of the console's certificate.

    Raises:
        HostError: there is none that can be read.
    """
    file = paths.at(CERTIFICATE_FILE)
    try:
        text = file.read_text(encoding="ascii")
        end = "-----END CERTIFICATE-----"
        der = ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)] + "\n")
    except (OSError, ValueError) as exc:
        raise HostError(
            "the console of this host has no certificate",
            details=f"{file}: {exc}",
            resolution="run 'caisson bootstrap' again, on a further control plane 'caisson node add' on the bootstrap "
            "node: the phase 'console' makes it",
        ) from exc
    return shown(hashlib.sha256(der).hexdigest())


def shown(digest: str) -> str:
    """Return a digest as browsers show it.

    >>> shown("0aff")
    '0A:FF'
    """
    return ":".join(digest[place : place + 2].upper() for place in range(0, len(digest), 2))
