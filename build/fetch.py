# SPDX-License-Identifier: Apache-2.0
"""Fetch what the lock names, and nothing else, into the store.

    lock - store = plan --threads--> partial files --size, sha256, RPM signature--> store

Each object goes on where an earlier run stopped. An RPM enters the store only when it is signed by a key of
its repository; which signatures were checked is kept in ``ROOT/signed``, so that an object that is in the
store already is checked again when another key, or another repository, vouches for it.
"""

from __future__ import annotations

import dataclasses
import enum
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from build import ui
from build.errors import KeyFileError, LockError, ProfileError
from build.http import HttpClient
from build.inventory import inventory_digest, read_inventory
from build.lockfile import read_lock
from build.model import (
    Blob,
    Digest,
    Lock,
    LockedImage,
    LockedKey,
    LockedPackage,
    LockedPython,
    Profile,
    Reference,
    Repository,
)
from build.openpgp import RpmKeyring, TrustedKeys, read_keys
from build.profile import read_profile
from build.pythonfiles import download_python
from build.registry import RegistryClient
from build.store import Partial, Store

DEFAULT_WORKERS = 6


class Kind(enum.StrEnum):
    """How an object is fetched; in the order in which kinds are started."""

    KEY = "key"
    YAML = "manifest"
    MANIFEST = "image manifest"
    PYTHON = "Python package"
    BLOB = "image blob"
    PACKAGE = "package"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One object that is to be in the store.

    ``url`` is for packages and upstream YAML files, ``reference`` for what images consist of.
    """

    kind: Kind
    what: str
    blob: Blob
    url: str = ""
    reference: Reference | None = None
    repository: str = ""
    key: LockedKey | None = None
    python: LockedPython | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchPlan:
    """What must be fetched, in the order in which it is started: small things first, for early errors.

    ``unchecked`` are packages that are there, but whose signature was not checked with the profile's keys.
    """

    missing: tuple[Item, ...]
    unchecked: tuple[Item, ...]

    @property
    def size_bytes(self) -> int:
        """Return how much is missing."""
        return sum(item.blob.size_bytes for item in self.missing)


class _StoppedError(Exception):
    """Another object failed; this one stops and keeps what it has."""


def plan_items(lock: Lock, profile: Profile) -> tuple[Item, ...]:
    """List every object of a lock with where it comes from; each digest once.

    Raises: ProfileError when the lock names a repository or registry that the profile does not have.
    """
    items = [
        *(_key_item(key) for key in lock.keys),
        *(_package_item(package, profile) for package in lock.packages),
        *(
            Item(
                kind=Kind.YAML,
                what=f"manifest '{manifest.id}'",
                blob=Blob(digest=manifest.digest, size_bytes=manifest.size_bytes),
                url=profile.manifest_url(manifest.url),
            )
            for manifest in lock.manifests
        ),
        *(
            Item(
                kind=Kind.PYTHON,
                what=f"Python package {package.name} {package.version}",
                blob=Blob(digest=package.digest, size_bytes=package.size_bytes),
                python=package,
            )
            for package in lock.python
        ),
    ]
    for image in lock.images:
        items += _image_items(image, profile)
    unique = {item.blob.digest: item for item in reversed(items)}
    order = {kind: number for number, kind in enumerate(Kind)}
    return tuple(
        sorted(unique.values(), key=lambda item: (order[item.kind], item.blob.size_bytes, item.what))
    )


def _key_item(key: LockedKey) -> Item:
    return Item(
        kind=Kind.KEY,
        what=f"key of repository '{key.repository}'",
        blob=Blob(digest=key.digest, size_bytes=key.size_bytes),
        repository=key.repository,
        key=key,
    )


def _package_item(package: LockedPackage, profile: Profile) -> Item:
    return Item(
        kind=Kind.PACKAGE,
        what=f"package {package.nevra}",
        blob=Blob(digest=package.digest, size_bytes=package.size_bytes),
        url=_repository(profile, package.repository).base_url + package.location,
        repository=package.repository,
    )


def _image_items(image: LockedImage, profile: Profile) -> list[Item]:
    if image.reference.registry not in profile.registries:
        raise ProfileError(
            f"the lock names registry '{image.reference.registry}', profile '{profile.name}' does not",
            details=f"image {image.reference}",
            resolution="add the registry to the profile",
        )
    what = f"image {image.reference}"
    top = Blob(digest=image.digest, size_bytes=image.size_bytes)
    manifests = [top]
    if image.child is not None:
        manifests.append(Blob(digest=image.child.digest, size_bytes=image.child.size_bytes))
    return [
        *(Item(kind=Kind.MANIFEST, what=what, blob=blob, reference=image.reference) for blob in manifests),
        *(
            Item(kind=Kind.BLOB, what=what, blob=blob, reference=image.reference)
            for blob in (image.config, *image.layers)
        ),
    ]


def _repository(profile: Profile, name: str) -> Repository:
    if name not in profile.repositories:
        raise ProfileError(
            f"the lock names repository '{name}', profile '{profile.name}' does not",
            details=f"profile {profile.file}",
            resolution="add the repository to the profile, or make the lock anew with this profile",
        )
    return profile.repositories[name]


def plan_fetch(
    items: Sequence[Item], has: Callable[[Blob], bool], is_checked: Callable[[Item], bool]
) -> FetchPlan:
    """Split the items: what is missing, and what is there without a checked signature."""
    missing = [item for item in items if not has(item.blob)]
    absent = {item.blob.digest for item in missing}
    unchecked = [
        item
        for item in items
        if item.kind is Kind.PACKAGE and item.blob.digest not in absent and not is_checked(item)
    ]
    return FetchPlan(missing=tuple(missing), unchecked=tuple(unchecked))


def run_fetch(
    profile_file: Path,
    lock_file: Path | None,
    store_dir: Path,
    *,
    root_dir: Path = Path(),
    workers: int = DEFAULT_WORKERS,
) -> None:
    """Bring everything that the lock names into the store, verified.

    ``lock_file`` is the profile's own where it is None. With all there already, nothing is written and the
    network is not touched.

    Raises: LockError, ProfileError, KeyFileError, NetworkError and its kinds, IntegrityError, SignatureError,
    StoreError, CommandError.
    """
    profile = read_profile(profile_file)
    lock = read_lock(lock_file or profile.lock_file)
    check_fresh(lock, profile, root_dir)
    store = Store(store_dir)
    signed = SignedTable(store_dir / "signed")
    used = sorted({package.repository for package in lock.packages})
    trusted = {name: read_keys(_repository(profile, name)) for name in used}
    plan = plan_fetch(
        plan_items(lock, profile),
        lambda blob: store.has(blob.digest, blob.size_bytes),
        lambda item: signed.has(item.blob.digest, trusted[item.repository]),
    )
    if plan.missing or plan.unchecked:
        with store.exclusive():
            Fetcher(profile, store, signed, trusted).run(plan, workers)


def check_fresh(lock: Lock, profile: Profile, root_dir: Path) -> None:
    """Check that a lock was made from the inventory as it is now.

    Raises: LockError, InventoryError.
    """
    if lock.profile_name != profile.name:
        raise LockError(
            f"the lock was made for upstream '{lock.profile_name}', not for '{profile.name}'",
            details=f"lock {profile.lock_file}",
            resolution=f"run 'doit lock upstream={profile.name}'",
        )
    if lock.inventory_digest != inventory_digest(read_inventory(root_dir, profile), profile):
        raise LockError(
            "the lock is older than the inventory",
            details=f"images.yaml, packages.yaml, versions.yaml or the profile '{profile.name}' changed",
            resolution="run 'doit lock' and look at the difference before you commit it",
        )


class SignedTable:
    """Which packages were found to be signed by which set of keys: a file of ``digest keys`` lines."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._lines = set(file.read_text(encoding="ascii").splitlines())
        except FileNotFoundError:
            self._lines = set()

    def has(self, digest: Digest, trusted: TrustedKeys) -> bool:
        """Say whether the package's signature was checked with these keys."""
        return f"{digest.hex} {trusted.digest.hex}" in self._lines

    def add(self, digest: Digest, trusted: TrustedKeys) -> None:
        """Note that it was checked."""
        line = f"{digest.hex} {trusted.digest.hex}"
        with self._lock:
            self._lines.add(line)
            with self._file.open("a", encoding="ascii") as stream:
                stream.write(line + "\n")


class Fetcher:
    """Fetches a plan in a bounded number of threads; the first error stops all, and partial files stay."""

    def __init__(
        self, profile: Profile, store: Store, signed: SignedTable, trusted: Mapping[str, TrustedKeys]
    ) -> None:
        self._profile = profile
        self._store = store
        self._signed = signed
        self._trusted = trusted
        self._stop = threading.Event()
        self._http = HttpClient(pause=self._pause)
        self._clients = {
            host: RegistryClient(registry, self._http) for host, registry in profile.registries.items()
        }
        self._keyrings: dict[str, RpmKeyring] = {}
        self._progress = ui.Progress("fetch", 0, 0)

    def run(self, plan: FetchPlan, workers: int) -> None:
        """Fetch what is missing, check what is unchecked. Raises: the first error."""
        total = len(plan.missing)
        self._progress = ui.Progress("fetch", plan.size_bytes, total)
        with tempfile.TemporaryDirectory(prefix="caisson-rpmkeys-") as directory:
            needed = {
                item.repository for item in (*plan.missing, *plan.unchecked) if item.kind is Kind.PACKAGE
            }
            self._keyrings = {
                name: RpmKeyring(Path(directory, name), self._trusted[name]) for name in sorted(needed)
            }
            with self._progress:
                self._run_all([*plan.missing, *plan.unchecked], set(plan.unchecked), workers)

    def _run_all(self, items: Iterable[Item], unchecked: set[Item], workers: int) -> None:
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fetch")
        try:
            futures: list[Future[None]] = [
                pool.submit(self._check_present if item in unchecked else self._fetch, item) for item in items
            ]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            errors = [error for future in done if (error := future.exception()) is not None]
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
        real = [error for error in errors if not isinstance(error, _StoppedError)]
        if real:
            raise real[0]

    def _fetch(self, item: Item) -> None:
        self._raise_if_stopped()
        match item.kind:
            case Kind.KEY:
                self._fetch_key(item)
            case Kind.MANIFEST:
                self._fetch_manifest(item)
            case Kind.PYTHON:
                self._fetch_python(item)
            case Kind.BLOB:
                self._fetch_blob(item)
            case Kind.YAML | Kind.PACKAGE:
                self._download(item, item.url, lambda: None)
        self._progress.finish_item()

    def _fetch_key(self, item: Item) -> None:
        """Take the key file of the profile; it must still be the one that was locked."""
        for pinned in self._profile.repositories[item.repository].keys:
            data = pinned.file.read_bytes()
            if Digest.of_bytes(data) == item.blob.digest:
                self._store.add_bytes(data, item.blob.digest)
                self._progress.add(len(data))
                return
        raise KeyFileError(
            f"the {item.what} is not the file that was locked",
            details=f"locked: {item.blob.digest}",
            resolution="restore the file, or run 'doit lock' if the new key is meant",
        )

    def _fetch_manifest(self, item: Item) -> None:
        reference = _reference(item)
        data = self._clients[reference.registry].manifest(reference, item.blob.digest)
        self._store.add_bytes(data, item.blob.digest)
        self._progress.add(len(data))

    def _fetch_python(self, item: Item) -> None:
        if item.python is None:
            raise TypeError(item)
        with tempfile.TemporaryDirectory(prefix="caisson-pip-") as directory:
            file = download_python(item.python, Path(directory), cancel=self._stop)
            self._store.add_bytes(file.read_bytes(), item.blob.digest)
        self._progress.add(item.blob.size_bytes)

    def _fetch_blob(self, item: Item) -> None:
        reference = _reference(item)
        client = self._clients[reference.registry]
        repository = client.registry.repository(reference)
        self._download(
            item, client.blob_url(repository, item.blob.digest), lambda: client.authorization(repository)
        )

    def _download(self, item: Item, url: str, authorize: Callable[[], str | None]) -> None:
        self._http.download(
            url,
            digest=item.blob.digest,
            size_bytes=item.blob.size_bytes,
            store=self._store,
            what=item.what,
            authorize=authorize,
            on_bytes=self._count,
            on_present=self._progress.skip,
            check=lambda partial: self._check_partial(item, partial),
        )
        if item.kind is Kind.PACKAGE:
            self._signed.add(item.blob.digest, self._trusted[item.repository])

    def _check_partial(self, item: Item, partial: Partial) -> None:
        if item.kind is Kind.PACKAGE:
            self._keyrings[item.repository].verify(partial.path, item.what)

    def _check_present(self, item: Item) -> None:
        """Check the signature of a package that the store has already."""
        self._raise_if_stopped()
        self._keyrings[item.repository].verify(self._store.path(item.blob.digest), item.what)
        self._signed.add(item.blob.digest, self._trusted[item.repository])

    def _count(self, size_bytes: int) -> None:
        self._raise_if_stopped()
        self._progress.add(size_bytes)

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


def _reference(item: Item) -> Reference:
    if item.reference is None:
        raise TypeError(item)
    return item.reference
