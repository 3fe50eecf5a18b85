# SPDX-License-Identifier: Apache-2.0
"""Write what the bundle says of itself: product.json for programs, index.html for people, SHA256SUMS.

    lock, inventory, tables of all parts -> iso:product -> product.json, index.html, SHA256SUMS, their table

All three depend on their inputs and on the tools named in product.json alone: no date but the lock's.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from build.base import ui
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.base.run import run
from build.bundle import oci, page, rpmrepo
from build.inventory.model import Blob, Digest, Inventory, Lock, LockedManifest, LockedPackage
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store

PRODUCT_FILE, PAGE_FILE, SUMS_FILE = "product.json", "index.html", "SHA256SUMS"
PRODUCT_FORMAT = 1
MANIFESTS_DIR = "manifests"
_BUILD_DIGITS = 8
_VOLUME_ID_CHARACTERS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """The lock and the inventory, and the digest of the lock's file."""

    lock: Lock
    inventory: Inventory
    lock_digest: Digest

    @property
    def version(self) -> str:
        """Return the version of the bundle."""
        return self.lock.versions["caisson"]

    @property
    def build(self) -> str:
        """Return the build id, ``YYYYMMDD.DIGITS``: the lock's date and the first digits of its digest.

        It is the lock's alone: whoever builds from the same lock gets the same.
        """
        date = datetime.fromtimestamp(self.lock.source_date_epoch, UTC).strftime("%Y%m%d")
        return f"{date}.{self.lock_digest.hex[:_BUILD_DIGITS]}"

    @property
    def full_version(self) -> str:
        """Return version and build id, ``VERSION-BUILD``: what the media is called on a host."""
        return f"{self.version}-{self.build}"

    @property
    def bundle_name(self) -> str:
        """Return the name of the bundle's file; it names vendors' products, and every bundle of a lab says so."""
        extras = "".join(f"-{extra.name}-{extra.version}" for extra in self.lock.extras)
        return f"caisson-{self.full_version}{extras}{'-lab' if self.lock.is_lab else ''}.iso"

    @property
    def volume_id(self) -> str:
        """Return the volume's name; see :func:`volume_id`."""
        return volume_id(self.version, self.build)


def volume_id(version: str, build: str) -> str:
    """Return a volume's name: upper-case letters, digits and underscores, at most 32.

    The build id is whole, whatever the version: two bundles never have one name. Source: ECMA-119, 7.4.1, 8.4.7.

    >>> volume_id("0.1.0", "20261127.1a2b3c4d"), volume_id("1.2.0-rc.1", "20261127.1a2b3c4d")
    ('CAISSON_0_1_0_20261127_1A2B3C4D', 'CAISSON_1_2_0_20261127_1A2B3C4D')
    """
    name, suffix = (re.sub(r"[^A-Z0-9_]", "_", text.upper()) for text in (f"CAISSON_{version}", f"_{build}"))
    return name[: _VOLUME_ID_CHARACTERS - len(suffix)].rstrip("_") + suffix


def part_file(workspace: Workspace) -> Path:
    """Return the table of the product's own files (without SHA256SUMS, which lists them)."""
    return workspace.part_file("product")


def sums_file(workspace: Workspace) -> Path:
    """Return the file of all checksums."""
    return workspace.tree_dir / SUMS_FILE


def manifest_path(manifest: LockedManifest) -> str:
    """Return where a manifest lies on the ISO."""
    return f"{MANIFESTS_DIR}/{manifest.path}"


def plan_product(product: Product, parts: Sequence[Path], store: Store, workspace: Workspace) -> Step:
    """Plan the three files; ``parts`` are the tables of all other parts."""
    tree, part = workspace.tree_dir, part_file(workspace)
    manifests = tuple(store.path(manifest.digest) for manifest in product.lock.manifests)
    return Step(
        name="product",
        doc=f"{PRODUCT_FILE}, {PAGE_FILE} and {SUMS_FILE}",
        run=functools.partial(run_product, product, tuple(parts), store, workspace),
        inputs=(*parts, *manifests),
        outputs=(tree / PRODUCT_FILE, tree / PAGE_FILE, tree / SUMS_FILE, part),
        config={
            "lock": str(product.lock_digest),
            "images": _image_wishes(product.inventory),
            "packages": {package.name: package.purpose for package in product.inventory.packages},
            "tools": _library_versions(),
        },
    )


def run_product(product: Product, parts: Sequence[Path], store: Store, workspace: Workspace) -> None:
    """Write the files and their table.

    Raises: BuildError when two parts want one path; MissingError; CommandError when a tool is not installed.
    """
    tree = workspace.tree_dir
    others = (*filelist.merge_parts(parts), *_manifest_entries(product.lock, store))
    document = render_product(product, image_table(product, workspace), tool_versions())
    for text in changed_tools(tree / PRODUCT_FILE, document):
        ui.warn(text)
    filelist.write_json(tree / PRODUCT_FILE, document)
    own = [filelist.describe_file(PRODUCT_FILE, tree / PRODUCT_FILE, owners=("product",))]
    licences: dict[str, str] = {}
    for other in parts:
        licences.update(filelist.read_facts(other).get("licences", {}))
    text = page.render_page(
        product.lock, product.inventory, document, [*others, *own], licences, image=product.bundle_name
    )
    write_atomically(tree / PAGE_FILE, text.encode())
    own.append(filelist.describe_file(PAGE_FILE, tree / PAGE_FILE, owners=("product",)))
    part = part_file(workspace)
    filelist.write_part(part, [*_manifest_entries(product.lock, store), *own])
    everything = filelist.merge_parts([*parts, part])
    write_atomically(tree / SUMS_FILE, render_sums(everything).encode())


def changed_tools(file: Path, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what to tell about tools that changed since a bundle of the same lock was made, by its product.json.

    Nothing when none was made here. The same lock gives the same bytes with the same tools only.
    """
    try:
        before = json.loads(file.read_bytes())
        if before["lock_sha256"] != document["lock_sha256"]:
            return ()
        tools, now = before["tools"], document["tools"]
        changed = {name: tools.get(name, "none") for name in sorted(now) if tools.get(name) != now[name]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(
        f"{name} was {version} when this lock was built before, it is {now[name]} now: other bytes are possible"
        for name, version in changed.items()
    )


def render_sums(entries: Sequence[Entry]) -> str:
    """Render SHA256SUMS as sha256sum(1) reads it, sorted by path."""
    return "".join(
        f"{entry.digest.hex}  {entry.path}\n" for entry in sorted(entries, key=lambda entry: entry.path)
    )


def _manifest_entries(lock: Lock, store: Store) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            path=manifest_path(manifest),
            source=store.require(
                Blob(digest=manifest.digest, size_bytes=manifest.size_bytes), f"manifest {manifest.path}"
            ),
            size_bytes=manifest.size_bytes,
            digest=manifest.digest,
            owners=(f"manifest {manifest.id}",),
        )
        for manifest in lock.manifests
    )


def _image_wishes(inventory: Inventory) -> dict[str, dict[str, Any]]:
    """Return what people say of each image, by id."""
    plain = {image.id: {"purpose": image.purpose, "preload": image.preload} for image in inventory.images}
    composed = {
        image.id: {"purpose": image.purpose, "preload": image.preload} for image in inventory.composed
    }
    return plain | composed


def image_table(product: Product, workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return product.json's table of images, by id; ``size_bytes`` counts every blob of an image once."""
    wishes = _image_wishes(product.inventory)
    platform = {image.id: str(image.platform.digest) for image in product.lock.images}
    table: dict[str, dict[str, Any]] = {}
    for image_id in oci.ids_on_iso(product.lock, product.inventory):
        part = oci.part_file(workspace, image_id)
        facts = oci.read_image_facts(part)
        table[image_id] = {
            "reference": facts.reference,
            "digest": facts.digest,
            "platform_digest": platform.get(image_id, facts.digest),
            "size_bytes": sum(entry.size_bytes for entry in filelist.read_part(part)),
            "preload": wishes[image_id]["preload"],
        }
    return table


def render_product(
    product: Product, images: Mapping[str, Mapping[str, Any]], tools: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of product.json."""
    lock = product.lock
    return {
        "format": PRODUCT_FORMAT,
        "name": "caisson",
        "version": product.version,
        "build": product.build,
        "profile": {"name": lock.profile_name, "lab": lock.is_lab},
        "lock_sha256": product.lock_digest.hex,
        "source_date_epoch": lock.source_date_epoch,
        "versions": dict(lock.versions),
        "extras": {extra.name: extra.version for extra in lock.extras},
        "baselines": {
            baseline.id: {"release": baseline.release, "packages": baseline.package_count}
            for baseline in lock.baselines
        },
        "images": {image_id: dict(image) for image_id, image in images.items()},
        "packages": {
            name: _evr(lock.package(name)) for name in sorted({item.name for item in lock.packages})
        },
        "manifests": {
            manifest.id: {"path": manifest_path(manifest), "sha256": manifest.digest.hex}
            for manifest in lock.manifests
        },
        "rpm_keys": sorted(rpmrepo.key_paths(lock.keys).values()),
        "tools": dict(tools),
    }


def _evr(package: LockedPackage) -> str:
    epoch = f"{package.epoch}:" if package.epoch else ""
    return f"{epoch}{package.version}-{package.release}"


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that the bytes of a bundle depend on besides its lock.

    Raises: CommandError when xorriso or rpm is not installed.
    """
    xorriso = run(["xorriso", "-version"], timeout_s=20).stdout
    lines = (line.partition(":") for line in xorriso.splitlines())
    versions = [value.strip() for name, _, value in lines if name.startswith("xorriso version")]
    rpm = run(["rpm", "--version"], timeout_s=20).stdout.split()
    return {**_library_versions(), "rpm": rpm[-1] if rpm else "", "xorriso": versions[0] if versions else ""}


def _library_versions() -> dict[str, str]:
    return {"createrepo_c": importlib.metadata.version("createrepo_c"), "zlib": zlib.ZLIB_RUNTIME_VERSION}
