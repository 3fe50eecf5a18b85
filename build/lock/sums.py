# SPDX-License-Identifier: Apache-2.0
"""Find out the SHA-256 of packages whose metadata gives another sum, or no size: by fetching them.

    RPM --> size and sum of the metadata --> header: signature --> payload: digest of the header --> SHA-256

What vouches for the package is the signature of its header, which has the SHA-256 of its payload; the sum of the
metadata is looked at as well, and proves nothing by itself when it is SHA-1. That goes for every sum but
SHA-256, the longer ones too. What was found is kept, so that a package is fetched once.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from build.base.errors import IntegrityError, SignatureError
from build.inventory.model import Blob, Digest, LockedPackage
from build.lock.stated import Sum
from build.upstream.http import HttpClient, first_mirror
from build.upstream.openpgp import TrustedKeys
from build.upstream.rpmheader import RpmHeader, read_header
from build.upstream.signedrpm import verify_header

_LARGEST_BYTES = 1 << 32
_CHUNK_BYTES = 1 << 20


class SumTable:
    """What fetched packages were: a file of lines with keys, build, sum, and the SHA-256 and size found."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._found = {
            key: blob
            for key, _, value in (line.partition(" = ") for line in lines)
            if (blob := _parse_blob(value)) is not None
        }

    def get(self, package: LockedPackage, stated: Sum, keys: TrustedKeys) -> Blob | None:
        """Return what a package was when it was fetched and proved with these keys."""
        return self._found.get(_key(package, stated, keys))

    def add(self, package: LockedPackage, stated: Sum, keys: TrustedKeys, blob: Blob) -> None:
        """Keep what it was."""
        with self._lock:
            self._found[_key(package, stated, keys)] = blob
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(f"{_key(package, stated, keys)} = {blob.digest.hex} {blob.size_bytes}\n")


def _key(package: LockedPackage, stated: Sum, keys: TrustedKeys) -> str:
    return f"{keys.digest.hex} {package.nevra} {stated.algorithm}:{stated.hex} {stated.size_bytes}"


def _parse_blob(text: str) -> Blob | None:
    digest, _, size = text.partition(" ")
    try:
        return Blob(digest=Digest(digest), size_bytes=int(size))
    except ValueError:
        return None  # a line that was cut off


def proved(
    package: LockedPackage, stated: Sum, urls: Sequence[str], keys: TrustedKeys, http: HttpClient
) -> Blob:
    """Fetch a package, prove that it is its repository's, and return its SHA-256 and size.

    Raises: SignatureError when no signature vouches for it; IntegrityError when it is not what metadata or its
    own header says; NetworkError and its kinds.
    """
    what = f"package {package.nevra}"
    with tempfile.TemporaryDirectory(prefix="caisson-sums-") as directory:
        file = Path(directory, "package.rpm")

        def ask(url: str) -> Blob:
            http.save(url, file, largest_bytes=stated.size_bytes or _LARGEST_BYTES, what=what)
            _check_stated(file, stated, what, url)
            header = read_header(file, what)
            try:
                verify_header(keys, header, package.nevra, what)
            except SignatureError as exc:
                raise SignatureError(
                    exc.message,
                    details=f"{exc.details}; its metadata has only {stated.text}, so nothing vouches for it",
                    resolution=exc.resolution,
                ) from exc
            _check_payload(file, header, what, url)
            return Blob(digest=Digest.of_file(file), size_bytes=file.stat().st_size)

        return first_mirror(urls, ask)


def _check_stated(file: Path, stated: Sum, what: str, url: str) -> None:
    size_bytes = file.stat().st_size
    if stated.size_bytes and size_bytes != stated.size_bytes:
        raise _other(what, f"expected {stated.size_bytes} bytes, got {size_bytes}; from {url}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(stated.algorithm, usedforsecurity=False))
    if found.hexdigest() != stated.hex:
        raise _other(what, f"expected {stated.algorithm} {stated.hex}, got {found.hexdigest()}; from {url}")


def _check_payload(file: Path, header: RpmHeader, what: str, url: str) -> None:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        stream.seek(header.payload_start)
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
    if found.hexdigest() != header.payload_sha256:
        raise _other(what, f"its signed header names payload {header.payload_sha256}; from {url}")


def _other(what: str, details: str) -> IntegrityError:
    return IntegrityError(
        f"{what} is not the one that is meant",
        details=details,
        resolution="a mirror may be half-way through an update: try later, or use another mirror",
    )
