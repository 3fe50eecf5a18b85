# SPDX-License-Identifier: Apache-2.0
"""Keep the certificate of nginx good: renew Caisson's own before it ends, take a site's again when its files change.

nginx reads the files again in place, so that no pull breaks off. Every operation looks, and a timer each day does: a
cluster on which nobody does anything for years still serves.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import CommandError, HostError, InstallerError
from installer.base.files import read_file, write_file
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import changes, leaf, x509
from installer.config.bootstrap import Config
from installer.config.leaf import Leaf
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine.context import Context
from installer.engine.saltworker import LOCAL_DIR, SALT_CALL
from installer.operations import containers
from installer.operations.endpoints import client_context

Say = Callable[[str], None]
OWN_FILE, OWN_KEY_FILE = "/etc/caisson/tls/media.crt", "/etc/caisson/tls/media.key"
SITE_FILE, SITE_KEY_FILE = leaf.INSTALLED_FILE, "/etc/caisson/tls/site.key"
SITE_AUTHORITY_FILE = "/etc/caisson/pki/site-ca.crt"
AUTHORITY_FILE = "/etc/caisson/pki/ca.crt"
PUBLISHED_FILE = "/etc/caisson/ca.crt"
RENEWED_DAYS, VALID_DAYS = 90, 825
DAY_S = 86_400
SALT_TIMEOUT_S = 120.0
RELOAD = ("nginx", "-c", "/etc/caisson/nginx/nginx.conf", "-s", "reload")
RELOAD_S = 20.0
POLL_S = 0.3
CALL_AGAIN = "correct it, then: caisson certificates renew"


@dataclass(frozen=True)
class Served:
    """The certificate that nginx is to serve; ``done`` says what was done for that, nothing where all was well.

    ``ends`` is a date (UTC).
    """

    file: str
    ends: str
    days_left: int
    is_of_site: bool
    done: tuple[str, ...]


# ---- what the site brings ------------------------------------------------------------------------------------


def refuse(config: Config, address: str, *, paths: Paths) -> None:
    """Refuse a certificate of the site that is not for this media server. Raises: ConfigError."""
    names = config.media_names(address)
    leaf.refuse(config.media_certificate, names, installed_file=paths.at(SITE_FILE))


def bring(context: Context) -> bool:
    """Copy the certificate that the configuration names; return whether anything is new.

    Raises:
        ConfigError: it is not for this media server.
    """
    given, address = context.config.media_certificate, str(context.facts.control_plane_address)
    if given is None or not given.certificate_file.exists():
        return False
    refuse(context.config, address, paths=context.paths)
    return _copy(given, context.paths)


def _copy(given: Leaf, paths: Paths) -> bool:
    """Copy what was found good. The key comes first: nginx is told of both, and starts with neither half alone."""
    resolution = "check the file and its disk"
    files = (
        (given.authority_file, SITE_AUTHORITY_FILE, 0o644, 0o700),
        (given.key_file, SITE_KEY_FILE, 0o600, 0o755),
        (given.certificate_file, SITE_FILE, 0o644, 0o755),
    )
    read = [read_file(source, "the site's certificate", resolution=resolution) for source, *_ in files]
    written = [
        write_file(paths.at(target), data, mode=mode, dir_mode=dir_mode)
        for data, (_, target, mode, dir_mode) in zip(read, files)
    ]
    return any(written)


# ---- renewed -------------------------------------------------------------------------------------------------


def keep(paths: Paths, tree_dir: Path, *, say: Say, now: float | None = None) -> Served | None:
    """Renew what ends soon, take the site's files again, and let nginx serve that; None where no media is served.

    Raises:
        HostError: it cannot be done.
    """
    known = changes.recorded(paths)
    if known is None or "site_images" not in known or not paths.at(AUTHORITY_FILE).is_file():
        return None
    moment = time.time() if now is None else now
    done = []
    if _ends(paths.at(OWN_FILE)) - moment < RENEWED_DAYS * DAY_S:
        say("the certificate of nginx is renewed")
        _renew(known, paths)
        done.append("Caisson's own was renewed")
    given = _given(known)
    if given is not None and _take(given, known, paths):
        done.append("the site's was taken from its files")
    file = OWN_FILE if given is None else SITE_FILE
    if _serve(paths.at(file), known, paths, tree_dir, say=say):
        done.append("nginx has read it")
    ends = _ends(paths.at(file))
    return Served(
        file,
        time.strftime("%Y-%m-%d", time.gmtime(ends)),
        int((ends - moment) // DAY_S),
        given is not None,
        tuple(done),
    )


def keep_quietly(paths: Paths, tree_dir: Path, *, say: Say) -> None:
    """Do what :func:`keep` does, beside other work: what goes wrong is said, and stops nothing."""
    try:
        keep(paths, tree_dir, say=say)
    except InstallerError as exc:
        say(f"note: the certificate of nginx: {exc.message}; see 'caisson certificates renew'")


def await_served(context: Context) -> None:
    """Let nginx, which runs, read its certificate again if that is newer; what it no longer reads goes.

    Raises:
        HostError: it does not serve it then.
    """
    known = changes.recorded(context.paths)
    if known is None:
        return
    is_of_site = _given(known) is not None
    file = context.paths.at(SITE_FILE if is_of_site else OWN_FILE)
    _serve(file, known, context.paths, context.source_dir, say=context.ui.progress)
    for name in () if is_of_site else (SITE_FILE, SITE_KEY_FILE, SITE_AUTHORITY_FILE):
        context.paths.at(name).unlink(missing_ok=True)


def _given(known: Mapping[str, Any]) -> Leaf | None:
    files = known.get("media", {}).get("certificate")
    if not files:
        return None
    return Leaf(Path(files["certificate_file"]), Path(files["key_file"]), Path(files["authority_file"]))


def _take(given: Leaf, known: Mapping[str, Any], paths: Paths) -> bool:
    """Copy the site's files if they are there, and other ones. Raises: HostError for what is no good."""
    if not given.certificate_file.exists() and paths.at(SITE_FILE).is_file():
        return False
    with contextlib.suppress(OSError):
        pairs = ((given.certificate_file, SITE_FILE), (given.key_file, SITE_KEY_FILE))
        if all(one.read_bytes() == paths.at(other).read_bytes() for one, other in pairs):
            return False
    names = (str(known["node"]["control_plane_address"]), str(known["media_name"]))
    faults = [text for _, text in leaf.examine(given, names)]
    if faults:
        raise HostError(
            "the certificate that the site brings is no good: the one before goes on to be served",
            details="\n".join(faults),
            resolution=CALL_AGAIN,
        )
    return _copy(given, paths)


def _ends(file: Path) -> float:
    """Return when a certificate ends; 0 for one that is not there or cannot be read."""
    try:
        return x509.parse(x509.read_der(file)).not_after
    except (OSError, ValueError):
        return 0.0


def arguments(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Salt makes the certificate of, word for word as the state ``pki.media`` has it. Pure."""
    node, media_name = known["node"], known["media_name"]
    return {
        "name": OWN_FILE,
        "signing_private_key": "/etc/caisson/pki/ca.key",
        "signing_cert": AUTHORITY_FILE,
        "private_key": OWN_KEY_FILE,
        "CN": "Caisson media server",
        "subjectAltName": f"IP:{node['control_plane_address']}, DNS:{node['name']}, DNS:{media_name}",
        "basicConstraints": "critical, CA:FALSE",
        "keyUsage": "critical, digitalSignature",
        "extendedKeyUsage": "serverAuth",
        "subjectKeyIdentifier": "hash",
        "authorityKeyIdentifier": "keyid:always",
        "days_valid": VALID_DAYS,
        "days_remaining": RENEWED_DAYS,
        "mode": "0644",
    }


def _renew(known: Mapping[str, Any], paths: Paths) -> None:
    """Let Salt make it again, without the ISO: it may be away. Raises: HostError."""
    words = [f"{key}={json.dumps(value)}" for key, value in arguments(known).items()]
    asked = [SALT_CALL, "--local", f"--config-dir={LOCAL_DIR}", "--out=json", "--log-level=quiet"]
    try:
        said = run([*asked, "state.single", "x509.certificate_managed", *words], timeout_s=SALT_TIMEOUT_S)
        (state,) = json.loads(said.stdout)["local"].values()
        fault = "" if state["result"] is True else str(state["comment"])
    except CommandError as exc:
        fault = exc.details or exc.message
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        fault = f"Salt's answer cannot be read: {exc}"
    if not fault and _ends(paths.at(OWN_FILE)) < time.time():
        fault = f"{OWN_FILE} is not there, or has ended, after Salt has made it"
    if fault:
        raise HostError(
            "the certificate of nginx cannot be renewed",
            details=fault,
            resolution="caisson bootstrap makes it too",
        )


# ---- served --------------------------------------------------------------------------------------------------


def _serve(file: Path, known: Mapping[str, Any], paths: Paths, tree_dir: Path, *, say: Say) -> bool:
    """Let nginx read its files again where it serves another certificate than the file has; return whether it had to.

    Raises:
        HostError: it does not serve it.
    """
    address = str(known["node"]["control_plane_address"])
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    try:
        wanted = x509.read_der(file)
    except (OSError, ValueError) as exc:
        raise HostError(
            f"{file} cannot be read", details=str(exc), resolution="caisson bootstrap makes it again"
        ) from exc
    place = (address, ports["media-https"])
    if served(place) == wanted:
        return False
    found = run(
        ["crictl", "ps", "--quiet", "--state", "Running", *containers.selection("nginx")], timeout_s=60
    ).stdout.split()
    if not found:
        raise HostError(
            "nginx does not run, which is to serve a newer certificate",
            details=f"it reads {file} when it starts",
            resolution=f"see: {containers.listing('nginx')}; and 'caisson status'",
        )
    say("nginx reads its certificate again")
    run(["crictl", "exec", found[0], *RELOAD], timeout_s=60)
    deadline = time.monotonic() + RELOAD_S
    while served(place) != wanted:
        if time.monotonic() > deadline:
            raise HostError(
                f"nginx does not serve the certificate of {file}",
                details=f"asked at {address}:{ports['media-https']}",
                resolution=f"see: {containers.log('nginx')}",
            )
        time.sleep(POLL_S)
    if not is_trusted(place, paths.at(PUBLISHED_FILE)):
        say(f"note: {PUBLISHED_FILE} does not name its authority yet: 'caisson bootstrap' writes that")
    return True


def served(place: tuple[str, int]) -> bytes:
    """Return the certificate that is served there, in DER, whoever signed it; empty when nobody answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return _meet(place, context)


def is_trusted(place: tuple[str, int], authority_file: Path) -> bool:
    """Say whether who trusts this authority trusts what is served there, by its address."""
    try:
        return bool(_meet(place, client_context(authority_file)))
    except OSError:
        return False


def _meet(place: tuple[str, int], context: ssl.SSLContext) -> bytes:
    try:
        plain = socket.create_connection(place, timeout=10)
        with plain, context.wrap_socket(plain, server_hostname=place[0]) as connection:
            return connection.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def lines(found: Served) -> Sequence[str]:
    """Return what is shown of it."""
    whose = "the site's" if found.is_of_site else "Caisson's own"
    said = f"nginx serves {whose} certificate, {found.file}, until {found.ends} ({found.days_left} days)"
    return [said, *(f"  {text}" for text in found.done or ("nothing had to be done",))]
