# SPDX-License-Identifier: Apache-2.0
"""Make an image of a base image and the payload of locked RPMs; no container tool, no root, no scriptlet.

    base image (store) --scan--> links, users, groups
    locked RPMs (store) --rpm2archive--> one sorted-by-package tar, owners by name -> gzip layer
    base configuration + entrypoint, diff_id -> configuration -> manifest -> work/composed/ID/

The base's layers stay as they are. The new layer depends on the packages, the inventory and the lock's date
alone. No %pre runs: users are those of the base and of the inventory, and any other owner is an error.
Source: OCI image-spec 1.1, layer.md and config.md; rpm2archive(8), 4.16 and later.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from pathlib import Path

from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.bundle import oci
from build.bundle.basesystem import scan_base
from build.bundle.composedconfig import render_config, render_manifest
from build.bundle.composedlayer import Recipe, write_layer
from build.bundle.nginxmaps import ManifestType
from build.inventory.model import (
    Descriptor,
    Digest,
    Inventory,
    Lock,
)
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store


def plan_composed(lock: Lock, inventory: Inventory, store: Store, workspace: Workspace) -> tuple[Step, ...]:
    """Plan every composed image of the lock."""
    wanted = {image.id: image for image in inventory.composed}
    return tuple(
        _plan(
            Recipe(
                image=wanted[locked.id],
                base=lock.image(locked.base),
                packages=tuple(lock.package(name) for name in sorted(locked.packages)),
                source_date_epoch=lock.source_date_epoch,
            ),
            store,
            workspace,
        )
        for locked in lock.composed
    )


def _plan(recipe: Recipe, store: Store, workspace: Workspace) -> Step:
    image, base = recipe.image, recipe.base
    part = oci.part_file(workspace, image.id)
    directory = workspace.work_dir / "composed" / image.id
    digests = (base.platform.digest, base.config.digest, *(layer.digest for layer in base.layers))
    return Step(
        name=image.id,
        doc=f"{image.reference} ({base.reference} and {len(recipe.packages)} packages)",
        run=functools.partial(run_compose, recipe, store, directory, part),
        inputs=tuple(store.path(digest) for digest in (*digests, *(p.digest for p in recipe.packages))),
        outputs=(directory, part),
        config={
            "image": {**dataclasses.asdict(image), "source": ""},
            "base": str(base.platform.digest),
            "packages": [str(package.digest) for package in recipe.packages],
            "source_date_epoch": recipe.source_date_epoch,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
        },
    )


def run_compose(recipe: Recipe, store: Store, directory: Path, part: Path) -> None:
    """Make the image's three files in ``directory`` and write its table.

    Raises: MissingError; IntegrityError; CommandError; BuildError when two packages disagree about a file or
    a file's owner is unknown.
    """
    base_manifest = oci.read_manifest(store, recipe.base.platform, f"image {recipe.base.reference}")
    base_config = json.loads(store.read(recipe.base.config, f"image {recipe.base.reference}"))
    layers = [store.checked(blob, f"image {recipe.base.reference}: layer") for blob in recipe.base.layers]
    system = scan_base(layers)
    directory.mkdir(parents=True, exist_ok=True)
    layer_file = directory / "layer.tar.gz"
    layer = write_layer(recipe, store, system, layer_file)
    config = render_config(recipe, base_config, layer.diff_id)
    manifest = render_manifest(recipe, base_manifest, config, layer)
    files = {"config.json": config, "manifest.json": manifest}
    for name, data in files.items():
        write_atomically(directory / name, data)
    top = Descriptor(
        digest=Digest.of_bytes(manifest), size_bytes=len(manifest), media_type=ManifestType.OCI_MANIFEST.value
    )
    entries = [
        Entry(
            path=oci.blob_path(Digest.of_bytes(data)),
            source=directory / name,
            size_bytes=len(data),
            digest=Digest.of_bytes(data),
            owners=(recipe.label,),
        )
        for name, data in files.items()
    ]
    entries += [
        Entry(
            path=oci.blob_path(blob.digest),
            source=source,
            size_bytes=blob.size_bytes,
            digest=blob.digest,
            owners=(recipe.label,),
        )
        for blob, source in (
            *zip(recipe.base.layers, layers, strict=True),
            (layer.blob, layer_file),
        )
    ]
    unique = {entry.path: entry for entry in entries}
    kinds = [(top.digest, ManifestType.OCI_MANIFEST)]
    facts = oci.image_facts(recipe.image.id, recipe.image.reference, top, kinds)
    filelist.write_part(part, unique.values(), facts)
