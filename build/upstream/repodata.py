# SPDX-License-Identifier: Apache-2.0
"""Fetch and trust the metadata of a yum repository.

    repomd.xml (signature or TLS) -> checksums -> primary, filelists, comps -> plain files in the cache

What is in the cache is named by its checksum, or asked for again with If-None-Match.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import xml.etree.ElementTree as ET  # see parse_comps
from collections.abc import Mapping
from pathlib import Path

import createrepo_c

from build.base.errors import IntegrityError, InventoryError, NetworkError, NotFoundError, SignatureError
from build.base.files import write_atomically
from build.inventory.model import Digest, MetadataTrust, Repository
from build.upstream.http import HttpClient, first_mirror
from build.upstream.openpgp import TrustedKeys, verify_detached

_STRONG = frozenset({"sha256", "sha384", "sha512"})
_COMPS_TYPES = ("group", "group_gz", "group_xz", "group_zst")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetadataFile:
    """One file that repomd.xml names."""

    kind: str
    location: str
    algorithm: str
    checksum: str


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

    def load(self, repository: Repository, trusted: TrustedKeys) -> Metadata:
        """Fetch repomd.xml, establish trust in it, and parse it.

        Raises: SignatureError, NetworkError.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        return first_mirror(repository.base_urls, lambda url: self._load(repository, url, trusted))

    def _load(self, repository: Repository, base_url: str, trusted: TrustedKeys) -> Metadata:
        what = f"the metadata of repository '{repository.id}'"
        repomd_file = self.fetch_again(base_url + "repodata/repomd.xml", what)
        if repository.metadata is MetadataTrust.SIGNED:
            self._verify(base_url, trusted, repomd_file, what)
        files = _parse_repomd(repomd_file, what)
        if "primary" not in files:
            raise NetworkError(
                f"{what} names no list of packages", details=f"url: {base_url}repodata/repomd.xml"
            )
        if repository.metadata is MetadataTrust.SIGNED:
            for file in files.values():
                if file.algorithm not in _STRONG:
                    raise SignatureError(
                        f"{what} uses the weak checksum {file.algorithm}", details=f"for {file.location}"
                    )
        return Metadata(repository=repository, files=files)

    def plain_file(self, repository: Repository, file: MetadataFile) -> Path:
        """Return a metadata file, fetched if need be, checked, and decompressed.

        libsolv's own reading of compressed files is not used: it crashes on .xz (solv 0.7.39 of PyPI).

        Raises: IntegrityError, NetworkError.
        """
        plain = self._directory / f"{file.algorithm}-{file.checksum}.xml"
        if plain.is_file():
            return plain
        what = f"{file.kind} of repository '{repository.id}'"
        urls = [base_url + file.location for base_url in repository.base_urls]
        body = first_mirror(urls, lambda url: self._checked(url, file, what))
        packed = self._directory / f"{file.algorithm}-{file.checksum}.{os.getpid()}.packed"
        unpacked = packed.with_suffix(".plain")
        packed.write_bytes(body)
        # A group file may come as it is; createrepo_c detects compressed ones only.
        compression = (
            createrepo_c.NO_COMPRESSION
            if file.location.endswith(".xml")
            else createrepo_c.AUTO_DETECT_COMPRESSION
        )
        try:
            createrepo_c.decompress_file(str(packed), str(unpacked), compression)
        except (createrepo_c.CreaterepoCError, OSError) as exc:
            unpacked.unlink(missing_ok=True)
            raise IntegrityError(
                f"{what} cannot be unpacked",
                details=f"{file.location}: {exc}",
                resolution="use another mirror",
            ) from exc
        finally:
            packed.unlink(missing_ok=True)
        unpacked.replace(plain)
        return plain

    def _checked(self, url: str, file: MetadataFile, what: str) -> bytes:
        body = self._http.request("GET", url, what=what).body
        actual = hashlib.new(file.algorithm, body, usedforsecurity=False).hexdigest()
        if actual != file.checksum:
            raise IntegrityError(
                f"{what} is not the file that repomd.xml names",
                details=f"expected {file.algorithm} {file.checksum}, got {actual}; url: {url}",
                resolution="a mirror may be half-way through an update: try later, or use another mirror",
            )
        return body

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
        _write(verified_file, state.encode("ascii"))

    def fetch_again(self, url: str, what: str) -> Path:
        """Fetch a small file unless the one in the cache is still upstream's."""
        file = self._directory / f"{Digest.of_bytes(url.encode()).hex}.body"
        state_file = file.with_suffix(".state")
        headers: dict[str, str] = {}
        if file.is_file() and state_file.is_file():
            headers = _parse_state(state_file.read_text(encoding="utf-8"), file)
        response = self._http.request("GET", url, headers=headers, passed=frozenset({304}), what=what)
        if response.status == 304:
            return file
        _write(file, response.body)
        state = {
            "If-None-Match": response.headers.get("etag"),
            "If-Modified-Since": response.headers.get("last-modified"),
            "sha256": Digest.of_bytes(response.body).hex,
        }
        _write(state_file, json.dumps(state).encode())
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


def _parse_repomd(file: Path, what: str) -> dict[str, MetadataFile]:
    try:
        repomd = createrepo_c.Repomd(str(file))
    except (createrepo_c.CreaterepoCError, OSError) as exc:
        raise IntegrityError(
            f"{what} cannot be read", details=str(exc), resolution="try again later"
        ) from exc
    found = {}
    for record in repomd.records:
        algorithm = "sha1" if record.checksum_type == "sha" else record.checksum_type
        location = record.location_href
        if location.startswith("/") or ".." in location.split("/") or "://" in location:
            raise IntegrityError(f"{what} names a file outside the repository", details=location)
        if algorithm in hashlib.algorithms_available:
            found[record.type] = MetadataFile(
                kind=record.type, location=location, algorithm=algorithm, checksum=record.checksum
            )
    return found


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


def _write(file: Path, data: bytes) -> None:
    write_atomically(file, data)
