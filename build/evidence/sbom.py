# SPDX-License-Identifier: Apache-2.0
"""Write the bill of materials of the bundle, twice: as SPDX 2.3 and as CycloneDX 1.6, both in JSON.

    lock, tables of images and packages, RPM headers, Go programs inside -> iso:sbom -> sbom/caisson.spdx.json
                                                                                        sbom/caisson.cdx.json

Every identifier is made of what it names, the document's own of the lock's digest: no clock, no chance.
Source: SPDX 2.3, clauses 6 to 11; CycloneDX 1.6 JSON; purl-spec, types golang, oci, pypi, rpm.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from build.base import ui
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.bundle import oci, rpmrepo
from build.bundle.product import Product, manifest_path
from build.evidence.binaries import SCAN_FORMAT, Scan, Scanner, merge_layers
from build.evidence.gobuildinfo import GoBinary, GoModule
from build.inventory.licences import spdx_expression
from build.inventory.model import Blob, Digest, LockedPackage, Reference
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store

SBOM_FORMAT = 1
SPDX_PATH, CYCLONEDX_PATH = "sbom/caisson.spdx.json", "sbom/caisson.cdx.json"
_LICENCE_LABEL = "org.opencontainers.image.licenses"
_NAMESPACE = "https://caisson.internal/sbom"
_NONE = "NOASSERTION"
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
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{_NAMESPACE}/{self.lock_digest}")

    @property
    def date(self) -> str:
        """Return the date in ISO 8601."""
        return datetime.fromtimestamp(self.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def part_file(workspace: Workspace) -> Path:
    """Return the table of the documents."""
    return workspace.part_file("sbom")


def plan_sbom(product: Product, store: Store, workspace: Workspace) -> Step:
    """Plan both documents."""
    part, tree = part_file(workspace), workspace.tree_dir
    images = tuple(
        oci.part_file(workspace, image_id) for image_id in oci.ids_on_iso(product.lock, product.inventory)
    )
    return Step(
        name="sbom",
        doc="the bill of materials, as SPDX and CycloneDX",
        run=functools.partial(run_sbom, product, images, store, workspace),
        inputs=(*images, rpmrepo.part_file(workspace)),
        outputs=(tree / SPDX_PATH, tree / CYCLONEDX_PATH, part),
        config={
            "lock": str(product.lock_digest),
            "version": product.version,
            "formats": [SBOM_FORMAT, SCAN_FORMAT],
        },
    )


def run_sbom(product: Product, images: Sequence[Path], store: Store, workspace: Workspace) -> None:
    """Gather all components and write both documents and their table.

    Raises: MissingError when the store lacks a package; CommandError.
    """
    bill = gather(product, images, store, Scanner(store.root.parent))
    documents = {SPDX_PATH: render_spdx(bill), CYCLONEDX_PATH: render_cyclonedx(bill)}
    for path, document in documents.items():
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_atomically(workspace.tree_dir / path, text.encode())
    filelist.write_part(
        part_file(workspace),
        [
            filelist.describe_file(path, workspace.tree_dir / path, owners=("bill of materials",))
            for path in documents
        ],
        {"licences": dict(_licences(bill))},
    )


def _licences(bill: Bill) -> Iterator[tuple[str, str]]:
    """Yield the licence of each package by its name, of each image by its reference."""
    for item in bill.components:
        if item.kind == "package":
            yield item.name, item.licence
        elif item.kind == "image":
            yield f"{item.name}:{item.version}", item.licence


# ---------------------------------------------------------------- what there is


def gather(product: Product, images: Sequence[Path], store: Store, scanner: Scanner) -> Bill:
    """Return the bill of a bundle. Raises: MissingError; CommandError."""
    found = _Gathered(scanner)
    packages = [found.package(package, _package_file(package, store)) for package in product.lock.packages]
    composed = {
        str(image.reference): tuple(_package_key(product.lock.package(name)) for name in image.packages)
        for image in product.lock.composed
    }
    tops = [*packages, *(found.image(part, composed) for part in images)]
    for python in product.lock.python:
        name = re.sub(r"[-_.]+", "-", python.name).lower()
        tops.append(
            found.add(
                Component(
                    key=f"python-{name}-{python.version}", kind="python", name=python.name,
                    version=python.version, digest=python.digest, size_bytes=python.size_bytes,
                    purl=f"pkg:pypi/{name}@{python.version}",
                )
            )
        )  # fmt: skip
    tops += [
        found.add(
            Component(
                key=f"manifest-{manifest.id}", kind="manifest", name=manifest_path(manifest),
                digest=manifest.digest, size_bytes=manifest.size_bytes, url=manifest.url,
            )
        )
        for manifest in product.lock.manifests
    ]  # fmt: skip
    root = Component(
        key="caisson", kind="bundle", name=product.bundle_name.removesuffix(".iso"),
        version=product.version, licence="Apache-2.0", parts=tuple(sorted(tops)),
    )  # fmt: skip
    return Bill(
        components=(root, *(component for _, component in sorted(found.components.items()))),
        epoch=product.lock.source_date_epoch,
        lock_digest=product.lock_digest,
    )


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
        """Add an RPM and the programs in it."""
        import createrepo_c as cr  # noqa: PLC0415 - planning does without it

        header = cr.package_from_rpm(str(file))
        scan = self._scanner.package(file, package.digest)
        epoch = f"&epoch={package.epoch}" if package.epoch else ""
        key = _package_key(package)
        return self.add(
            Component(
                key=key,
                kind="package",
                name=package.name,
                version=f"{f'{package.epoch}:' if package.epoch else ''}{package.version}-{package.release}",
                purl=f"pkg:rpm/{quote(package.name, safe='')}@{quote(package.version, safe='.')}"
                f"-{quote(package.release, safe='.')}?arch={package.arch}{epoch}",
                digest=package.digest,
                size_bytes=package.size_bytes,
                licence=header.rpm_license or "",
                supplier=header.rpm_vendor or "",
                url=header.url or "",
                note=_note(package.repository, scan),
                parts=self._programs(key, scan.programs),
            )
        )

    def image(self, part: Path, composed: Mapping[str, tuple[str, ...]]) -> str:
        """Add an image, its layers, the packages that it is composed of, the programs in it."""
        facts = oci.read_image_facts(part)
        entries = {str(entry.digest): entry for entry in filelist.read_part(part)}
        manifest = _platform_manifest(entries, facts.digest)
        layers = [entries[layer["digest"]] for layer in manifest["layers"]]
        config: dict[str, Any] = json.loads(entries[manifest["config"]["digest"]].source.read_bytes())
        labels = {**(config.get("config", {}).get("Labels") or {}), **(manifest.get("annotations") or {})}
        with ThreadPoolExecutor(_WORKERS) as pool:
            scans = list(pool.map(lambda layer: self._scanner.layer(layer.source, layer.digest), layers))
        reference = Reference.parse(facts.reference)
        key = f"image-{facts.reference}"
        packages = composed.get(facts.reference, ())
        return self.add(
            Component(
                key=key,
                kind="image",
                name=facts.reference.rsplit(":", 1)[0],
                version=reference.tag,
                purl=_image_purl(reference, facts.digest),
                digest=Digest.parse(facts.digest),
                size_bytes=sum(entry.size_bytes for entry in entries.values()),
                licence=str(labels.get(_LICENCE_LABEL, "")),
                note="" if all(scan.is_readable for scan in scans) else "not every layer could be searched",
                parts=(
                    *(self._layer(layer, number) for number, layer in enumerate(layers, start=1)),
                    *packages,
                    *self._programs(key, merge_layers(scans)),
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

    def _programs(self, owner: str, programs: Mapping[str, GoBinary]) -> tuple[str, ...]:
        return tuple(self._program(owner, path, program) for path, program in sorted(programs.items()))

    def _program(self, owner: str, path: str, program: GoBinary) -> str:
        toolchain = GoModule(path="stdlib", version=program.go_version.split()[0].removeprefix("go"))
        own = (program.main,) if program.main else ()
        return self.add(
            Component(
                key=f"program-{owner}{path}",
                kind="program",
                name=path,
                version=program.main.version if program.main else "",
                note=f"Go program of package {program.package}, built with {program.go_version}",
                linked=tuple(
                    dict.fromkeys(self._module(module) for module in (toolchain, *own, *program.modules))
                ),
            )
        )

    def _module(self, module: GoModule) -> str:
        is_released = module.version and module.version != "(devel)"
        version = f"@{quote(module.version, safe='.-')}" if is_released else ""
        purl = f"pkg:golang/{quote(module.path, safe='/.-~')}{version}"
        return self.add(
            Component(
                key=f"go-{module.path}@{module.version}",
                kind="module",
                name=module.path,
                version=module.version,
                purl=purl,
                note=f"go.sum: {module.digest}" if module.digest else "",
            )
        )


def _note(repository: str, scan: Scan) -> str:
    return f"from repository {repository}" + (
        "" if scan.is_readable else "; its payload could not be searched"
    )


def _platform_manifest(entries: Mapping[str, Entry], digest: str) -> dict[str, Any]:
    """Return the one manifest with layers: that of a tag, or the child of its index that is present."""
    document: dict[str, Any] = json.loads(entries[digest].source.read_bytes())
    while "layers" not in document:
        child = next(child for child in document["manifests"] if child["digest"] in entries)
        document = json.loads(entries[child["digest"]].source.read_bytes())
    return document


def _image_purl(reference: Reference, digest: str) -> str:
    name = reference.repository.rsplit("/", 1)[-1].lower()
    where = quote(f"{reference.registry}/{reference.repository}", safe="/.-")
    return f"pkg:oci/{name}@{quote(digest, safe='')}?repository_url={where}&tag={quote(reference.tag, safe='.-')}"


# ---------------------------------------------------------------- SPDX

_PURPOSES = {
    "bundle": "INSTALL", "package": "INSTALL", "image": "CONTAINER", "layer": "ARCHIVE",
    "program": "APPLICATION", "module": "LIBRARY", "python": "LIBRARY", "manifest": "FILE",
}  # fmt: skip


def render_spdx(bill: Bill) -> dict[str, Any]:
    """Return the document in SPDX 2.3."""
    licences = _Licences()
    ids = {component.key: _spdx_id(component.key) for component in bill.components}
    packages = [_spdx_package(component, ids, licences) for component in bill.components]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.root.name,
        "documentNamespace": f"{_NAMESPACE}/{bill.root.name}-{bill.identity}",
        "creationInfo": {"created": bill.date, "creators": [f"Tool: caisson-{bill.root.version}"]},
        "packages": packages,
        "hasExtractedLicensingInfos": licences.extracted(),
        "relationships": list(_spdx_relationships(bill, ids)),
    }


def _spdx_id(key: str) -> str:
    """Return an SPDX identifier: letters, digits, dots and dashes; a digest keeps others apart.

    >>> _spdx_id("rpm-kubelet-1.36.4-1.x86_64"), _spdx_id("caisson")
    ('SPDXRef-rpm-kubelet-1.36.4-1.x86-64-cfd0f0b7', 'SPDXRef-caisson')
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", key)
    suffix = "" if plain == key else f"-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"SPDXRef-{plain}{suffix}"


class _Licences:
    """The licences that a document uses; what is no expression gets a name of its own, with its text."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def declared(self, text: str) -> str:
        """Return what SPDX says of a licence given as text."""
        if not text:
            return _NONE
        expression = spdx_expression(text)
        if expression is None:
            expression = f"LicenseRef-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            self._texts[expression] = text
        return expression

    def extracted(self) -> list[dict[str, str]]:
        """Return the named ones."""
        return [
            {
                "licenseId": name,
                "name": text,
                "extractedText": f"The package declares its licence with these words: {text}",
            }
            for name, text in sorted(self._texts.items())
        ]


def _spdx_package(component: Component, ids: Mapping[str, str], licences: _Licences) -> dict[str, Any]:
    package: dict[str, Any] = {
        "SPDXID": ids[component.key],
        "name": component.name,
        "downloadLocation": component.url if component.kind == "manifest" else _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": licences.declared(component.licence),
        "copyrightText": _NONE,
        "primaryPackagePurpose": _PURPOSES[component.kind],
    }
    if component.version:
        package["versionInfo"] = component.version
    if component.supplier:
        package["supplier"] = f"Organization: {component.supplier}"
    if component.url and component.kind != "manifest":
        package["homepage"] = component.url
    if component.digest is not None:
        package["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.digest.hex}]
    if component.purl:
        package["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": component.purl,
            }
        ]
    notes = [component.note, f"{component.size_bytes} bytes" if component.size_bytes else ""]
    if any(notes):
        package["comment"] = "; ".join(note for note in notes if note)
    return package


def _spdx_relationships(bill: Bill, ids: Mapping[str, str]) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", ids[bill.root.key])
    for component in bill.components:
        for kind, keys in (("CONTAINS", component.parts), ("STATIC_LINK", component.linked)):
            for key in keys:
                yield _related(ids[component.key], kind, ids[key])


def _related(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


# ---------------------------------------------------------------- CycloneDX

_TYPES = {
    "bundle": "application", "package": "library", "image": "container", "layer": "file",
    "program": "application", "module": "library", "python": "library", "manifest": "file",
}  # fmt: skip


def render_cyclonedx(bill: Bill) -> dict[str, Any]:
    """Return the document in CycloneDX 1.6."""
    root = bill.root
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{bill.identity}",
        "version": 1,
        "metadata": {
            "timestamp": bill.date,
            "tools": {"components": [{"type": "application", "name": "caisson", "version": root.version}]},
            "component": _cyclonedx_component(root),
        },
        "components": [_cyclonedx_component(component) for component in bill.components[1:]],
        "dependencies": [
            {"ref": component.key, "dependsOn": sorted({*component.parts, *component.linked})}
            for component in bill.components
            if component.parts or component.linked
        ],
    }


def _cyclonedx_component(component: Component) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": _TYPES[component.kind],
        "bom-ref": component.key,
        "name": component.name,
    }
    if component.version:
        found["version"] = component.version
    if component.purl:
        found["purl"] = component.purl
    if component.supplier:
        found["supplier"] = {"name": component.supplier}
    if component.digest is not None:
        found["hashes"] = [{"alg": "SHA-256", "content": component.digest.hex}]
    if component.licence:
        expression = spdx_expression(component.licence)
        found["licenses"] = (
            [{"expression": expression}] if expression else [{"license": {"name": component.licence}}]
        )
    if component.url:
        kind = "distribution" if component.kind == "manifest" else "website"
        found["externalReferences"] = [{"type": kind, "url": component.url}]
    if component.note:
        found["description"] = component.note
    properties = [{"name": "caisson:kind", "value": component.kind}]
    if component.size_bytes:
        properties.append({"name": "caisson:size_bytes", "value": str(component.size_bytes)})
    found["properties"] = properties
    return found
