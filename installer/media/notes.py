# SPDX-License-Identifier: Apache-2.0
"""Note what an ISO was when it was verified, so that it can be told later whether it still is that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from installer.base.errors import HostError
from installer.base.files import write_file
from installer.media import signature
from installer.media.product import Product

#: Where an ISO says what it is: the primary volume descriptor. Source: ECMA-119, 8.4.
DESCRIPTOR_OFFSET, DESCRIPTOR_BYTES = 16 * 2048, 2048
MARK = b"\1CD001"


@dataclass(frozen=True)
class Note:
    """An ISO as it was verified.

    ``sums_sha256`` is the digest of its SHA256SUMS, ``descriptor_sha256`` that of its volume descriptor; ``signed_by``
    the fingerprint of the primary key, empty when nobody signed it.
    """

    full_version: str
    version: str
    build: str
    profile: str
    title: str
    sha256: str
    sums_sha256: str
    descriptor_sha256: str
    signed_by: str
    size_bytes: int


def make(product: Product, media_dir: Path, file: Path) -> Note:
    """Return the note of a verified ISO that is mounted at ``media_dir`` and made from ``file``, which may be a device.

    Raises:
        MediaError: its signature is not good.
        OSError: it cannot be read.
    """
    found = descriptor(file)
    return Note(
        full_version=product.full_version,
        version=product.version,
        build=product.build,
        profile=product.profile_name,
        title=product.title,
        sha256=product.sha256,
        sums_sha256=sums_digest(media_dir),
        descriptor_sha256=hashlib.sha256(found).hexdigest() if found else "",
        signed_by=signature.verify(media_dir).primary if signature.is_signed(media_dir) else "",
        size_bytes=volume_bytes(found),
    )


def sums_digest(media_dir: Path) -> str:
    """Return the digest of SHA256SUMS of a mounted ISO. Raises: OSError when it cannot be read."""
    return hashlib.sha256((media_dir / signature.SUMS_FILE_NAME).read_bytes()).hexdigest()


def write(note: Note, notes_dir: Path) -> bool:
    """Write a note; return whether anything is new in it."""
    text = json.dumps(asdict(note), indent=1, sort_keys=True) + "\n"
    return write_file(notes_dir / f"{note.full_version}.json", text, mode=0o600, dir_mode=0o700)


def forget(full_version: str, notes_dir: Path) -> None:
    """Remove a note."""
    (notes_dir / f"{full_version}.json").unlink(missing_ok=True)


def read(full_version: str, notes_dir: Path) -> Note | None:
    """Return the note of an ISO, None where there is none.

    Raises:
        HostError: it cannot be read.
    """
    file = notes_dir / f"{full_version}.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        note = Note(**{field.name: data[field.name] for field in fields(Note)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise HostError(
            f"{file} cannot be read: it says what an ISO was when it was verified",
            details=str(exc),
            resolution=f"remove it; 'caisson bootstrap', or 'caisson media add' of {full_version}, writes it again",
        ) from exc
    return note


def read_all(notes_dir: Path) -> Iterator[Note]:
    """Yield all notes, by build. Raises: HostError for one that cannot be read."""
    for file in sorted(notes_dir.glob("[!.]*.json")):
        note = read(file.stem, notes_dir)
        if note is not None:
            yield note


# ---- what an ISO says of itself ------------------------------------------------------------------------------


def descriptor(file: Path) -> bytes:
    """Return the primary volume descriptor of an ISO file or a device; empty when it has none, or cannot be read."""
    try:
        with file.open("rb") as source:
            source.seek(DESCRIPTOR_OFFSET)
            found = source.read(DESCRIPTOR_BYTES)
    except OSError:
        return b""
    return found if found.startswith(MARK) else b""


def volume_bytes(found: bytes) -> int:
    """Return the size that a volume descriptor names, 0 when it names none. Source: ECMA-119, 8.4.8 and 8.4.12."""
    if len(found) < DESCRIPTOR_BYTES:
        return 0
    return int.from_bytes(found[80:84], "little") * int.from_bytes(found[128:130], "little")
