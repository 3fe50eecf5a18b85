# SPDX-License-Identifier: Apache-2.0
"""Ask upstream once for everything that is wanted, and show what is there: a look before the first lock.

keys, repositories (each mirror), baselines, packages, images (each mirror), manifests, Python --> rows --> table

Nothing is solved and nothing is written but the caches that a lock has too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from build.base import ui
from build.base.document import shown_path
from build.base.errors import BuildError, joined
from build.inventory.model import (
    Baseline,
    Endpoint,
    Inventory,
    Profile,
    Repository,
    WantedImage,
    WantedManifest,
    WantedPackage,
    WantedPython,
)
from build.inventory.sources import Sources
from build.lock.faults import in_threads
from build.lock.images import ObjectCache, pin_image
from build.lock.packages import LockCache, baseline_group, make_universe, used_repositories
from build.lock.solver import Universe
from build.upstream.http import HttpClient
from build.upstream.openpgp import TrustedKeys, read_keys
from build.upstream.pythonfiles import lock_python
from build.upstream.registry import RegistryClient
from build.upstream.repodata import Metadata, MetadataCache

_NOT_ASKED = "not looked at: "
_NO_METADATA = f"{_NOT_ASKED}a repository of it cannot be read"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One thing: what it is, where it was asked for, what was found, and what is wrong with it if anything."""

    what: str
    where: str
    found: str = ""
    fault: BuildError | None = None

    @property
    def mark(self) -> str:
        """Return what the row begins with: the verdict."""
        if self.fault is not None:
            return "FAULT"
        return "-" if self.found.startswith(_NOT_ASKED) else "ok"


@dataclasses.dataclass(frozen=True)
class _Question:
    what: str
    where: str
    ask: Callable[[], str]

    def row(self) -> Row:
        try:
            return Row(what=self.what, where=self.where, found=self.ask())
        except BuildError as exc:
            return Row(what=self.what, where=self.where, fault=exc)


def run_survey(profile_file: Path, cache_dir: Path, *, sources: Sources | None = None) -> None:
    """Print one table of everything that is wanted.

    Raises: ProfileError, InventoryError; the faults of all rows as one error.
    """
    profile, inventory = (sources or Sources()).read(profile_file)
    rows = Survey(inventory, profile, LockCache.below(cache_dir)).rows()
    ui.note(render_table(rows))
    faults = [row.fault for row in rows if row.fault is not None]
    if faults:
        raise joined(faults, f"upstream {profile.name}")
    ui.note(f"upstream: all {len(rows)} things that are wanted are there")


class Survey:
    """The questions about one inventory, as a profile sees it."""

    def __init__(self, inventory: Inventory, profile: Profile, cache: LockCache) -> None:
        self._inventory = inventory
        self._profile = profile
        self._cache = cache
        self._http = HttpClient(
            connect_timeout_s=profile.connect_timeout_s, client_certificates=profile.client_certificates
        )
        self._metadata_cache = MetadataCache(cache.metadata_dir, self._http)
        self._trusted: dict[str, TrustedKeys] = {}
        self._metadata: dict[str, Metadata] = {}

    def rows(self) -> tuple[Row, ...]:
        """Ask everything; what does not need one another at once."""
        used = [self._profile.repositories[name] for name in sorted(used_repositories(self._inventory))]
        keys = _answered(self._key_questions(used))
        others = [*self._image_questions(), *self._manifest_questions(), *self._python_questions()]
        asked = _answered([*self._repository_questions(used), *others])
        mirrors = len(asked) - len(others)
        packages = [question.row() for question in self._package_questions()]
        return (*keys, *asked[:mirrors], *packages, *asked[mirrors:])

    def _key_questions(self, repositories: Iterable[Repository]) -> Iterator[_Question]:
        for repository in repositories:
            files = dict.fromkeys(shown_path(key.file) for key in repository.keys)
            yield _Question(
                f"keys of repository '{repository.id}'",
                ", ".join(files),
                functools.partial(self._keys, repository),
            )

    def _keys(self, repository: Repository) -> str:
        trusted = read_keys(repository)
        self._trusted[repository.id] = trusted
        return ", ".join(f"{key.fingerprint} (ends: {key.end_text})" for key in trusted.keys)

    def _repository_questions(self, repositories: Iterable[Repository]) -> Iterator[_Question]:
        grouped = {baseline.repositories[0] for baseline in self._inventory.baselines if baseline.group}
        for repository in repositories:
            for url in repository.base_urls:
                one = dataclasses.replace(repository, base_urls=(url,))
                ask = functools.partial(self._load, one, has_groups=one.id in grouped)
                yield _Question(f"repository '{repository.id}'", url, ask)

    def _load(self, repository: Repository, *, has_groups: bool) -> str:
        trusted = self._trusted.get(repository.id)
        if trusted is None:
            return f"{_NOT_ASKED}its keys cannot be read"
        metadata = self._metadata_cache.load(repository, trusted, has_groups=has_groups)
        whole = self._profile.repositories[repository.id]
        self._metadata.setdefault(repository.id, dataclasses.replace(metadata, repository=whole))
        kinds = ", ".join(sorted(metadata.files))
        return f"{metadata.files['primary'].algorithm}, {repository.metadata}: {kinds}"

    def _package_questions(self) -> Iterator[_Question]:
        """Yield what is asked of the metadata that could be read."""
        try:
            universe = make_universe(self._metadata, self._inventory, self._metadata_cache)
        except BuildError as exc:
            yield _Question("packages", ", ".join(self._metadata), functools.partial(_refuse, exc))
            return
        for baseline in self._inventory.baselines:
            where = ", ".join(baseline.repositories)
            yield _Question(f"baseline '{baseline.id}'", where, functools.partial(self._baseline, baseline))
        for package in self._inventory.packages:
            version = f" {package.version}" if package.version else ""
            where = ", ".join(package.repositories)
            ask = functools.partial(self._package, package, universe)
            yield _Question(f"package {package.name}{version}", where, ask)

    def _baseline(self, baseline: Baseline) -> str:
        if not self._metadata.keys() >= {*baseline.repositories}:
            return _NO_METADATA
        if not baseline.group:
            return f"{len(baseline.packages)} packages of a list"
        metadata = [self._metadata[name] for name in baseline.repositories]
        return (
            f"group '{baseline.group}': {len(baseline_group(baseline, metadata, self._metadata_cache))} names"
        )

    def _package(self, package: WantedPackage, universe: Universe) -> str:
        if not self._metadata.keys() >= {*package.repositories}:
            return _NO_METADATA
        for fault in universe.absent([package]):
            raise fault
        return universe.newest(package)

    def _image_questions(self) -> Iterator[_Question]:
        objects = ObjectCache(self._cache.objects_dir)
        clients: dict[tuple[str, Endpoint], RegistryClient] = {}
        for image in self._inventory.images:
            registry = self._profile.registries[image.reference.registry]
            for endpoint in registry.endpoints:
                one = dataclasses.replace(registry, endpoints=(endpoint,))
                client = clients.setdefault((registry.host, endpoint), RegistryClient(one, self._http))
                yield _Question(
                    f"image {image.reference}",
                    f"{endpoint.url}/{endpoint.repository(image.reference)}",
                    functools.partial(_image, image, client, objects),
                )

    def _manifest_questions(self) -> Iterator[_Question]:
        for manifest in self._inventory.manifests:
            url = self._profile.manifest_url(manifest.url)
            yield _Question(
                f"manifest '{manifest.id}'", url, functools.partial(self._manifest, manifest, url)
            )

    def _manifest(self, manifest: WantedManifest, url: str) -> str:
        file = self._metadata_cache.fetch_again(url, f"manifest '{manifest.id}'")
        return ui.bytes_text(file.stat().st_size)

    def _python_questions(self) -> Iterator[_Question]:
        for wanted in self._inventory.python:
            yield _Question(
                f"Python package {wanted.name} {wanted.version}",
                "the Python package index",
                functools.partial(self._python, wanted),
            )

    def _python(self, wanted: WantedPython) -> str:
        return lock_python(wanted, self._cache.python_dir, self._http, self._profile.python_indexes).file


def _refuse(fault: BuildError) -> str:
    raise fault


def _image(image: WantedImage, client: RegistryClient, objects: ObjectCache) -> str:
    return str(pin_image(image, client, objects).image.digest)


def _answered(questions: Iterable[_Question]) -> list[Row]:
    return in_threads(_Question.row, list(questions))


def render_table(rows: Sequence[Row]) -> str:
    """Render rows as a table for people: what, where, what was found or what is wrong.

    >>> bad = BuildError("upstream does not have image b:1")
    >>> print(render_table([Row(what="image a:1", where="r/a", found="sha256:0"), Row(what="b", where="r", fault=bad)]))
          what       where  found
    ok    image a:1  r/a    sha256:0
    FAULT b          r      upstream does not have image b:1
    """
    cells = [("", "what", "where", "found")]
    for row in rows:
        found = row.found if row.fault is None else "; ".join(fault.message for fault in row.fault.faults)
        cells.append((row.mark, row.what, row.where, found))
    widths = [max(len(line[column]) for line in cells) for column in (1, 2)]
    return "\n".join(
        f"{mark:5} {what:{widths[0]}}  {where:{widths[1]}}  {found}".rstrip()
        for mark, what, where, found in cells
    )
