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
import functools
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from build.base import ui
from build.base.errors import KeyFileError, LockError, NetworkError, ProfileError, StoreError
from build.base.space import require_space
from build.inventory.inventory import inventory_digest
from build.inventory.model import (
    Blob,
    Digest,
    Inventory,
    Lock,
    LockedImage,
    LockedKey,
    LockedPackage,
    LockedPython,
    Profile,
    Reference,
    Repository,
)
from build.inventory.sources import Sources
from build.lock.images import ObjectCache
from build.lock.keys import with_key_files
from build.lock.lockfile import read_lock
from build.store.objects import Partial, Store
from build.upstream.answers import shown_url
from build.upstream.http import HttpClient, first_mirror
from build.upstream.imagepolicy import ImagePolicy
from build.upstream.locations import file_url
from build.upstream.openpgp import TrustedKeys, read_keys
from build.upstream.pythonfiles import fetch_python
from build.upstream.registry import EndpointClient, RegistryClient
from build.upstream.route import has_route
from build.upstream.rpmheader import read_header
from build.upstream.session import NO_LOGIN, Login
from build.upstream.signedrpm import RpmKeyring, SignedTable, verify_header

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

    ``urls`` are the mirrors of packages and upstream YAML files, ``nevra`` is what a package must say it is,
    ``reference`` is for what images consist of.
    """

    kind: Kind
    what: str
    blob: Blob
    urls: tuple[str, ...] = ()
    reference: Reference | None = None
    repository: str = ""
    nevra: str = ""
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
                urls=(profile.manifest_url(manifest.url),),
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
        urls=tuple(
            file_url(base_url, package.location)
            for base_url in _repository(profile, package.repository).base_urls
        ),
        repository=package.repository,
        nevra=package.nevra,
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
    sources: Sources | None = None,
    objects_dir: Path | None = None,
    workers: int = DEFAULT_WORKERS,
) -> None:
    """Bring everything that the lock names into the store, verified.

    ``lock_file`` is the profile's own where it is None. ``objects_dir`` has manifests and configurations that
    the lock read: registries count how often they are asked. With all there already, nothing is written and
    the network is not touched.

    Raises: LockError, ProfileError, KeyFileError, NetworkError and its kinds, IntegrityError, SignatureError,
    StoreError, CommandError.
    """
    work = read_work(profile_file, lock_file, store_dir, sources or Sources())
    if work.plan.missing or work.plan.unchecked or work.unjudged:
        check_route(work)
        with work.store.exclusive():
            check_space(work)
            Fetcher(work, objects_dir).run(workers)


def check_space(work: Work) -> None:
    """Check before anything is fetched that all of it has room; what is there of it already counts.

    Raises: StoreError.
    """
    partial_dir = work.store.root / "partial"
    halves = [partial_dir / item.blob.digest.hex for item in work.plan.missing]
    there_bytes = sum(file.stat().st_size for file in halves if file.is_file())
    require_space(
        work.plan.size_bytes - there_bytes,
        work.store.root,
        f"what is to be fetched ({len(work.plan.missing)} objects)",
        kind=StoreError,
        resolution="free space there (see './doit.sh gc'), or set CAISSON_CACHE to a larger disk",
    )


def check_route(work: Work) -> None:
    """Check before anything is started that there is a way to what is missing: to one of its mirrors.

    Raises: NetworkError naming the first missing object and the hosts that have it.
    """
    for item in work.plan.missing:
        origins = _origins(item, work.profile)
        shown = " or ".join(shown_url(url) for url in origins)
        if origins and not any(has_route(url) for url in origins):
            raise NetworkError(
                f"{item.what} is missing, and there is no network to fetch it",
                details=f"{item.blob.digest}, {item.blob.size_bytes} bytes, from {shown}\n"
                f"{len(work.plan.missing)} objects are missing, {ui.bytes_text(work.plan.size_bytes)}; "
                f"store {work.store.root}",
                resolution="run './doit.sh fetch' where the upstream can be reached, and take the store along",
            )


def _origins(item: Item, profile: Profile) -> tuple[str, ...]:
    if item.reference is not None:
        return tuple(endpoint.url for endpoint in profile.registries[item.reference.registry].endpoints)
    return item.urls


def run_route_check(profile_file: Path, lock_file: Path, store_dir: Path, sources: Sources) -> None:
    """Check that a fetch could be begun; quick when nothing is missing. Raises: see :func:`read_work`."""
    check_route(read_work(profile_file, lock_file, store_dir, sources))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a fetch starts from, and what it has to do."""

    profile: Profile
    lock: Lock
    store: Store
    signed: SignedTable
    trusted: Mapping[str, TrustedKeys]
    items: tuple[Item, ...]
    plan: FetchPlan
    policy: ImagePolicy | None = None
    judged: SignedTable

    @property
    def unjudged(self) -> tuple[LockedImage, ...]:
        """Return the images that the signature policy was not asked about; none without a policy."""
        policy = self.policy
        if policy is None:
            return ()
        return tuple(
            image for image in self.lock.images if not self.judged.has(image.platform.digest, policy)
        )


def read_work(profile_file: Path, lock_file: Path | None, store_dir: Path, sources: Sources) -> Work:
    """Read the lock and find out what of it the store lacks.

    Raises: LockError, ProfileError, InventoryError, KeyFileError, StoreError.
    """
    profile, inventory = sources.read(profile_file)
    lock = with_key_files(read_lock(lock_file or profile.lock_file), profile)
    check_fresh(lock, profile, inventory)
    store = Store(store_dir)
    signed = SignedTable(store_dir / "signed")
    used = sorted({package.repository for package in lock.packages})
    trusted = {name: read_keys(_repository(profile, name)) for name in used}
    items = plan_items(lock, profile)
    plan = plan_fetch(
        items,
        lambda blob: store.has(blob.digest, blob.size_bytes),
        lambda item: signed.has(item.blob.digest, trusted[item.repository]),
    )
    return Work(
        profile=profile,
        lock=lock,
        store=store,
        signed=signed,
        trusted=trusted,
        items=items,
        plan=plan,
        policy=ImagePolicy.read(profile.signature_policy) if profile.signature_policy else None,
        judged=SignedTable(store_dir / "judged"),
    )


def check_fresh(lock: Lock, profile: Profile, inventory: Inventory) -> None:
    """Check that a lock was made from the inventory as it is now.

    Raises: LockError.
    """
    if lock.profile_name != profile.name:
        raise LockError(
            f"the lock was made for upstream '{lock.profile_name}', not for '{profile.name}'",
            details=f"lock {profile.lock_file}",
            resolution=f"run './doit.sh lock upstream={profile.name}'; to fetch what is in the lock of another "
            "profile, give this one its name",
        )
    if lock.inventory_digest != inventory_digest(inventory, profile):
        raise LockError(
            "the lock is older than the inventory",
            details=f"images.yaml, packages.yaml, versions.yaml or the profile '{profile.name}' changed",
            resolution="run './doit.sh lock' and look at the difference before you commit it",
        )


class Fetcher:
    """Fetches a plan in a bounded number of threads; the first error stops all, and partial files stay."""

    def __init__(self, work: Work, objects_dir: Path | None = None) -> None:
        self._work = work
        self._plan = work.plan
        self._profile = profile = work.profile
        self._store = work.store
        self._signed = work.signed
        self._trusted = work.trusted
        self._read = ObjectCache(objects_dir) if objects_dir else None
        self._stop = threading.Event()
        self._http = HttpClient(
            pause=self._pause,
            connect_timeout_s=profile.connect_timeout_s,
            client_certificates=profile.client_certificates,
        )
        self._clients = {
            host: RegistryClient(registry, self._http) for host, registry in profile.registries.items()
        }
        self._keyrings: dict[str, RpmKeyring] = {}
        self._progress = ui.Progress("fetch", 0, 0)

    def run(self, workers: int = DEFAULT_WORKERS) -> None:
        """Fetch what is missing, check what is unchecked. Raises: the first error."""
        plan = self._plan
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
        self._judge_images()

    def _judge_images(self) -> None:
        """Have every image judged by the signature policy, if there is one. Raises: SignatureError."""
        policy = self._work.policy
        if policy is None:
            return
        for image in self._work.unjudged:
            endpoints = self._profile.registries[image.reference.registry].endpoints
            first_mirror(endpoints, functools.partial(policy.check, image, self._store))
            self._work.judged.add(image.platform.digest, policy)

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
            case Kind.MANIFEST | Kind.BLOB if self._take_read(item):
                pass
            case Kind.MANIFEST:
                self._fetch_manifest(item)
            case Kind.PYTHON:
                self._fetch_python(item)
            case Kind.BLOB:
                self._fetch_blob(item)
            case Kind.YAML | Kind.PACKAGE:
                first_mirror(item.urls, lambda url: self._download(item, url))
        self._progress.finish_item()

    def _fetch_key(self, item: Item) -> None:
        """Take the key file of the profile; it must still be the one that the plan was made with."""
        for pinned in self._profile.repositories[item.repository].keys:
            data = pinned.file.read_bytes()
            if Digest.of_bytes(data) == item.blob.digest:
                self._store.add_bytes(data, item.blob.digest)
                self._progress.add(len(data))
                return
        raise KeyFileError(
            f"the file of the {item.what} changed while things were fetched",
            details=f"it was: {item.blob.digest}",
            resolution="run the same command again",
        )

    def _take_read(self, item: Item) -> bool:
        """Take into the store what the lock read already; say whether it was there."""
        data = self._read.kept(item.blob.digest) if self._read else None
        if data is None or len(data) != item.blob.size_bytes:
            return False
        self._store.add_bytes(data, item.blob.digest)
        self._progress.skip(len(data))
        return True

    def _fetch_manifest(self, item: Item) -> None:
        reference = _reference(item)
        data = self._clients[reference.registry].manifest(reference, item.blob.digest)
        self._store.add_bytes(data, item.blob.digest)
        self._progress.add(len(data))

    def _fetch_python(self, item: Item) -> None:
        if item.python is None:
            raise TypeError(item)
        fetch_python(
            item.python,
            self._http,
            self._store,
            self._profile.python_indexes,
            on_bytes=self._count,
            on_present=self._progress.skip,
        )

    def _fetch_blob(self, item: Item) -> None:
        reference = _reference(item)

        def download(mirror: EndpointClient) -> None:
            repository = mirror.endpoint.repository(reference)
            self._download(item, mirror.blob_url(repository, item.blob.digest), mirror.login(repository))

        first_mirror(self._clients[reference.registry].mirrors, download)

    def _download(self, item: Item, url: str, login: Login = NO_LOGIN) -> None:
        self._http.download(
            url,
            digest=item.blob.digest,
            size_bytes=item.blob.size_bytes,
            store=self._store,
            what=item.what,
            login=login,
            on_bytes=self._count,
            on_present=self._progress.skip,
            check=lambda partial: self._check_partial(item, partial),
        )
        if item.kind is Kind.PACKAGE:
            self._signed.add(item.blob.digest, self._trusted[item.repository])

    def _check_partial(self, item: Item, partial: Partial) -> None:
        if item.kind is Kind.PACKAGE:
            self._check_package(item, partial.path)

    def _check_present(self, item: Item) -> None:
        """Check the signature of a package that the store has already."""
        self._raise_if_stopped()
        self._check_package(item, self._store.path(item.blob.digest))
        self._signed.add(item.blob.digest, self._trusted[item.repository])

    def _check_package(self, item: Item, file: Path) -> None:
        self._keyrings[item.repository].verify(file, item.what)
        header = read_header(file, item.what)
        verify_header(self._trusted[item.repository], header, item.nevra, item.what)

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
