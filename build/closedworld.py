# SPDX-License-Identifier: Apache-2.0
"""Prove that the bundle names no image that it does not hold.

    manifests (store) -+
    kubeadm's table ---+-> references -> each in the layout, whole? -> work/closed-world.json

A reference is satisfied by a tag of the layout, or by a digest of a manifest in it. An image that cannot be
pulled shows on the operator's site as ErrImagePull, where nobody can mend it: so it fails the build here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from build import contents, oci
from build.errors import ClosedWorldError, IntegrityError, joined_faults
from build.model import Blob, Inventory, Lock, LockedManifest
from build.plan import Step, Workspace
from build.store import Store

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What kubeadm uses besides its own four images, by minor release of Kubernetes.
#: Source: kubernetes cmd/kubeadm/app/constants (CoreDNSVersion, DefaultEtcdVersion, PauseVersion).
KUBEADM_IMAGES: Mapping[str, Mapping[str, str]] = {
    "1.34": {"coredns/coredns": "v1.12.1", "etcd": "3.6.5-0", "pause": "3.10.1"},
    "1.35": {"coredns/coredns": "v1.13.1", "etcd": "3.6.6-0", "pause": "3.10.1"},
    "1.36": {"coredns/coredns": "v1.14.2", "etcd": "3.6.8-0", "pause": "3.10.2"},
}
_KUBERNETES_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_KUBERNETES_REGISTRY = "registry.k8s.io"


@dataclasses.dataclass(frozen=True, order=True)
class Wanted:
    """An image reference, and who wants it."""

    reference: str
    by: str


def report_file(workspace: Workspace) -> Path:
    """Return where the proof is written: every reference with the digest that satisfies it."""
    return workspace.work_dir / "closed-world.json"


def plan_closed_world(lock: Lock, inventory: Inventory, store: Store, workspace: Workspace) -> Step:
    """Plan the check of all manifests and of kubeadm's table against the layout."""
    parts = tuple(oci.part_file(workspace, image_id) for image_id in oci.ids_on_iso(lock, inventory))
    report = report_file(workspace)
    kubernetes = lock.versions["kubernetes"]
    return Step(
        name="closed-world",
        doc="every image that anything in the bundle names is in the bundle",
        run=functools.partial(run_closed_world, lock.manifests, kubernetes, parts, store, report),
        inputs=(*parts, *(store.path(manifest.digest) for manifest in lock.manifests)),
        outputs=(report,),
        config={"kubernetes": kubernetes, "manifests": [manifest.path for manifest in lock.manifests]},
    )


def run_closed_world(
    manifests: Sequence[LockedManifest], kubernetes: str, parts: Sequence[Path], store: Store, report: Path
) -> None:
    """Check all references and write the proof.

    Raises: ClosedWorldError naming every missing image and who wants it; IntegrityError; MissingError.
    """
    wanted = list(kubeadm_images(kubernetes))
    for manifest in manifests:
        blob = Blob(digest=manifest.digest, size_bytes=manifest.size_bytes)
        file = store.require(blob, f"manifest {manifest.path}")
        wanted += manifest_images(file.read_bytes(), manifest.path)
    images = [oci.read_image_facts(part) for part in parts]
    tags = {image.reference: image.digest for image in images}
    digests = {digest for image in images for digest in image.manifests}
    proof: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for want in sorted(set(wanted)):
        found = find_image(want.reference, tags, digests)
        if found is None:
            faults.append(f"{want.reference}, wanted by {want.by}")
        else:
            entry = proof.setdefault(want.reference, {"digest": found, "wanted_by": []})
            entry["wanted_by"].append(want.by)
    if faults:
        raise ClosedWorldError(
            f"{len(faults)} image{'s' if len(faults) > 1 else ''} named in the bundle "
            f"{'are' if len(faults) > 1 else 'is'} not in it",
            details=joined_faults(faults),
            resolution="add them to images.yaml and run 'doit lock', or take out what wants them",
        )
    contents.write_json(report, proof)


def kubeadm_images(kubernetes: str) -> Iterator[Wanted]:
    """Yield the images that kubeadm of a version asks for by itself.

    Raises: ClosedWorldError for a minor release that the table does not have.

    >>> next(kubeadm_images("1.36.4")).reference
    'registry.k8s.io/kube-apiserver:v1.36.4'
    """
    minor = ".".join(kubernetes.split(".")[:2])
    if minor not in KUBEADM_IMAGES:
        raise ClosedWorldError(
            f"it is not known which images kubeadm {kubernetes} asks for",
            details=f"known minor releases: {', '.join(sorted(KUBEADM_IMAGES))}",
            resolution="add the output of 'kubeadm config images list' to build/closedworld.py",
        )
    by = f"kubeadm {kubernetes}"
    for name in _KUBERNETES_IMAGES:
        yield Wanted(f"{_KUBERNETES_REGISTRY}/{name}:v{kubernetes}", by)
    for name, tag in KUBEADM_IMAGES[minor].items():
        yield Wanted(f"{_KUBERNETES_REGISTRY}/{name}:{tag}", by)


def manifest_images(data: bytes, name: str) -> Iterator[Wanted]:
    """Yield the images that a manifest of any kind names: text under a key ``image``.

    Raises: IntegrityError when it is not YAML.
    """
    try:
        documents = list(yaml.load_all(data, Loader=_LOADER))
    except yaml.YAMLError as exc:
        raise IntegrityError(
            f"manifest '{name}' is not YAML", details=str(exc), resolution="check its address in images.yaml"
        ) from exc
    for document in documents:
        for reference in _images(document):
            yield Wanted(full_reference(reference), f"{name}: {_title(document)}")


def _title(document: object) -> str:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(metadata, dict):
        return "a document without a name"
    return f"{document.get('kind')} {metadata.get('name')}"


def _images(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "image" and isinstance(inner, str):
                yield inner
            else:
                yield from _images(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _images(inner)


def full_reference(reference: str) -> str:
    """Return a reference as runtimes complete it: with registry and tag.

    >>> full_reference("nginx"), full_reference("quay.io/calico/node:v3"), full_reference("a/b@sha256:00")
    ('docker.io/library/nginx:latest', 'quay.io/calico/node:v3', 'docker.io/a/b@sha256:00')
    """
    first, slash, _ = reference.partition("/")
    if not slash:
        reference = f"docker.io/library/{reference}"
    elif "." not in first and ":" not in first and first != "localhost":
        reference = f"docker.io/{reference}"
    if "@" not in reference and ":" not in reference.rsplit("/", 1)[1]:
        reference += ":latest"
    return reference


def find_image(reference: str, tags: Mapping[str, str], digests: set[str]) -> str | None:
    """Return the digest of the layout that satisfies a full reference, or None."""
    name, at, digest = reference.partition("@")
    if not at:
        return tags.get(name)
    return digest if digest in digests else None
