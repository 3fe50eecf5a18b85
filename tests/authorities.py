# SPDX-License-Identifier: Apache-2.0
"""Make small real certificate authorities for tests, and leaves that they sign."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def make_authority(
    directory: Path,
    *,
    is_authority: bool = True,
    years: int = 100,
    begin: dt.datetime = BEGIN,
    issuer: tuple[Path, Path] | None = None,
    key_usage: x509.KeyUsage | None = SIGNS_CERTIFICATES,
    has_key_identifier: bool = True,
    is_critical: bool = True,
    subject: str = "a site's CA",
) -> tuple[Path, Path]:
    """Write the certificate of an authority and its key; return the paths of both.

    It signs itself, unless ``issuer`` (such a pair) signs it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else [])
    builder = _begin(name, key, begin, begin + dt.timedelta(days=365 * years))
    constraints = x509.BasicConstraints(ca=is_authority, path_length=None)
    builder = builder.add_extension(constraints, critical=is_critical)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if has_key_identifier:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    certificate = _sign(builder, issuer) if issuer else builder.issuer_name(name).sign(key, hashes.SHA256())
    return _write(directory, "ca", certificate, key)


def make_leaf(
    directory: Path,
    issuer: tuple[Path, Path],
    *,
    address: str = "127.0.0.1",
    names: Sequence[str] = (),
    end: dt.datetime = BEGIN + dt.timedelta(days=36_500),
) -> tuple[Path, Path]:
    """Write a server's certificate for ``address``, or for ``names``, signed by ``issuer``, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server")])
    builder = _begin(name, key, BEGIN, end).add_extension(
        x509.SubjectAlternativeName([*map(_general_name, names or [address])]), critical=False
    )
    return _write(directory, "leaf", _sign(builder, issuer), key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _begin(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, begin: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


def _sign(builder: x509.CertificateBuilder, issuer: tuple[Path, Path]) -> x509.Certificate:
    """Sign with another's key, and name that key, if its certificate does."""
    certificate = x509.load_pem_x509_certificate(issuer[0].read_bytes())
    key = serialization.load_pem_private_key(issuer[1].read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            named = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)
            builder = builder.add_extension(named, critical=False)
    return builder.issuer_name(certificate.subject).sign(key, hashes.SHA256())


def _write(
    directory: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    certificate_file, key_file = directory / f"{stem}.crt", directory / f"{stem}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(private_bytes(key))
    key_file.chmod(0o600)
    return certificate_file, key_file


def private_bytes(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    """Return a key as PEM, encrypted if there is a password."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
