# SPDX-License-Identifier: Apache-2.0
"""Read the few facts of a certificate that Python's ``ssl`` keeps to itself: its extensions, its version, its subject.

A reader of DER, no more than X.509 needs, so that ``config check`` works on a host that has nothing installed.
Source: RFC 5280, 4.1 and 4.2; ITU-T X.690, 8.1 (tags and lengths).
"""

from __future__ import annotations

import base64
import calendar
import ipaddress
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEQUENCE, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, BOOLEAN = 0x30, 0x03, 0x04, 0x06, 0x01
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
VERSION, EXTENSIONS = 0xA0, 0xA3
# id-ce-..., as DER writes 2.5.29.N.
SUBJECT_KEY_IDENTIFIER, KEY_USAGE, BASIC_CONSTRAINTS = b"\x55\x1d\x0e", b"\x55\x1d\x0f", b"\x55\x1d\x13"
SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"
# GeneralName: dNSName is [2], iPAddress [7].
DNS_NAME, IP_ADDRESS = 0x82, 0x87
# keyCertSign is bit 5 of keyUsage; bit 0 is the first octet's highest.
KEY_CERT_SIGN = 0x80 >> 5


@dataclass(frozen=True)
class Certificate:
    """What a strict verifier asks of an authority's certificate besides its signature, and when it ends.

    ``not_after`` is in seconds since 1970, UTC.
    """

    not_after: int
    has_subject: bool
    has_subject_key_identifier: bool
    has_key_usage: bool
    may_sign: bool
    are_constraints_critical: bool


def parse(der: bytes) -> Certificate:
    """Return the facts of one certificate in DER.

    Raises:
        ValueError: it is not DER, or no certificate.
    """
    try:
        return _facts(*_parts(der))
    except (ValueError, IndexError) as exc:
        raise ValueError(f"no certificate in DER: {exc}") from exc


def read_der(file: Path) -> bytes:
    """Return the first certificate of a PEM file in DER; text may stand around it.

    Raises:
        OSError: it cannot be read.
        ValueError: there is none in it.
    """
    text = file.read_bytes().decode("ascii", errors="replace")
    begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    return ssl.PEM_cert_to_DER_cert(begin + text.partition(begin)[2].partition(end)[0] + end)


def names(file: Path) -> frozenset[str]:
    """Return the DNS names and addresses that the first certificate of a PEM file is for.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no certificate in it.
    """
    try:
        _, extensions = _parts(read_der(file))
        _, value = extensions.get(SUBJECT_ALTERNATIVE_NAME, (False, b""))
        listed = [entry for _, content in _elements(value) for entry in _elements(content)]
        addresses = [str(ipaddress.ip_address(content)) for tag, content in listed if tag == IP_ADDRESS]
    except (ValueError, IndexError) as exc:
        raise ValueError(f"{file} holds no certificate: {exc}") from exc
    return frozenset(
        [*addresses, *(content.decode("ascii", "replace") for tag, content in listed if tag == DNS_NAME)]
    )


def public_key(file: Path) -> str:
    """Return the public key of the first certificate of a PEM file, as PEM (SubjectPublicKeyInfo).

    Raises:
        OSError: it cannot be read.
        ValueError: there is no certificate in it.
    """
    try:
        fields, _ = _parts(read_der(file))
    except (ValueError, IndexError) as exc:
        raise ValueError(f"{file} holds no certificate: {exc}") from exc
    tag, content = fields[5]
    text = base64.b64encode(bytes([tag]) + _length(len(content)) + content).decode("ascii")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def _length(count: int) -> bytes:
    """Return the length of a content as DER writes it.

    >>> _length(89).hex(), _length(294).hex()
    ('59', '820126')
    """
    if count < 0x80:
        return bytes([count])
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def _parts(der: bytes) -> tuple[list[tuple[int, bytes]], dict[bytes, tuple[bool, bytes]]]:
    """Return the fields of a certificate but its version, and its extensions."""
    ((_, certificate),) = _elements(der)
    (_, body), *_ = _elements(certificate)
    fields = [(tag, value) for tag, value in _elements(body) if tag != VERSION]
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, then what is optional.
    if len(fields) < 6:
        raise ValueError("a certificate has more fields")
    return fields, dict(_extensions(dict(fields[6:]).get(EXTENSIONS, b"")))


def _facts(fields: list[tuple[int, bytes]], extensions: dict[bytes, tuple[bool, bytes]]) -> Certificate:
    usage = _bits(extensions[KEY_USAGE][1]) if KEY_USAGE in extensions else b""
    _, (end_tag, end) = _elements(fields[3][1])
    return Certificate(
        not_after=_seconds(end_tag, end),
        has_subject=bool(fields[4][1]),
        has_subject_key_identifier=SUBJECT_KEY_IDENTIFIER in extensions,
        has_key_usage=KEY_USAGE in extensions,
        may_sign=bool(usage and usage[0] & KEY_CERT_SIGN),
        are_constraints_critical=extensions.get(BASIC_CONSTRAINTS, (False, b""))[0],
    )


def _extensions(field: bytes) -> Iterator[tuple[bytes, tuple[bool, bytes]]]:
    """Yield (identifier, (is it critical, value)) of each extension."""
    for _, listed in _elements(field):
        for _, extension in _elements(listed):
            (_, identifier), *rest = _elements(extension)
            if not rest:
                raise ValueError("an extension has a value")
            is_critical = any(tag == BOOLEAN and value != b"\x00" for tag, value in rest)
            yield identifier, (is_critical, rest[-1][1])


def _seconds(tag: int, value: bytes) -> int:
    """Return a UTCTime or GeneralizedTime as seconds since 1970. Source: RFC 5280, 4.1.2.5.

    >>> _seconds(UTC_TIME, b"700101000010Z"), _seconds(GENERALIZED_TIME, b"20500101000000Z")
    (10, 2524608000)
    """
    text = value.decode("ascii")
    if tag == UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    if tag not in (UTC_TIME, GENERALIZED_TIME) or not re.fullmatch(r"[0-9]{14}Z", text):
        raise ValueError(f"no time: {value!r}")
    year, *rest = int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))
    return calendar.timegm((year, *rest))


def _bits(value: bytes) -> bytes:
    """Return the octets of a BIT STRING, less its count of unused bits."""
    ((_, content),) = _elements(value)
    return content[1:]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, content) of each element that lies side by side in ``data``."""
    position = 0
    while position < len(data):
        header = data[position : position + 2]
        if len(header) < 2:
            raise ValueError("cut off")
        length, start = header[1], position + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        if start + length > len(data):
            raise ValueError("cut off")
        yield header[0], data[start : start + length]
        position = start + length
