# SPDX-License-Identifier: Apache-2.0
"""Prove that nothing in the bundle needs something that is neither in it nor on the host.

    manifests (store) ----------------+
    kubeadm's own list, or the table -+-> images -----> each in the layout, whole for linux/amd64 -+
    Salt states, static pods ---------+                                                            +-> proof
    metadata of all packages ------------> requirements -> closed with each baseline --------------+
    files of Salt's packages ------------> Python and its packages, as the console wants them -----+

A reference is satisfied by a tag of the layout, or by a digest of a manifest in it. An image that cannot be
pulled shows on the operator's site as ErrImagePull, where nobody can fix it: so it fails the build here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from build.base.errors import ClosedWorldError, joined_faults
from build.base.plan import Step, Workspace
from build.bundle import oci, rpmrepo, salttree
from build.evidence.consolepython import missing_python, salt_packages
from build.evidence.imagebase import open_composed
from build.evidence.kubeadmimages import KUBEADM_IMAGES, kubeadm_images
from build.evidence.manifestimages import manifest_images
from build.evidence.saltimages import literal_images, template_images
from build.evidence.wanted import Wanted, find_image
from build.inventory.model import Blob, Inventory, Lock, LockedBaseline, LockedManifest, LockedPackage
from build.store import filelist, ociindex
from build.store.objects import Store

_TEMPLATE_SUFFIXES = (".sls", ".j2", ".jinja")
_TEXT_SUFFIXES = (*_TEMPLATE_SUFFIXES, ".yaml", ".yml", ".toml", ".conf", ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What is checked: the lock, and the tables of what the bundle holds.

    ``not_images`` is by manifest what looks like an image and is none, ``without`` by composed image what its
    packages require and it does without; each with a reason.
    """

    lock: Lock
    images: tuple[Path, ...]
    rpms: Path
    salt: Path
    store: Store
    not_images: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    without: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


def report_file(workspace: Workspace) -> Path:
    """Return where the proof is written: every reference with the digest that satisfies it."""
    return workspace.work_dir / "closed-world.json"


def plan_closed_world(lock: Lock, inventory: Inventory, store: Store, workspace: Workspace) -> Step:
    """Plan the check of everything that names an image or requires a package."""
    world = World(
        lock=lock,
        images=tuple(oci.part_file(workspace, image_id) for image_id in oci.ids_on_iso(lock, inventory)),
        rpms=rpmrepo.part_file(workspace),
        salt=salttree.part_file(workspace),
        store=store,
        not_images={manifest.id: manifest.not_images for manifest in inventory.manifests},
        without={image.id: image.without for image in inventory.composed},
    )
    report = report_file(workspace)
    return Step(
        name="closed-world",
        doc="every image and package that anything in the bundle needs is in the bundle",
        run=functools.partial(run_closed_world, world, report),
        inputs=(
            *world.images,
            world.rpms,
            world.salt,
            *(store.path(manifest.digest) for manifest in lock.manifests),
            *(store.path(package.digest) for package in salt_packages(lock)),
        ),
        outputs=(report,),
        config={
            "kubernetes": lock.versions["kubernetes"],
            "manifests": [manifest.path for manifest in lock.manifests],
            "baselines": [dataclasses.asdict(baseline)["provides"] for baseline in lock.baselines],
            "table": KUBEADM_IMAGES,
            "excused": {"not_images": world.not_images, "without": world.without},
        },
    )


def run_closed_world(world: World, report: Path) -> None:
    """Check all and write the proof.

    Raises: ClosedWorldError naming everything that is missing and who wants it; IntegrityError; MissingError;
    CommandError.
    """
    facts = [oci.read_image_facts(part) for part in world.images]
    tags = {image.reference: image.digest for image in facts}
    by_id = {image.id: image.digest for image in facts}
    digests = {digest for image in facts for digest in image.manifests}
    proof: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for want in sorted(set(_wanted(world))):
        found = by_id.get(want.reference) if want.is_id else find_image(want.reference, tags, digests)
        if found is None:
            what = f"the image of id '{want.reference}'" if want.is_id else f"image {want.reference}"
            faults.append(f"{what}, wanted by {want.by}")
        else:
            entry = proof.setdefault(want.reference, {"digest": found, "wanted_by": []})
            entry["wanted_by"].append(want.by)
    for part, image in zip(world.images, facts, strict=True):
        faults += [
            f"{what}, wanted by image {image.reference}" for what in missing_content(part, image.digest)
        ]
    faults += open_packages(world)
    faults += open_composed(world.lock, world.store, world.without)
    faults += missing_python(world.lock, world.store)
    if faults:
        count = len(faults)
        raise ClosedWorldError(
            f"{count} thing{'s' if count > 1 else ''} that the bundle needs "
            f"{'are' if count > 1 else 'is'} not in it",
            details=joined_faults(faults),
            resolution="add them to images.yaml or packages.yaml and run './doit.sh lock', or take out what wants "
            "them; what is no image, or can be done without, is named with a reason under 'not_images' or 'without'",
        )
    filelist.write_json(report, proof)


def _wanted(world: World) -> Iterator[Wanted]:
    """Yield every image that something in the bundle names."""
    yield from kubeadm_images(world.lock, world.store)
    for manifest in world.lock.manifests:
        not_images = world.not_images.get(manifest.id, {})
        yield from manifest_images(_read_manifest(manifest, world.store), manifest.path, not_images)
    for entry in filelist.read_part(world.salt):
        if entry.path.endswith(_TEXT_SUFFIXES):
            text = entry.source.read_text(encoding="utf-8")
            yield from literal_images(text, entry.path)
            if entry.path.endswith(_TEMPLATE_SUFFIXES):
                yield from template_images(text, entry.path)


def _read_manifest(manifest: LockedManifest, store: Store) -> bytes:
    blob = Blob(digest=manifest.digest, size_bytes=manifest.size_bytes)
    return store.read(blob, f"manifest {manifest.path}")


# ---------------------------------------------------------------- content


def missing_content(part: Path, digest: str) -> Iterator[str]:
    """Yield what of an image's linux/amd64 child is not among the files of the bundle."""
    entries = {str(entry.digest): entry for entry in filelist.read_part(part)}

    def read(wanted: str) -> bytes | None:
        return entries[wanted].source.read_bytes() if wanted in entries else None

    def takes(entry: Mapping[str, Any]) -> bool:
        return ociindex.is_platform(entry) and entry["digest"] in entries

    for node in ociindex.walk(digest, read, takes=takes):
        if node.document is None:
            yield f"manifest {node.digest}"
            continue
        if "manifests" in node.document:
            wanted = filter(ociindex.is_platform, ociindex.entries(node.document, "manifests"))
            children = [child["digest"] for child in wanted]
            if not any(child in entries for child in children):
                platform = "/".join(ociindex.PLATFORM)
                yield f"the manifest for {platform} ({', '.join(children) or 'it names none'})"
        yield from (f"{kind} {blob}" for kind, blob in ociindex.content(node.document) if blob not in entries)


# ---------------------------------------------------------------- packages


def open_packages(world: World) -> list[str]:
    """Return what packages of the bundle require that neither it nor a baseline has, and who requires it.

    Raises: SolverError.
    """
    from build.lock.dependencies import open_requirements  # noqa: PLC0415 - planning does without it

    files = [entry for entry in filelist.read_part(world.rpms) if "/repodata/" in entry.path]
    primary, filelists = (
        next(entry.source for entry in files if entry.path.endswith(f"-{kind}.xml.gz"))
        for kind in ("primary", "filelists")
    )
    faults: dict[tuple[str, str], list[str]] = {}
    for baseline in world.lock.baselines:
        names = {package.file_name for package in _packages_of(world.lock, baseline)}
        for found in open_requirements(primary, filelists, names, frozenset(baseline.provides)):
            faults.setdefault(found, []).append(baseline.id)
    return [
        f"package capability {requirement}, wanted by {package} (baseline {', '.join(baselines)})"
        for (package, requirement), baselines in sorted(faults.items())
    ]


def _packages_of(lock: Lock, baseline: LockedBaseline) -> Iterator[LockedPackage]:
    """Yield the packages that a host of a baseline is given; one that names no baseline is for all."""
    for package in lock.packages:
        if not package.baselines or baseline.id in package.baselines:
            yield package
