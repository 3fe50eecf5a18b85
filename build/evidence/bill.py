# SPDX-License-Identifier: Apache-2.0
"""Gather what a bundle consists of: the bill of materials, before it is written in any form.

    lock, tables of images and packages, RPM headers, what is inside of each (scan.py) -> Bill

Every key is made of what it names, the identity of the lock's digest: no clock, no chance.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from build.base import ui
from build.base.errors import IntegrityError
from build.bundle import oci
from build.bundle.product import Product, manifest_path
from build.evidence import purls
from build.evidence.gobuildinfo import GoBinary, GoModule
from build.evidence.inside.model import Package, Release
from build.evidence.scan import Scan, Scanner, merge_layers
from build.inventory.model import Blob, Digest, LockedManifest, LockedPackage, LockedPython, Reference
from build.store import filelist, ociindex
from build.store.filelist import Entry
from build.store.layers import printable
from build.store.objects import Store

NAMESPACE = "https://caisson.internal/sbom"
_LICENCE_LABEL = "org.opencontainers.image.licenses"
_PROGRESS_S = 2.0
_WORKERS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """One thing in the bundle. ``key`` is unique and lasting; ``parts`` are keys of what it consists of.

    ``linked`` are keys of modules that a program is built from. ``licence`` is the text that its maker gives.
    """

    key: str
    kind: str
    name: str
    version: str = ""
    purl: str = ""
    digest: Digest | None = None
    size_bytes: int = 0
    licence: str = ""
    supplier: str = ""
    url: str = ""
    note: str = ""
    parts: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
    """All components of a bundle, the bundle itself first; ``epoch`` is the date of the documents."""

    components: tuple[Component, ...]
    epoch: int
    lock_digest: Digest

    @property
    def root(self) -> Component:
        """Return the bundle itself."""
        return self.components[0]

    @property
    def identity(self) -> uuid.UUID:
        """Return the identity of the documents: one for each lock."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{self.lock_digest}")

    @property
    def date(self) -> str:
        """Return the date in ISO 8601."""
        return datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gather(product: Product, images: Sequence[Path], store: Store, scanner: Scanner) -> Bill:
    """Return the bill of a bundle. Raises: MissingError; CommandError."""
    found = _Gathered(scanner)
    packages = [found.package(package, _package_file(package, store)) for package in product.lock.packages]
    composed = {
        str(image.reference): tuple(_package_key(product.lock.package(name)) for name in image.packages)
        for image in product.lock.composed
    }
    tops = [
        *packages,
        *(found.image(part, composed) for part in images),
        *(found.add(_python(item)) for item in product.lock.python),
        *(found.add(_manifest(item)) for item in product.lock.manifests),
    ]
    root = Component(
        key="caisson", kind="bundle", name=product.bundle_name.removesuffix(".iso"),
        version=product.full_version, licence="Apache-2.0", parts=tuple(sorted(tops)),
    )  # fmt: skip
    return Bill(
        components=(root, *(component for _, component in sorted(found.components.items()))),
        epoch=product.lock.source_date_epoch,
        lock_digest=product.lock_digest,
    )


def _python(item: LockedPython) -> Component:
    return Component(
        key=f"python-{item.name}-{item.version}", kind="python", name=item.name, version=item.version,
        purl=purls.of_python(item.name, item.version), digest=item.digest, size_bytes=item.size_bytes,
    )  # fmt: skip


def _manifest(item: LockedManifest) -> Component:
    return Component(
        key=f"manifest-{item.id}", kind="manifest", name=manifest_path(item), digest=item.digest,
        size_bytes=item.size_bytes, url=item.url,
    )  # fmt: skip


def _package_file(package: LockedPackage, store: Store) -> Path:
    blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
    return store.require(blob, f"package {package.nevra}")


def _package_key(package: LockedPackage) -> str:
    return f"rpm-{package.nevra}"


class _Gathered:
    """The components found so far; each is added once, however many things it is part of."""

    def __init__(self, scanner: Scanner) -> None:
        self.components: dict[str, Component] = {}
        self._scanner = scanner
        self._said = time.monotonic()

    def add(self, component: Component) -> str:
        """Add a component and return its key."""
        self.components.setdefault(component.key, component)
        if time.monotonic() - self._said > _PROGRESS_S:
            self._said = time.monotonic()
            ui.note(f"bill of materials: {len(self.components)} components")
        return component.key

    def package(self, package: LockedPackage, file: Path) -> str:
        """Add an RPM and what is inside of it."""
        import createrepo_c as cr  # noqa: PLC0415 - planning does without it

        header = cr.package_from_rpm(str(file))
        scan = self._scanner.package(file, package.digest)
        key = _package_key(package)
        vendor = header.rpm_vendor or ""
        return self.add(
            Component(
                key=key,
                kind="package",
                name=package.name,
                version=f"{f'{package.epoch}:' if package.epoch else ''}{package.version}-{package.release}",
                purl=purls.of_locked(package, vendor, header.rpm_sourcerpm or ""),
                digest=package.digest,
                size_bytes=package.size_bytes,
                licence=header.rpm_license or "",
                supplier=vendor,
                url=header.url or "",
                note="; ".join([f"from repository {package.repository}", *_unsearched(scan, "its payload")]),
                parts=self._inside(key, scan),
            )
        )

    def image(self, part: Path, composed: Mapping[str, tuple[str, ...]]) -> str:
        """Add an image, its layers, the packages that it is composed of, and what is inside of it."""
        facts = oci.read_image_facts(part)
        entries = {str(entry.digest): entry for entry in filelist.read_part(part)}
        manifest = _platform_manifest(entries, facts.digest)
        layers = [entries[layer["digest"]] for layer in manifest["layers"]]
        config: dict[str, Any] = json.loads(entries[manifest["config"]["digest"]].source.read_bytes())
        labels = {**(config.get("config", {}).get("Labels") or {}), **(manifest.get("annotations") or {})}
        with ThreadPoolExecutor(_WORKERS) as pool:
            scans = list(pool.map(lambda layer: self._scanner.layer(layer.source, layer.digest), layers))
        scan = merge_layers(scans)
        reference = Reference.parse(facts.reference)
        key = f"image-{facts.reference}"
        return self.add(
            Component(
                key=key,
                kind="image",
                name=facts.reference.rsplit(":", 1)[0],
                version=reference.tag,
                purl=purls.of_image(reference, facts.digest),
                digest=Digest.parse(facts.digest),
                size_bytes=sum(entry.size_bytes for entry in entries.values()),
                licence=str(labels.get(_LICENCE_LABEL, "")),
                note="; ".join(_unsearched(scan, "not every layer")),
                parts=(
                    *(self._layer(layer, number) for number, layer in enumerate(layers, start=1)),
                    *composed.get(facts.reference, ()),
                    *self._inside(key, scan),
                ),
            )
        )

    def _layer(self, layer: Entry, number: int) -> str:
        return self.add(
            Component(
                key=f"layer-{layer.digest.hex}",
                kind="layer",
                name=str(layer.digest),
                digest=layer.digest,
                size_bytes=layer.size_bytes,
                note=f"layer {number}, the base being 1, of the images that consist of it",
            )
        )

    def _inside(self, owner: str, scan: Scan) -> tuple[str, ...]:
        """Add what is inside of an image or a package; return the keys, each once."""
        release = scan.release
        named = [package for _, packages in sorted(scan.packages.items()) for package in packages]
        keys = [self._system(release)] if release.id else []
        keys += [self._installed(package, release) for package in named]
        keys += [self._program(owner, path, program) for path, program in sorted(scan.programs.items())]
        return tuple(dict.fromkeys(keys))

    def _system(self, release: Release) -> str:
        return self.add(
            Component(
                key=f"os-{release.id}-{release.version}",
                kind="system",
                name=release.id,
                version=release.version,
            )
        )

    def _installed(self, package: Package, release: Release) -> str:
        """Add a package of a database; the same one may be in many images."""
        purl = purls.of_package(package, release)
        return self.add(
            Component(
                key=purl,
                kind=package.kind,
                name=printable(package.name),
                version=printable(package.version),
                purl=purl,
                licence=printable(package.licence),
            )
        )

    def _program(self, owner: str, path: str, program: GoBinary) -> str:
        toolchain = GoModule(path="stdlib", version=program.go_version.split()[0].removeprefix("go"))
        own = (program.main,) if program.main else ()
        return self.add(
            Component(
                key=f"program-{owner}/{printable(path)}",
                kind="program",
                name=f"/{printable(path)}",
                version=program.main.version if program.main else "",
                note=f"Go program of package {program.package}, built with {program.go_version}",
                linked=tuple(
                    dict.fromkeys(self._module(module) for module in (toolchain, *own, *program.modules))
                ),
            )
        )

    def _module(self, module: GoModule) -> str:
        return self.add(
            Component(
                key=f"go-{module.path}@{module.version}",
                kind="module",
                name=module.path,
                version=module.version,
                purl=purls.of_module(module),
                note=f"go.sum: {module.digest}" if module.digest else "",
            )
        )


def _unsearched(scan: Scan, what: str) -> Iterator[str]:
    """Yield what of an image or a package could not be looked at."""
    if not scan.is_readable:
        yield f"{what} could be searched" if what.startswith("not") else f"{what} could not be searched"
    for path, reason in sorted(scan.unread.items()):
        yield f"/{printable(path)} could not be read: {reason}"


def _platform_manifest(entries: Mapping[str, Entry], digest: str) -> Mapping[str, Any]:
    """Return the one manifest with layers: that of a tag, or the child of its index that is present.

    Raises: IntegrityError when there is none.
    """

    def read(wanted: str) -> bytes | None:
        return entries[wanted].source.read_bytes() if wanted in entries else None

    for node in ociindex.walk(digest, read, takes=lambda entry: entry["digest"] in entries):
        if node.document and "layers" in node.document:
            return node.document
    raise IntegrityError(
        "an image of the layout has no manifest with layers",
        details=f"looked for below {digest}",
        resolution="run './doit.sh lock'",
    )
