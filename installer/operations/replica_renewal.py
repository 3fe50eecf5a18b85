# SPDX-License-Identifier: Apache-2.0
"""Renew the certificates of the control planes that serve too, before they end: a timer here looks each day.

The authority's key stays on this host, and theirs stay where they are: a new certificate is signed for the public key
of the one that was given last, which is noted here. It goes over the bus, for it is no secret. That node takes it only
when it fits its own key and its authority, and lets nginx read it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from installer.base.errors import HostError, InstallerError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.config import changes, x509
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import mediaservers
from installer.engine.mediaservers import MediaServer
from installer.operations import bus, media_certificate, replica_certificate

Say = Callable[[str], None]
TAKE = "caisson_replica.take_certificate"
BY_SSH = "caisson media replicate {name}: it gives a new one over SSH"


@dataclass(frozen=True)
class Renewed:
    """The certificate of a control plane that serves too; ``ends`` is a date (UTC), empty where none is noted.

    ``fault`` says why it was not renewed, empty where it was, or had not to be.
    """

    name: str
    ends: str
    days_left: int
    is_new: bool
    fault: str = ""


def keep(paths: Paths, tree_dir: Any, *, say: Say, now: float | None = None) -> list[Renewed]:
    """Renew what ends within :data:`media_certificate.RENEWED_DAYS`; one that cannot be stops no other."""
    servers = mediaservers.known(paths)
    known = changes.recorded(paths) or {}
    if not servers or not paths.at(media_certificate.AUTHORITY_FILE).is_file():
        return []
    port = next(port.port for port in read_ports(tree_dir / PORTS_FILE) if port.name == "media-https")
    moment = time.time() if now is None else now
    return [_keep_one(server, known, port, paths, moment, say) for server in servers]


def failure(found: list[Renewed]) -> HostError | None:
    """Return the error of those that could not be renewed; None where all are good."""
    faults = [one for one in found if one.fault]
    if not faults:
        return None
    names = ", ".join(one.name for one in faults)
    return HostError(
        f"the certificate with which {names} serves is not renewed",
        details="\n".join(f"{one.name}, until {one.ends or 'not known'}: {one.fault}" for one in faults),
        resolution="the timer tries again each day; without it: caisson media replicate NODE",
    )


def lines(found: list[Renewed]) -> list[str]:
    """Return what is shown of them."""
    return [
        f"nginx of {one.name} serves until {one.ends or 'a day that is not known'} ({one.days_left} days)"
        + (": renewed" if one.is_new else "")
        for one in found
    ]


def _keep_one(
    server: MediaServer, known: Mapping[str, Any], port: int, paths: Paths, moment: float, say: Say
) -> Renewed:
    file = replica_certificate.note_file(paths, server.name)
    try:
        ends = x509.parse(x509.read_der(file)).not_after
    except (OSError, ValueError):
        return Renewed(server.name, "", 0, is_new=False, fault=f"what it serves with is not noted in {file}")
    if ends - moment >= media_certificate.RENEWED_DAYS * media_certificate.DAY_S:
        return _renewed(server.name, ends, moment, is_new=False)
    say(f"{server.name}: the certificate of nginx is renewed")
    try:
        text = replica_certificate.sign_again(server.name, server.address, str(known["media_name"]), paths)
        _give(server, text, port)
    except InstallerError as exc:
        fault = "; ".join(filter(None, (exc.message, *exc.details.splitlines()[:1])))
        return _renewed(server.name, ends, moment, is_new=False, fault=fault)
    write_file(file, text)
    return _renewed(server.name, x509.parse(x509.read_der(file)).not_after, moment, is_new=True)


def _renewed(name: str, ends: float, moment: float, *, is_new: bool, fault: str = "") -> Renewed:
    date = time.strftime("%Y-%m-%d", time.gmtime(ends))
    return Renewed(name, date, int((ends - moment) // media_certificate.DAY_S), is_new, fault)


def _give(server: MediaServer, text: bytes, port: int) -> None:
    """Let that node take a certificate, and see that it is served.

    Raises:
        InstallerError: it does not answer, or why it does not take it.
    """
    bus.ask_to_do(server.name, TAKE, {"certificate": text.decode("ascii")})
    wanted = ssl.PEM_cert_to_DER_cert(text.decode("ascii"))
    deadline = time.monotonic() + media_certificate.RELOAD_S
    while media_certificate.served((server.address, port)) != wanted:
        if time.monotonic() > deadline:
            raise HostError(
                f"{server.name} does not serve it",
                details=f"asked at {server.address}:{port}",
                resolution=BY_SSH.format(name=server.name),
            )
        time.sleep(media_certificate.POLL_S)
