# SPDX-License-Identifier: Apache-2.0
"""Examine a certificate authority that a site brings: certificate and key, as PEM files on the host.

Python's own ``ssl`` does it, so that nothing has to be installed first: it loads the pair (which proves that the
key belongs to the certificate), and lists a certificate among the authorities only if it may sign others. What strict
verifiers ask besides is read from the certificate itself: Python's from 3.13 on, and whatever a site brings to look.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from installer.config import x509

PRIVATE_MODES = 0o077
MINIMUM_DAYS = 30


@dataclass(frozen=True)
class Authority:
    """The files of an authority; the key is never read into anything but the host's own copy."""

    certificate_file: Path
    key_file: Path


def examine(authority: Authority, *, now: float | None = None) -> Iterator[tuple[str, str]]:
    """Yield (``certificateFile`` or ``keyFile``, what is wrong) for each fault; nothing for a good pair."""
    faults = [*unreadable("certificateFile", authority.certificate_file)]
    faults += unreadable("keyFile", authority.key_file)
    yield from faults
    if faults:
        return
    yield from key_faults(authority.key_file)
    yield from _certificate_faults(authority.certificate_file, time.time() if now is None else now)
    yield from pair_faults(authority.certificate_file, authority.key_file)


def key_faults(file: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the mode of a key's file."""
    if file.stat().st_mode & PRIVATE_MODES:
        mode = file.stat().st_mode & 0o777
        yield "keyFile", f"{file} can be read by others (mode {mode:04o}): chmod 0600"


def unreadable(key: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield why a file cannot be read, or is no PEM; ``key`` is that of the configuration that names it."""
    if not file.is_absolute():
        yield key, f"'{file}' is no absolute path"
        return
    try:
        content = file.read_bytes()
    except OSError as exc:
        yield key, f"{file} cannot be read: {exc.strerror}"
        return
    if b"-----BEGIN " not in content:
        yield key, f"{file} is not PEM"


def _certificate_faults(file: Path, now: float) -> Iterator[tuple[str, str]]:
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        store.load_verify_locations(cafile=str(file))
    except ssl.SSLError:
        yield "certificateFile", f"{file} holds no certificate"
        return
    if store.cert_store_stats()["x509"] != 1:
        yield "certificateFile", f"{file} holds {store.cert_store_stats()['x509']} certificates, not one"
        return
    facts = x509.parse(x509.read_der(file))
    found = store.get_ca_certs()
    if not found:
        yield "certificateFile", f"{file} is no authority: {_why_no_authority(facts)}"
        return
    lacks = ", ".join(_lacks(facts))
    if lacks:
        yield "certificateFile", f"{file} {lacks}: strict verifiers (RFC 5280) refuse what it signs"
    begins = ssl.cert_time_to_seconds(str(found[0]["notBefore"]))
    ends = ssl.cert_time_to_seconds(str(found[0]["notAfter"]))
    if begins > now:
        yield "certificateFile", f"{file} is not valid before {found[0]['notBefore']}"
    if ends < now:
        yield "certificateFile", f"{file} has expired: {found[0]['notAfter']}"
    elif ends < now + MINIMUM_DAYS * 86_400:
        yield "certificateFile", f"{file} expires within {MINIMUM_DAYS} days: {found[0]['notAfter']}"


def _why_no_authority(certificate: x509.Certificate) -> str:
    if certificate.has_key_usage and not certificate.may_sign:
        return "its keyUsage lacks keyCertSign"
    return "its basicConstraints do not say CA:TRUE"


def _lacks(certificate: x509.Certificate) -> Iterator[str]:
    """Name what OpenSSL's strict check asks of an authority. Source: OpenSSL 3, x509_vfy.c, check_extensions."""
    if not certificate.has_subject:
        yield "has an empty subject"
    if not certificate.are_constraints_critical:
        yield "has basicConstraints that are not critical"
    if not certificate.has_key_usage:
        yield "has no keyUsage (needs keyCertSign)"
    if not certificate.has_subject_key_identifier:
        yield "has no subjectKeyIdentifier"


def pair_faults(certificate_file: Path, key_file: Path) -> Iterator[tuple[str, str]]:
    """Yield why a key is not that of a certificate."""
    asked: list[bool] = []

    def refuse() -> str:
        asked.append(True)
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_file, key_file, password=refuse)
    except (ssl.SSLError, ValueError) as exc:
        if asked:
            yield "keyFile", f"{key_file} is encrypted: nobody is there to type its password"
        elif "MISMATCH" in str(exc).upper():
            yield "keyFile", f"{key_file} is not the key of {certificate_file}"
        else:
            yield "keyFile", f"{key_file} holds no private key that can be used"
