# SPDX-License-Identifier: Apache-2.0
"""Lay the locked images out as one canonical OCI layout, without copying a blob.

    each image of the lock  -> images:ID     checked against the store, its blobs listed
    each composed image     -> images:ID     made (see compose.py), its blobs listed
    all of them             -> images:layout oci/index.json, oci/oci-layout, nginx/oci-*.conf

Blobs stay what the registry sent, so digests stay upstream's; Docker manifests are content like any other. An
index keeps all its entries, and only its linux/amd64 child is present: the layout is sparse on purpose.
Source: OCI image-spec 1.1, image-layout.md ("the blobs directory MAY be missing referenced blobs").
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from build.base.errors import BuildError, IntegrityError, joined_faults
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.bundle.nginxmaps import ManifestType, Served, render_locations, render_maps
from build.inventory.model import Blob, Descriptor, Digest, ImageRole, Inventory, Lock, LockedImage, Reference
from build.store import filelist, ociindex
from build.store.filelist import Entry
from build.store.objects import Store

LAYOUT_STEP = "layout"
#: Both annotations carry the whole name: the first is the specification's, the second is containerd's.
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def blob_path(digest: Digest) -> str:
    """Return where a blob lies on the ISO."""
    return f"oci/blobs/sha256/{digest.hex}"


def part_file(workspace: Workspace, image_id: str) -> Path:
    """Return the table of one image."""
    return workspace.part_file(f"images.{image_id}")


def images_on_iso(lock: Lock, inventory: Inventory) -> tuple[LockedImage, ...]:
    """Return the locked images that are on the ISO: all but those that are only a base of composed ones."""
    bases = {image.id for image in inventory.images if image.role is ImageRole.BASE}
    return tuple(image for image in lock.images if image.id not in bases)


def ids_on_iso(lock: Lock, inventory: Inventory) -> tuple[str, ...]:
    """Return the ids of all images of the layout, the composed ones too, sorted."""
    locked = (image.id for image in images_on_iso(lock, inventory))
    return tuple(sorted((*locked, *(image.id for image in lock.composed))))


def plan_images(lock: Lock, inventory: Inventory, store: Store, workspace: Workspace) -> tuple[Step, ...]:
    """Plan one check an image. Composed images are planned in compose.py, the layout by plan_layout."""
    return tuple(_plan_image(image, store, workspace) for image in images_on_iso(lock, inventory))


def _plan_image(image: LockedImage, store: Store, workspace: Workspace) -> Step:
    part = part_file(workspace, image.id)
    blobs = (*_manifests(image), image.config, *image.layers)
    return Step(
        name=image.id,
        doc=f"{image.reference} ({sum(blob.size_bytes for blob in blobs) / 1e6:.1f} MB)",
        run=functools.partial(run_image, image, store, part),
        inputs=tuple(dict.fromkeys(store.path(blob.digest) for blob in blobs)),
        outputs=(part,),
        config={
            "reference": str(image.reference),
            "digest": str(image.digest),
            "child": image.child and str(image.child.digest),
        },
    )


def _manifests(image: LockedImage) -> tuple[Blob, ...]:
    found = [image.top] if image.child is None else [image.top, image.child]
    return tuple(Blob(digest=item.digest, size_bytes=item.size_bytes) for item in found)


def run_image(image: LockedImage, store: Store, part: Path) -> None:
    """Check that an image is whole in the store and says what the lock says; write its table.

    Raises: MissingError, IntegrityError; BuildError for a manifest of a kind that no runtime takes today.
    """
    label = f"image {image.reference}"
    kinds = [(image.digest, manifest_type(image.media_type, label))]
    document = read_manifest(store, image.top, label)
    if image.child is not None:
        _check_child(document, image.child, label)
        kinds.append((image.child.digest, manifest_type(image.child.media_type, label)))
        document = read_manifest(store, image.child, label)
    _check_content(document, image, label)
    entries = [
        Entry(
            path=blob_path(blob.digest),
            source=store.require(blob, f"{label}: {what}"),
            size_bytes=blob.size_bytes,
            digest=blob.digest,
            owners=(label,),
        )
        for what, blob in (
            *(("manifest", blob) for blob in _manifests(image)),
            ("configuration", image.config),
            *((f"layer {number}", layer) for number, layer in enumerate(image.layers, start=1)),
        )
    ]
    unique = {entry.path: entry for entry in entries}
    filelist.write_part(part, unique.values(), image_facts(image.id, image.reference, image.top, kinds))


def image_facts(
    image_id: str, reference: Reference, top: Descriptor, kinds: Sequence[tuple[Digest, ManifestType]]
) -> dict[str, Any]:
    """Return what the layout needs to know of an image; ``kinds`` are the manifests that are present."""
    return {
        "id": image_id,
        "reference": str(reference),
        "descriptor": {
            "mediaType": top.media_type,
            "digest": str(top.digest),
            "size": top.size_bytes,
        },
        "manifests": {str(digest): str(kind) for digest, kind in kinds},
    }


def manifest_type(media_type: str, label: str) -> ManifestType:
    """Parse the media type of a manifest.

    Raises: BuildError for one that is not served today (Docker's schema 1 among them).
    """
    try:
        return ManifestType(media_type)
    except ValueError as exc:
        raise BuildError(
            f"{label} has a manifest of type '{media_type}'",
            details=f"known types: {', '.join(ManifestType)}",
            resolution="take another tag of the image, or have it pushed again by a current tool",
        ) from exc


def read_manifest(store: Store, descriptor: Descriptor, label: str) -> dict[str, Any]:
    """Read a manifest or index from the store.

    Raises: MissingError; IntegrityError when it is not JSON or names another type than the lock.
    """
    blob = Blob(digest=descriptor.digest, size_bytes=descriptor.size_bytes)
    data = store.read(blob, f"{label}: manifest")
    try:
        document = json.loads(data)
    except ValueError as exc:
        raise IntegrityError(
            f"{label}: the manifest is not JSON",
            details=f"{descriptor.digest}: {exc}",
            resolution="run './doit.sh lock': upstream has published something that is no image",
        ) from exc
    said = document.get("mediaType", descriptor.media_type) if isinstance(document, dict) else None
    if not isinstance(document, dict) or said != descriptor.media_type:
        raise IntegrityError(
            f"{label}: the manifest is not of the type that the lock says",
            details=f"{descriptor.digest}: lock says {descriptor.media_type}",
            resolution="run './doit.sh lock'",
        )
    return document


def _check_child(index: Mapping[str, Any], child: Descriptor, label: str) -> None:
    named = [entry for entry in ociindex.entries(index, "manifests") if entry["digest"] == str(child.digest)]
    if named and ociindex.is_platform(named[0]):
        return
    raise IntegrityError(
        f"{label}: the index does not name the locked manifest for {'/'.join(ociindex.PLATFORM)}",
        details=f"locked manifest {child.digest}",
        resolution="run './doit.sh lock'",
    )


def _check_content(manifest: Mapping[str, Any], image: LockedImage, label: str) -> None:
    """Compare a platform manifest with the lock's configuration and layers; name every difference."""
    said = [manifest.get("config", {}), *manifest.get("layers", ())]
    locked = [image.config, *image.layers]
    faults = [] if len(said) == len(locked) else [f"{len(said) - 1} layers, lock says {len(locked) - 1}"]
    for number, (entry, blob) in enumerate(zip(said, locked, strict=False)):
        if (entry.get("digest"), entry.get("size")) != (str(blob.digest), blob.size_bytes):
            what = f"layer {number}" if number else "configuration"
            size = entry.get("size")
            faults.append(f"{what}: {entry.get('digest')} ({size} bytes), lock says {blob.digest}")
    if faults:
        raise IntegrityError(
            f"{label}: the manifest and the lock differ",
            details=joined_faults(faults),
            resolution="run './doit.sh lock'; the lock was edited by hand or made by another builder",
        )


# ---------------------------------------------------------------- the layout


def plan_layout(lock: Lock, inventory: Inventory, workspace: Workspace, full_version: str) -> Step:
    """Plan index.json, oci-layout and nginx's maps of all images, the composed ones too.

    Raises: BuildError when an image has the id that this step needs for itself.
    """
    ids = ids_on_iso(lock, inventory)
    if LAYOUT_STEP in ids:
        raise BuildError(
            f"image id '{LAYOUT_STEP}' is taken by the build itself",
            details="images.yaml",
            resolution="give the image another id",
        )
    parts = tuple(part_file(workspace, image_id) for image_id in ids)
    part = part_file(workspace, LAYOUT_STEP)
    tree = workspace.tree_dir
    files = {
        path: tree / path
        for path in ("oci/index.json", "oci/oci-layout", "nginx/oci-maps.conf", "nginx/oci-locations.conf")
    }
    return Step(
        name=LAYOUT_STEP,
        doc="index.json of the OCI layout and nginx's maps of it",
        run=functools.partial(run_layout, parts, files, part, full_version),
        inputs=parts,
        outputs=(*files.values(), part),
        config={"version": full_version, "rules": str(_rules())},
    )


def _rules() -> Digest:
    """Return a digest of what is rendered of no image: a builder that says it otherwise renders its files again."""
    return Digest.of_bytes((render_maps(()) + render_locations("")).encode())


def run_layout(parts: Sequence[Path], files: Mapping[str, Path], part: Path, full_version: str) -> None:
    """Write the layout's own files. ``files`` maps paths on the ISO to files to write."""
    facts = sorted((filelist.read_facts(file) for file in parts), key=lambda fact: str(fact["reference"]))
    served = [_served(fact) for fact in facts]
    texts = {
        "oci/index.json": render_index(facts),
        "oci/oci-layout": '{"imageLayoutVersion":"1.0.0"}',
        "nginx/oci-maps.conf": render_maps(served),
        "nginx/oci-locations.conf": render_locations(f"/srv/caisson/{full_version}/oci"),
    }
    for path, text in texts.items():
        write_atomically(files[path], text.encode())
    entries = [filelist.describe_file(path, files[path], owners=("image layout",)) for path in texts]
    filelist.write_part(part, entries)


def render_index(facts: Sequence[Mapping[str, Any]]) -> str:
    """Render index.json: one descriptor a tag, sorted by name, compact, one newline."""
    manifests = [
        {**fact["descriptor"], "annotations": dict.fromkeys(_NAME_ANNOTATIONS, fact["reference"])}
        for fact in sorted(facts, key=lambda fact: str(fact["reference"]))
    ]
    index = {"schemaVersion": 2, "mediaType": ManifestType.OCI_INDEX.value, "manifests": manifests}
    return json.dumps(index, separators=(",", ":"), sort_keys=True) + "\n"


def _served(fact: Mapping[str, Any]) -> Served:
    return Served(
        reference=Reference.parse(fact["reference"]),
        digest=Digest.parse(fact["descriptor"]["digest"]),
        manifests=tuple(
            (Digest.parse(digest), ManifestType(kind)) for digest, kind in sorted(fact["manifests"].items())
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What is known of an image once it is in the layout."""

    id: str
    reference: str
    digest: str
    manifests: tuple[str, ...]


def read_image_facts(part: Path) -> ImageFacts:
    """Read the facts of one image's part."""
    fact = filelist.read_facts(part)
    return ImageFacts(
        id=fact["id"],
        reference=fact["reference"],
        digest=fact["descriptor"]["digest"],
        manifests=tuple(sorted(fact["manifests"])),
    )
