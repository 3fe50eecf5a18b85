# SPDX-License-Identifier: Apache-2.0
"""The words of the builder as frozen data: inventory, profile and lock.

    images.yaml packages.yaml versions.yaml -> Inventory  (intent, for people)
    profiles/NAME.yaml                      -> Profile    (where the bytes come from)
    caisson.lock                            -> Lock       (digests, for machines)

Only data and what follows from it alone; files are read and written by inventory.py, profile.py, lockfile.py.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from typing_extensions import override

from build.base.rpmversion import evr_key
from build.inventory.reference import Reference as Reference  # noqa: PLC0414 - the model passes it on

LOCK_FORMAT = 1
INVENTORY_FORMAT = 1
DEFAULT_CONNECT_TIMEOUT_S = 10.0

_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, order=True)
class Digest:
    """A SHA-256 digest; the only way in which content is named once it is locked.

    >>> str(Digest.of_bytes(b""))[:14]
    'sha256:e3b0c44'
    """

    hex: str

    def __post_init__(self) -> None:
        if not _HEX64.fullmatch(self.hex):
            raise ValueError(f"not 64 lower-case hexadecimal digits: {self.hex!r}")

    @override
    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse ``sha256:<64 hex>``.

        Raises: ValueError when the text is anything else, another algorithm included.
        """
        algorithm, separator, value = text.partition(":")
        if algorithm != "sha256" or not separator:
            raise ValueError(f"not a sha256 digest: {text!r}")
        return cls(value)

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        """Return the digest of bytes in memory."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Return the digest of a file's content, read in pieces."""
        with path.open("rb") as stream:
            return cls(hashlib.file_digest(stream, "sha256").hexdigest())


# ---------------------------------------------------------------- inventory


class ImageRole(enum.StrEnum):
    """What an image is for: run on a node, or only the base of composed images (not on the ISO)."""

    RUN = "run"
    BASE = "base"


class PythonArtifact(enum.StrEnum):
    """Which file of a Python release is taken."""

    WHEEL = "wheel"
    SDIST = "sdist"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedImage:
    """An image named in images.yaml. ``source`` is ``file:line``."""

    id: str
    reference: Reference
    purpose: str
    preload: bool = False
    role: ImageRole = ImageRole.RUN
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class User:
    """A user that a composed image has besides those of its base; its group has the same name."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComposedImage:
    """An image made here: the layers of ``base`` (an image id) and the payload of locked packages.

    ``packages`` are package names, without what they require: the lock adds that. ``without`` are capabilities
    that the packages require and the image does without, each with the reason.
    """

    id: str
    reference: Reference
    base: str
    packages: tuple[str, ...]
    purpose: str
    preload: bool = False
    users: tuple[User, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    without: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedManifest:
    """An upstream YAML file, put on the ISO verbatim as ``manifests/<path>``.

    ``not_images`` is text in it that is shaped like the name of an image and is none that the bundle needs, each
    with the reason.
    """

    id: str
    url: str
    path: str
    purpose: str
    not_images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a host of one EL minor release and install profile has before Caisson comes.

    Either the closure of ``group``, less the names in ``without``, within ``repositories`` (the base
    repositories of that minor); or, where ``group`` is empty, the builds in ``packages``: ``rpm -qa`` of a
    host, looked up in ``repositories``. ``may_upgrade`` are patterns of names that the ISO may bring a newer
    build of, where what it installs requires that.
    """

    id: str
    release: str
    repositories: tuple[str, ...]
    group: str = ""
    without: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    may_upgrade: tuple[str, ...] = ()
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedPackage:
    """An RPM named in packages.yaml. No version: the newest that the solver takes.

    ``repositories`` are the ids of the repositories that it may come from; ``stream`` is the module stream
    (``nginx:1.24``) that it is taken from, None for a package outside modules or of a default stream.
    """

    name: str
    repositories: tuple[str, ...]
    purpose: str
    version: str | None = None
    stream: str | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WantedPython:
    """A Python package that is vendored into the installer."""

    name: str
    version: str
    purpose: str
    artifact: PythonArtifact = PythonArtifact.WHEEL
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extra:
    """What a vendor adds: the product of one more inventory file."""

    name: str
    version: str
    purpose: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What may be locked at all: registries by host, licences by pattern, OpenPGP keys by fingerprint.

    Patterns are those of fnmatch. An empty ``keys`` allows every key that the profile pins; the others allow
    nothing when they are empty.
    """

    registries: tuple[str, ...] = ("*",)
    licences: tuple[str, ...] = ("*",)
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """All that people asked for, with the versions filled in."""

    versions: Mapping[str, str]
    images: tuple[WantedImage, ...]
    composed: tuple[ComposedImage, ...]
    manifests: tuple[WantedManifest, ...]
    baselines: tuple[Baseline, ...]
    packages: tuple[WantedPackage, ...]
    python: tuple[WantedPython, ...]
    extras: tuple[Extra, ...] = ()
    policy: Policy = Policy()

    def image(self, image_id: str) -> WantedImage:
        """Return the image of an id. Raises: KeyError."""
        for image in self.images:
            if image.id == image_id:
                return image
        raise KeyError(image_id)


# ---------------------------------------------------------------- profile


class MetadataTrust(enum.StrEnum):
    """How a repository's metadata is trusted: a signed repomd.xml, or the TLS connection alone."""

    SIGNED = "signed"
    TLS = "tls"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PinnedKey:
    """An OpenPGP key file and the fingerprint (40 upper-case hexadecimal digits) of its primary key."""

    file: Path
    fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """A yum repository of a profile; its mirrors are asked in turn. Each of ``base_urls`` ends in a slash.

    ``client_certificate`` is shown to servers that ask who we are; ``client_key`` is its private key, None where
    the certificate's file has it too.
    """

    id: str
    base_urls: tuple[str, ...]
    metadata: MetadataTrust
    keys: tuple[PinnedKey, ...]
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One place that has the images of a registry.

    ``url`` is ``scheme://host[:port]``; ``prefix`` is put before repository names, without slashes at its
    ends, and is empty in production.
    """

    url: str
    prefix: str = ""

    @property
    def is_plain_http(self) -> bool:
        """Say whether the endpoint has no TLS (a mirror on loopback)."""
        return self.url.startswith("http://")

    def repository(self, reference: Reference) -> str:
        """Return the name of the reference's repository at the endpoint."""
        return f"{self.prefix}/{reference.repository}" if self.prefix else reference.repository


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registry:
    """Where the images of an upstream registry come from; its mirrors are asked in turn."""

    host: str
    endpoints: tuple[Endpoint, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Where bytes come from. All paths are absolute.

    ``python_indexes`` are addresses of simple indexes; empty for those of the user's own pip configuration.
    ``signature_policy`` is a containers-policy.json(5) that images must satisfy, where a site has one.
    """

    name: str
    is_lab: bool
    file: Path
    lock_file: Path
    versions: Mapping[str, str]
    repositories: Mapping[str, Repository]
    registries: Mapping[str, Registry]
    manifests: Mapping[str, str]
    python_indexes: tuple[str, ...] = ()
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S
    signature_policy: Path | None = None

    @property
    def client_certificates(self) -> Mapping[str, tuple[Path, Path]]:
        """Return certificate and private key by the beginning of the addresses that they are for."""
        return {
            url: (repository.client_certificate, repository.client_key or repository.client_certificate)
            for repository in self.repositories.values()
            if repository.client_certificate is not None
            for url in repository.base_urls
        }

    def manifest_url(self, url: str) -> str:
        """Return where a manifest is fetched: the longest prefix that the profile rewrites, replaced."""
        prefixes = [prefix for prefix in self.manifests if url.startswith(prefix)]
        if not prefixes:
            return url
        prefix = max(prefixes, key=len)
        return self.manifests[prefix] + url[len(prefix) :]


# ---------------------------------------------------------------- lock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blob:
    """Content by digest and size."""

    digest: Digest
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A manifest or index by digest, size and media type."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedPackage:
    """One RPM. ``location`` is relative to the repository's base URL.

    ``required_by`` are names of locked packages, sorted; empty for a package that only the inventory wants.
    ``baselines`` are the ids of those that need this very build, sorted. ``licence`` is the RPM's own tag;
    ``stream`` the module stream that the build is of, if any.
    ``crosses`` are those of ``required_by`` that come from another repository, where this one comes from no
    base repository: a dependency that the inventory allowed by naming the package.
    """

    name: str
    epoch: int
    version: str
    release: str
    arch: str
    repository: str
    location: str
    size_bytes: int
    digest: Digest
    requested: bool
    required_by: tuple[str, ...]
    baselines: tuple[str, ...] = ()
    licence: str = ""
    crosses: tuple[str, ...] = ()
    stream: str = ""

    @property
    def nevra(self) -> str:
        """Return ``name-[epoch:]version-release.arch``; the epoch only when it is not 0."""
        epoch = f"{self.epoch}:" if self.epoch else ""
        return f"{self.name}-{epoch}{self.version}-{self.release}.{self.arch}"

    @property
    def file_name(self) -> str:
        """Return the name of the file on the ISO: always ``name-version-release.arch.rpm``."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedImage:
    """One image: what its tag named when it was locked.

    ``child`` is the linux/amd64 manifest when ``digest`` names an index, else None; ``config`` and ``layers``
    (base first) are the ones of the platform manifest. ``size_bytes`` is the size of the manifest or index.
    """

    id: str
    reference: Reference
    digest: Digest
    media_type: str
    size_bytes: int
    child: Descriptor | None
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def top(self) -> Descriptor:
        """Return the descriptor of what the tag names."""
        return Descriptor(digest=self.digest, size_bytes=self.size_bytes, media_type=self.media_type)

    @property
    def platform(self) -> Descriptor:
        """Return the descriptor of the linux/amd64 manifest: the child, or the manifest itself."""
        return self.child or self.top


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedComposed:
    """An image to be made: ``packages`` are names of locked packages, with what they require, sorted."""

    id: str
    reference: Reference
    base: str
    packages: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedManifest:
    """One upstream YAML file."""

    id: str
    url: str
    path: str
    digest: Digest
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedPython:
    """One file of a Python release: a pure wheel, or an sdist of which only ``*.py`` files are vendored."""

    name: str
    version: str
    file: str
    digest: Digest
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedKey:
    """A key that a repository's RPMs are signed with, pinned by its fingerprint.

    Its file, by digest, is the one that it was locked with; a build takes the one that the profile has by then.
    """

    repository: str
    fingerprint: str
    digest: Digest
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedBaseline:
    """A baseline that packages were solved against; ``package_count`` of them were taken as installed.

    ``digest`` names their builds: a baseline that upstream changed shows in a diff of locks. ``group`` is
    empty where the baseline is a list of packages. ``provides`` is what locked packages require and only the
    baseline gives, sorted: with it a build can prove, without the repositories, that nothing is missing.
    ``notes`` say where the host is not what was asked for, for those who review a lock.
    """

    id: str
    release: str
    repositories: tuple[str, ...]
    group: str
    package_count: int
    digest: Digest
    provides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockedExtra:
    """A vendor's product that is in the bundle too."""

    name: str
    version: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lock:
    """Everything that goes into a bundle, by digest. Sequences are sorted by their id or name.

    ``inventory_digest`` names the intent that was locked, so that a lock older than its inventory is noticed;
    ``packages_digest`` that part of it that decides on packages (None in a lock that an older Caisson wrote).
    """

    profile_name: str
    is_lab: bool
    inventory_digest: Digest
    source_date_epoch: int
    versions: Mapping[str, str]
    baselines: tuple[LockedBaseline, ...]
    packages: tuple[LockedPackage, ...]
    images: tuple[LockedImage, ...]
    composed: tuple[LockedComposed, ...]
    manifests: tuple[LockedManifest, ...]
    python: tuple[LockedPython, ...]
    keys: tuple[LockedKey, ...]
    extras: tuple[LockedExtra, ...] = ()
    packages_digest: Digest | None = None
    format: int = LOCK_FORMAT

    def image(self, image_id: str) -> LockedImage:
        """Return the image of an id. Raises: KeyError."""
        for image in self.images:
            if image.id == image_id:
                return image
        raise KeyError(image_id)

    def package(self, name: str) -> LockedPackage:
        """Return the package of a name; the newest where baselines need several builds. Raises: KeyError."""
        builds = [package for package in self.packages if package.name == name]
        if not builds:
            raise KeyError(name)
        return max(builds, key=lambda build: evr_key(build.epoch, build.version, build.release))

    def blobs(self) -> Iterator[Blob]:
        """Yield every object that the store must hold, each digest once, in the order of the lock."""
        seen: set[Digest] = set()
        for blob in self._all_blobs():
            if blob.digest not in seen:
                seen.add(blob.digest)
                yield blob

    def _all_blobs(self) -> Iterator[Blob]:
        items: tuple[LockedKey | LockedManifest | LockedPackage | LockedPython, ...]
        items = (*self.keys, *self.manifests, *self.packages, *self.python)
        for item in items:
            yield Blob(digest=item.digest, size_bytes=item.size_bytes)
        for image in self.images:
            yield Blob(digest=image.digest, size_bytes=image.size_bytes)
            if image.child is not None:
                yield Blob(digest=image.child.digest, size_bytes=image.child.size_bytes)
            yield image.config
            yield from image.layers
