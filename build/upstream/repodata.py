# SPDX-License-Identifier: Apache-2.0
"""Fetch and trust the metadata of a yum repository.

    repomd.xml (signature or TLS) -> checksums -> primary, filelists, comps -> plain files in the cache

What is in the cache is named by its checksum, or asked for again with If-None-Match.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import xml.etree.ElementTree as ET  # see parse_comps
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import createrepo_c

from build.base.errors import IntegrityError, InventoryError, NetworkError, NotFoundError, SignatureError
from build.base.files import replacing, write_atomically
from build.inventory.model import Digest, MetadataTrust, Repository
from build.upstream.http import HttpClient, first_mirror
from build.upstream.locations import file_url, relative_location
from build.upstream.openpgp import TrustedKeys, verify_detached

_STRONG = frozenset({"sha256", "sha384", "sha512"})
_ALGORITHMS = _STRONG | {"md5", "sha1", "sha224"}
_COMPS_TYPES = ("group", "group_gz", "group_xz", "group_zst")
_LARGEST_SMALL_BYTES = 1 << 26  # repomd.xml, signatures, manifests
_LARGEST_BYTES = 1 << 30  # a list of packages or files, packed
# How a file begins that is packed. Source: RFC 1952, .xz file format 1.1, RFC 8878, bzip2's source.
_MAGIC = {
    b"\x1f\x8b": createrepo_c.GZ_COMPRESSION,
    b"\xfd7zXZ\x00": createrepo_c.XZ_COMPRESSION,
    b"\x28\xb5\x2f\xfd": createrepo_c.ZSTD_COMPRESSION,
    b"BZh": createrepo_c.BZ2_COMPRESSION,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataFile:
    """One file that repomd.xml names. ``size_bytes`` is 0 where it does not say."""

    kind: str
    location: str
    algorithm: str
    checksum: str
    size_bytes: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """The trusted metadata of a repository, by kind (``primary``, ``filelists``, ``group``, ...)."""

    repository: Repository
    files: Mapping[str, MetadataFile]

    @property
    def digest(self) -> Digest:
        """Return a digest that names what the solver reads of it."""
        read = [self.files[kind].checksum for kind in ("primary", "filelists") if kind in self.files]
        return Digest.of_bytes(" ".join(read).encode())

    @property
    def modules(self) -> MetadataFile | None:
        """Return the file with the module streams, where the repository has one."""
        return self.files.get("modules")

    @property
    def comps(self) -> MetadataFile | None:
        """Return the file with the groups, where the repository has one."""
        for kind in _COMPS_TYPES:
            if kind in self.files:
                return self.files[kind]
        return None


class MetadataCache:
    """The metadata of earlier runs in a directory. Safe to remove at any time."""

    def __init__(self, directory: Path, http: HttpClient) -> None:
        self._directory = directory
        self._http = http

    def load(self, repository: Repository, trusted: TrustedKeys, *, has_groups: bool = False) -> Metadata:
        """Fetch repomd.xml, establish trust in it, parse it, and have the files there that will be read.

        They are of one mirror: where its repomd.xml, the signature or one of the files does not fit the others,
        the next mirror is asked for all. ``has_groups`` says that the groups will be read too.

        Raises: SignatureError, NetworkError, IntegrityError.
        """
        self._directory.mkdir(parents=True, exist_ok=True)

        def ask(base_url: str) -> Metadata:
            metadata = self._load(repository, base_url, trusted)
            for file in self._read(metadata, has_groups=has_groups):
                _check_trust(repository, file)
                self._plain(repository, file, [base_url])
            return metadata

        return first_mirror(repository.base_urls, ask)

    def _load(self, repository: Repository, base_url: str, trusted: TrustedKeys) -> Metadata:
        what = f"the metadata of repository '{repository.id}'"
        repomd_file = self.fetch_again(base_url + "repodata/repomd.xml", what)
        if repository.metadata is MetadataTrust.SIGNED:
            self._verify(base_url, trusted, repomd_file, what)
        files = _parse_repomd(repomd_file, repository, what)
        if "primary" not in files:
            raise NetworkError(
                f"{what} names no list of packages",
                details=f"url: {base_url}repodata/repomd.xml",
                resolution="is this the address of a yum repository? Correct base_url in the profile",
            )
        return Metadata(repository=repository, files=files)

    def _read(self, metadata: Metadata, *, has_groups: bool) -> Iterator[MetadataFile]:
        """Yield the files that a lock reads; not what libsolv's own form has."""
        is_parsed = self.solv_file(metadata).is_file()
        for kind in () if is_parsed else ("primary", "filelists"):
            if kind in metadata.files:
                yield metadata.files[kind]
        if metadata.modules is not None:
            yield metadata.modules
        if has_groups and metadata.comps is not None:
            yield metadata.comps

    def plain_file(self, repository: Repository, file: MetadataFile) -> Path:
        """Return a metadata file, fetched if need be, checked, and decompressed.

        libsolv's own reading of compressed files is not used: it crashes on .xz (solv 0.7.39 of PyPI).

        Raises: IntegrityError, NetworkError, SignatureError.
        """
        _check_trust(repository, file)
        return self._plain(repository, file, repository.base_urls)

    def _plain(self, repository: Repository, file: MetadataFile, base_urls: Sequence[str]) -> Path:
        plain = self._directory / f"{file.algorithm}-{file.checksum}.xml"
        if plain.is_file() and plain.stat().st_size:
            return plain
        what = f"{file.kind} of repository '{repository.id}'"
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=".packed-") as directory:
            packed = Path(directory, "packed")
            urls = [file_url(base_url, file.location) for base_url in base_urls]
            first_mirror(urls, lambda url: self._save(url, file, packed, what))
            with replacing(plain) as unpacked:
                _unpack(packed, unpacked, f"{what} cannot be unpacked", file.location)
        return plain

    def _save(self, url: str, file: MetadataFile, packed: Path, what: str) -> None:
        self._http.save(url, packed, largest_bytes=file.size_bytes or _LARGEST_BYTES, what=what)
        with packed.open("rb") as stream:
            actual = hashlib.file_digest(stream, lambda: _hash(file.algorithm)).hexdigest()
        if actual != file.checksum:
            raise IntegrityError(
                f"{what} is not the file that repomd.xml names",
                details=f"expected {file.algorithm} {file.checksum}, got {actual}; url: {url}",
                resolution="a mirror may be half-way through an update: try later, or use another mirror",
            )

    def solv_file(self, metadata: Metadata) -> Path:
        """Return where libsolv's own form of the metadata is kept."""
        return self._directory / f"{metadata.digest.hex}.solv"

    def _verify(self, base_url: str, trusted: TrustedKeys, repomd_file: Path, what: str) -> None:
        """Verify repomd.xml.asc, unless these bytes were verified with these keys before."""
        try:
            signature_file = self.fetch_again(
                base_url + "repodata/repomd.xml.asc", f"the signature of {what}"
            )
        except NotFoundError as exc:
            raise SignatureError(
                f"{what} is not signed",
                details=exc.details,
                resolution="where upstream does not sign, say 'metadata: tls' in the profile (https only)",
            ) from exc
        state = f"{Digest.of_file(repomd_file).hex} {Digest.of_file(signature_file).hex} {trusted.digest.hex}"
        verified_file = repomd_file.with_suffix(".verified")
        if verified_file.is_file() and verified_file.read_text(encoding="ascii") == state:
            return
        verify_detached(trusted, data_file=repomd_file, signature_file=signature_file, what=what)
        write_atomically(verified_file, state.encode("ascii"))

    def fetch_again(self, url: str, what: str) -> Path:
        """Fetch a small file unless the one in the cache is still upstream's."""
        file = self._directory / f"{Digest.of_bytes(url.encode()).hex}.body"
        state_file = file.with_suffix(".state")
        headers: dict[str, str] = {}
        if file.is_file() and state_file.is_file():
            headers = _parse_state(state_file.read_text(encoding="utf-8"), file)
        response = self._http.request(
            "GET",
            url,
            headers=headers,
            passed=frozenset({304}),
            what=what,
            largest_bytes=_LARGEST_SMALL_BYTES,
        )
        if response.status == 304:
            return file
        write_atomically(file, response.body)
        state = {
            "If-None-Match": response.headers.get("etag"),
            "If-Modified-Since": response.headers.get("last-modified"),
            "sha256": Digest.of_bytes(response.body).hex,
        }
        write_atomically(state_file, json.dumps(state).encode())
        return file


def _parse_state(text: str, file: Path) -> dict[str, str]:
    """Return the headers of a conditional request; none when the file is not the one they are about."""
    try:
        state = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(state, dict) or state.pop("sha256", None) != Digest.of_file(file).hex:
        return {}
    return {name: value for name, value in state.items() if isinstance(value, str)}


def _parse_repomd(file: Path, repository: Repository, what: str) -> dict[str, MetadataFile]:
    """Return what repomd.xml names, by kind. Raises: IntegrityError."""
    try:
        repomd = createrepo_c.Repomd(str(file))
    except (createrepo_c.CreaterepoCError, OSError) as exc:
        raise IntegrityError(
            f"{what} cannot be read", details=str(exc), resolution="try again later"
        ) from exc
    found = {}
    for record in repomd.records:
        base = record.location_base or ""
        found[record.type] = MetadataFile(
            kind=record.type,
            location=relative_location(repository.base_urls, record.location_href or "", base, what),
            algorithm=_algorithm(record.checksum_type or ""),
            checksum=(record.checksum or "").lower(),
            size_bytes=max(record.size, 0),
        )
    return found


def _check_trust(repository: Repository, file: MetadataFile) -> None:
    """Check that the checksum of a file can carry the trust in repomd.xml to it.

    Over TLS alone the connection is what is trusted, and each package's own signature: a weak sum does then.

    Raises: SignatureError, IntegrityError.
    """
    if file.algorithm not in _ALGORITHMS:
        raise IntegrityError(
            f"{file.kind} of repository '{repository.id}' has a checksum that is not known",
            details=f"'{file.algorithm}' for {file.location}",
            resolution="use a mirror whose metadata has SHA-256 (createrepo_c makes it so)",
        )
    if repository.metadata is MetadataTrust.SIGNED and file.algorithm not in _STRONG:
        raise SignatureError(
            f"{file.kind} of repository '{repository.id}' is vouched for by the weak checksum {file.algorithm}",
            details=f"repomd.xml is signed, and names {file.location} so",
            resolution="say 'metadata: tls' in the profile (https only): the packages' signatures count then",
        )


def _algorithm(name: str) -> str:
    """Return the name that hashlib has for a checksum; yum's first ``sha`` is SHA-1."""
    lower = name.lower()
    return "sha1" if lower == "sha" else lower


def _hash(algorithm: str) -> hashlib._Hash:
    return hashlib.new(algorithm, usedforsecurity=False)


def _unpack(packed: Path, plain: Path, message: str, location: str) -> None:
    """Decompress a file, whatever its name says. Raises: IntegrityError."""
    with packed.open("rb") as stream:
        start = stream.read(max(map(len, _MAGIC)))
    kinds = [kind for magic, kind in _MAGIC.items() if start.startswith(magic)]
    try:
        createrepo_c.decompress_file(
            str(packed), str(plain), kinds[0] if kinds else createrepo_c.NO_COMPRESSION
        )
    except (createrepo_c.CreaterepoCError, OSError) as exc:
        raise IntegrityError(message, details=f"{location}: {exc}", resolution="use another mirror") from exc


def parse_comps(text: bytes, group_id: str, what: str) -> tuple[str, ...]:
    """Return the mandatory packages of a group of comps.xml: what every host with the group has.

    Default and optional packages are left out, so that the ISO brings them: a host may lack them. The text
    is trusted by its checksum, and expat (2.4.1 and later) limits the expansion of entities.

    Raises: InventoryError when there is no such group; IntegrityError when the text is not XML.
    """
    try:
        root = ET.fromstring(text)  # noqa: S314
    except ET.ParseError as exc:
        raise IntegrityError(
            f"{what} cannot be read", details=str(exc), resolution="try again later"
        ) from exc
    groups = {group.findtext("id", ""): group for group in root.iter("group")}
    if group_id not in groups:
        raise InventoryError(
            f"there is no group '{group_id}' in {what}",
            details=f"groups: {', '.join(sorted(groups)) or 'none'}",
            resolution="correct the baseline in packages.yaml",
        )
    names = {
        (request.text or "").strip()
        for request in groups[group_id].iter("packagereq")
        if request.get("type", "mandatory") == "mandatory"
    }
    return tuple(sorted(names - {""}))
