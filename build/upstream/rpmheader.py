# SPDX-License-Identifier: Apache-2.0
"""Read the beginning of an RPM: who it says it is, its signature, and what the signature covers.

    lead (96 bytes) | signature header, padded to 8 | header | payload

The header's signature covers the header alone, which has the digest of the payload: so the origin of a package
can be proved before it is fetched. Source: rpm, docs/manual/format_header.md, format_v4.md and tags.md.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

from build.base.errors import IntegrityError
from build.upstream.rpmtags import Tags

FIRST_BYTES = 1 << 16  # more than most headers have

_LEAD_BYTES = 96
_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_HEADER_MAGIC = b"\x8e\xad\xe8\x01"
_INTRO = struct.Struct(">4s4xII")
_ENTRY_BYTES = 16
_LARGEST_BYTES = 1 << 26
_SHA256 = 8

# Tags of the signature header, then of the header.
_DSA, _RSA, _SHA256_OF_HEADER, _OPENPGP, _PGP, _GPG = 267, 268, 273, 278, 1002, 1005
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_PAYLOAD_DIGEST, _PAYLOAD_ALGORITHM, _FORMAT = 5092, 5093, 5114


@dataclasses.dataclass(frozen=True, kw_only=True)
class RpmHeader:
    """What an RPM says of itself. ``signed`` are the bytes that ``signature`` (None: there is none) covers.

    ``lacks`` names the SHA-256 digests, which hosts in FIPS mode ask for, that it does not have.
    ``payload_sha256`` is the digest of all that comes after the header, which starts at ``payload_start``; the
    empty text where the header does not say it. ``other_signature`` says what it has instead of a signature over its
    header that rpm 4 reads; empty when it has such a signature, or none at all. ``is_format_6`` is true of what rpm 6
    makes; rpm 4.16 of EL9 cannot install it.
    """

    nevra: str
    signature: bytes | None
    signed: bytes
    lacks: tuple[str, ...]
    payload_sha256: str
    payload_start: int
    is_format_6: bool = False
    other_signature: str = ""


class ShortError(Exception):
    """The bytes end before the header does; ``needed_bytes`` is known to be needed by now."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes are needed")
        self.needed_bytes = needed_bytes


def read_header(file: Path, what: str) -> RpmHeader:
    """Read the beginning of an RPM file. Raises: IntegrityError when it is no whole RPM."""
    with file.open("rb") as stream:

        def get(size_bytes: int) -> bytes:
            stream.seek(0)
            return stream.read(size_bytes)

        return fetch_header(get, what)


def fetch_header(get: Callable[[int], bytes], what: str) -> RpmHeader:
    """Read the beginning of an RPM that is elsewhere; ``get`` gives as many of its first bytes as are asked.

    Raises: IntegrityError when it is no whole RPM; what ``get`` does.
    """
    size_bytes = FIRST_BYTES
    while True:
        data = get(size_bytes)
        try:
            return parse_header(data, what)
        except ShortError as exc:
            size_bytes = _wanted(exc, data, size_bytes, what)


def _wanted(exc: ShortError, data: bytes, size_bytes: int, what: str) -> int:
    if len(data) < size_bytes:
        raise IntegrityError(
            f"{what} is cut off", details=f"it ends within its header, after {len(data)} bytes"
        )
    return exc.needed_bytes


def parse_header(data: bytes, what: str) -> RpmHeader:
    """Parse the beginning of an RPM.

    Raises: ShortError when more of it is needed; IntegrityError when it is no RPM.
    """
    if not data.startswith(_LEAD_MAGIC[: len(data)]):
        raise IntegrityError(f"{what} is no RPM", details=f"it begins with {data[:8].hex()}")
    signature, end = _Header.parse(data, _LEAD_BYTES, what)
    header, payload_start = _Header.parse(data, end + -end % 8, what)
    epoch = header.number(_EPOCH)
    evr = f"{f'{epoch}:' if epoch else ''}{header.text(_VERSION)}-{header.text(_RELEASE)}"
    is_format_6 = header.number(_FORMAT) >= 6
    lacks = []
    if signature.text(_SHA256_OF_HEADER) == "":
        lacks.append("SHA-256 digest of its header")
    # Format 6 names no algorithm: it is always SHA-256.
    has_sha256 = is_format_6 or header.number(_PAYLOAD_ALGORITHM) == _SHA256
    payload_sha256 = header.text(_PAYLOAD_DIGEST) if has_sha256 else ""
    if not payload_sha256:
        lacks.append("SHA-256 digest of its payload")
    usable = signature.binary(_RSA) or signature.binary(_DSA)
    return RpmHeader(
        nevra=f"{header.text(_NAME)}-{evr}.{header.text(_ARCH)}",
        signature=usable,
        signed=header.blob,
        lacks=tuple(lacks),
        payload_sha256=payload_sha256.lower(),
        payload_start=payload_start,
        is_format_6=is_format_6,
        other_signature="" if usable else _other_signature(signature),
    )


def _other_signature(signature: _Header) -> str:
    """Say what kind of signature a package has that has none over its header in the form of rpm 4."""
    if _OPENPGP in signature.entries:
        return "it has a signature in the form of rpm 6, which EL9 does not read"
    if _PGP in signature.entries or _GPG in signature.entries:
        return (
            "it has a signature over header and payload together, as rpm 3 made it, and none over its header"
        )
    return ""


@dataclasses.dataclass(frozen=True)
class _Header(Tags):
    """One header structure: its tags, and its own bytes."""

    blob: bytes

    @classmethod
    def parse(cls, data: bytes, start: int, what: str) -> tuple[_Header, int]:
        """Return the header at a place, and where it ends."""
        intro_end = start + _INTRO.size
        if len(data) < intro_end:
            raise ShortError(intro_end)
        magic, count, size_bytes = _INTRO.unpack_from(data, start)
        values_start = intro_end + count * _ENTRY_BYTES
        end = values_start + size_bytes
        if magic != _HEADER_MAGIC or end > _LARGEST_BYTES:
            raise IntegrityError(f"{what} has a header that cannot be read", details=f"at byte {start}")
        if len(data) < end:
            raise ShortError(end)
        tags = Tags.of_index(data[intro_end:values_start], data[values_start:end])
        return cls(tags.entries, tags.values, data[start:end]), end
