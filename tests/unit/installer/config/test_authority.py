# SPDX-License-Identifier: Apache-2.0
"""A site's own certificate authority: a good pair is silent, each fault says exactly this."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as crypto_x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import KeyUsage

from installer.config import x509
from installer.config.authority import Authority, examine
from tests.authorities import make_authority, private_bytes

SIGNS_LISTS = KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def said(certificate: Path, key: Path) -> list[tuple[str, str]]:
    return list(examine(Authority(certificate, key), now=NOW.timestamp()))


def test_a_good_pair(tmp_path: Path) -> None:
    assert said(*make_authority(tmp_path)) == []


def test_files_that_are_not_there_and_no_pem(tmp_path: Path) -> None:
    certificate, _ = make_authority(tmp_path)
    (tmp_path / "x").write_text("x")
    assert said(tmp_path / "none", Path("relative.key")) == [
        ("certificateFile", f"{tmp_path}/none cannot be read: No such file or directory"),
        ("keyFile", "'relative.key' is no absolute path"),
    ]
    assert said(certificate, tmp_path / "x") == [("keyFile", f"{tmp_path}/x is not PEM")]


def test_a_certificate_that_is_no_authority(tmp_path: Path) -> None:
    certificate, key = make_authority(tmp_path, is_authority=False)
    assert said(certificate, key) == [
        ("certificateFile", f"{certificate} is no authority: its basicConstraints do not say CA:TRUE")
    ]


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "has expired: Dec 31 00:00:00 2020 GMT"),
        (dt.datetime(2025, 6, 20, tzinfo=dt.UTC), "expires within 30 days: Jun 20 00:00:00 2026 GMT"),
        (dt.datetime(2027, 1, 1, tzinfo=dt.UTC), "is not valid before Jan  1 00:00:00 2027 GMT"),
    ],
)
def test_dates(tmp_path: Path, begin: dt.datetime, text: str) -> None:
    certificate, key = make_authority(tmp_path, begin=begin, years=1)
    assert said(certificate, key) == [("certificateFile", f"{certificate} {text}")]


def test_keys(tmp_path: Path) -> None:
    certificate, key = make_authority(tmp_path)
    other = make_authority(tmp_path / "other")[1]
    assert said(certificate, other) == [("keyFile", f"{other} is not the key of {certificate}")]
    key.chmod(0o644)
    assert said(certificate, key) == [
        ("keyFile", f"{key} can be read by others (mode 0644): chmod 0600"),
    ]
    key.chmod(0o600)
    key.write_bytes(private_bytes(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    assert said(certificate, key) == [
        ("keyFile", f"{key} is encrypted: nobody is there to type its password")
    ]
    key.write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    assert said(certificate, key) == [("keyFile", f"{key} holds no private key that can be used")]


def test_a_file_with_a_chain_or_nonsense(tmp_path: Path) -> None:
    certificate, key = make_authority(tmp_path)
    certificate.write_text(certificate.read_text() + make_authority(tmp_path / "other")[0].read_text())
    assert said(certificate, key) == [("certificateFile", f"{certificate} holds 2 certificates, not one")]
    certificate.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    assert said(certificate, key)[0] == ("certificateFile", f"{certificate} holds no certificate")


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ({"has_key_identifier": False}, "has no subjectKeyIdentifier"),
        ({"key_usage": None}, "has no keyUsage (needs keyCertSign)"),
        (
            {"key_usage": None, "has_key_identifier": False},
            "has no keyUsage (needs keyCertSign), has no subjectKeyIdentifier",
        ),
        ({"is_critical": False}, "has basicConstraints that are not critical"),
        ({"subject": ""}, "has an empty subject"),
    ],
)
def test_what_strict_verifiers_ask(tmp_path: Path, kept: dict[str, Any], text: str) -> None:
    certificate, key = make_authority(tmp_path, **kept)
    whole = f"{certificate} {text}: strict verifiers (RFC 5280) refuse what it signs"
    assert said(certificate, key) == [("certificateFile", whole)]


def test_a_key_usage_that_is_not_for_certificates(tmp_path: Path) -> None:
    certificate, key = make_authority(tmp_path, key_usage=SIGNS_LISTS)
    text = f"{certificate} is no authority: its keyUsage lacks keyCertSign"
    assert said(certificate, key) == [("certificateFile", text)]


def test_the_reader_of_extensions_refuses_what_is_cut_off(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(make_authority(tmp_path)[0].read_text())
    whole = crypto_x509.load_der_x509_certificate(der)
    assert x509.parse(der) == x509.Certificate(
        not_after=int(whole.not_valid_after_utc.timestamp()),
        has_subject=True,
        has_subject_key_identifier=True,
        has_key_usage=True,
        may_sign=True,
        are_constraints_critical=True,
    )
    for length in range(len(der)):
        with pytest.raises(ValueError, match="no certificate in DER"):
            x509.parse(der[:length])


def test_an_authority_that_another_has_issued(tmp_path: Path) -> None:
    assert (
        said(*make_authority(tmp_path / "b", issuer=make_authority(tmp_path / "a", subject="a root"))) == []
    )
