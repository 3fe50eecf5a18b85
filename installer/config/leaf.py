# SPDX-License-Identifier: Apache-2.0
"""Examine the certificate that a site brings for its media server: key, end, names, and who signed it.

A server with it meets a client that trusts the site's authority, both in memory: what that client says is what every
node would say. Intermediate certificates belong into the certificate's file.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import ConfigError
from installer.config import authority, x509

INSTALLED_FILE = "/etc/caisson/tls/site.crt"
"""Where the bootstrap puts the certificate that a site brings; it is taken again when its files change."""
PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)
"""An authority that another has issued is trusted too: containerd and dnf do. Python has its name from 3.10 on."""


@dataclass(frozen=True)
class Leaf:
    """The files of a certificate that a site brings, and the authority by which clients know it."""

    certificate_file: Path
    key_file: Path
    authority_file: Path


def examine(leaf: Leaf, names: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield (key of the configuration, what is wrong) for each fault; nothing for a good one.

    ``names``: addresses and names that it must be for; without them the first of its own is taken.
    """
    files = {
        "certificateFile": leaf.certificate_file,
        "keyFile": leaf.key_file,
        "authorityFile": leaf.authority_file,
    }
    faults = [fault for key, file in files.items() for fault in authority.unreadable(key, file)]
    faults = faults or [*authority.key_faults(leaf.key_file)]
    faults = faults or [*authority.pair_faults(leaf.certificate_file, leaf.key_file)]
    yield from faults
    if faults:
        return
    try:
        own = [name for name in sorted(x509.names(leaf.certificate_file)) if name.strip(".")]
    except ValueError as exc:
        yield "certificateFile", str(exc)
        return
    if not own:
        yield "certificateFile", f"{leaf.certificate_file} names no address and no host (subjectAltName)"
        return
    for name in names or own[:1]:
        said = _meet(leaf, name.replace("*", "x", 1))
        if said:
            key = "authorityFile" if "holds no certificate" in said else "certificateFile"
            yield key, f"{leaf.certificate_file}, for {name}: {said}"
            if "expired" in said or "issuer" in said:
                return


def is_taken_off(given: Leaf, installed_file: Path) -> bool:
    """Tell whether its files were taken off the host after it was installed."""
    return installed_file.is_file() and not given.certificate_file.exists()


def refuse(given: Leaf | None, names: Sequence[str], *, installed_file: Path) -> None:
    """Refuse a certificate that is not for these names; once it is installed, its files may be taken off the host.

    Raises:
        ConfigError: it is not, or has other faults; ``details`` has all of them.
    """
    if given is None or is_taken_off(given, installed_file):
        return
    faults = [f"media.certificate.{key}: {text}" for key, text in examine(given, names)]
    if faults:
        raise ConfigError(
            "the certificate of the site cannot serve packages and images",
            details="\n".join(faults),
            resolution=f"bring one that is for {' and '.join(names)}; nothing was changed",
        )


def _meet(leaf: Leaf, name: str) -> str:
    """Return what a client says that asks a server with this certificate for ``name``; empty when it is well."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(leaf.certificate_file, leaf.key_file)
    try:
        client_context = ssl.create_default_context(cafile=str(leaf.authority_file))
    except ssl.SSLError:
        return f"{leaf.authority_file} holds no certificate"
    client_context.verify_flags |= PARTIAL_CHAIN
    client_context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client = client_context.wrap_bio(back, there, server_hostname=name)
    except ValueError as exc:  # UnicodeError is one: a label of more than 63 letters
        return f"nobody can ask for this name: {exc}"
    server = server_context.wrap_bio(there, back, server_side=True)
    try:
        for side in (client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as exc:
        return exc.verify_message
    except ssl.SSLError as exc:
        return str(exc.reason or exc)
    return ""
