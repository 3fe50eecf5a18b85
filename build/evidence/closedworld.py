# SPDX-License-Identifier: Apache-2.0
"""Prove that nothing in the bundle needs something that is neither in it nor on the host.

    manifests (store) ----------------+
    kubeadm's own list, or the table -+-> images -----> each in the layout, whole for linux/amd64 -+
    Salt states, static pods ---------+                                                            +-> proof
    metadata of all packages ------------> requirements -> closed with each baseline --------------+

A reference is satisfied by a tag of the layout, or by a digest of a manifest in it. An image that cannot be
pulled shows on the operator's site as ErrImagePull, where nobody can mend it: so it fails the build here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from typing_extensions import override

from build.base import ui
from build.base.errors import ClosedWorldError, IntegrityError, joined_faults
from build.base.plan import Step, Workspace
from build.base.run import run
from build.bundle import oci, rpmrepo, salttree
from build.inventory.model import Blob, Inventory, Lock, LockedBaseline, LockedManifest, LockedPackage
from build.inventory.reference import completed
from build.store import filelist
from build.store.objects import Store
from build.upstream.rpmpayload import unpack_payload

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What kubeadm uses besides its own four images, by minor release of Kubernetes: asked for where the locked
#: kubeadm cannot be run. Source: cmd/kubeadm/app/constants (CoreDNSVersion, DefaultEtcdVersion, PauseVersion).
KUBEADM_IMAGES: Mapping[str, Mapping[str, str]] = {
    "1.34": {"coredns/coredns": "v1.12.1", "etcd": "3.6.5-0", "pause": "3.10.1"},
    "1.35": {"coredns/coredns": "v1.13.1", "etcd": "3.6.6-0", "pause": "3.10.1"},
    "1.36": {"coredns/coredns": "v1.14.2", "etcd": "3.6.8-0", "pause": "3.10.2"},
}
_KUBERNETES_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_KUBERNETES_REGISTRY = "registry.k8s.io"
_KUBEADM_FILE = "usr/bin/kubeadm"
#: The name under which states find the bundle's images, by their id.
_TABLE = "images"
#: An image written out: a registry, a name, a tag or digest.
_LITERAL = re.compile(
    r"(?<![\w./-])((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+(?::[\w][\w.-]*|@sha256:[0-9a-f]{64}))"
)
_TEMPLATE_SUFFIXES = (".sls", ".j2", ".jinja")
_TEXT_SUFFIXES = (*_TEMPLATE_SUFFIXES, ".yaml", ".yml", ".toml", ".conf", ".json")


@dataclasses.dataclass(frozen=True, order=True)
class Wanted:
    """An image reference, or the id of an image of the bundle, and who wants it."""

    reference: str
    by: str
    is_id: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What is checked: the lock, and the tables of what the bundle holds."""

    lock: Lock
    images: tuple[Path, ...]
    rpms: Path
    salt: Path
    store: Store


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
        ),
        outputs=(report,),
        config={
            "kubernetes": lock.versions["kubernetes"],
            "manifests": [manifest.path for manifest in lock.manifests],
            "baselines": [dataclasses.asdict(baseline)["provides"] for baseline in lock.baselines],
            "table": KUBEADM_IMAGES,
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
    if faults:
        count = len(faults)
        raise ClosedWorldError(
            f"{count} thing{'s' if count > 1 else ''} that the bundle needs "
            f"{'are' if count > 1 else 'is'} not in it",
            details=joined_faults(faults),
            resolution="add them to images.yaml or packages.yaml and run 'doit lock', or take out what wants them",
        )
    filelist.write_json(report, proof)


def _wanted(world: World) -> Iterator[Wanted]:
    """Yield every image that something in the bundle names."""
    yield from kubeadm_images(world)
    for manifest in world.lock.manifests:
        yield from manifest_images(_read_manifest(manifest, world.store), manifest.path)
    for entry in filelist.read_part(world.salt):
        if entry.path.endswith(_TEXT_SUFFIXES):
            text = entry.source.read_text(encoding="utf-8")
            yield from literal_images(text, entry.path)
            if entry.path.endswith(_TEMPLATE_SUFFIXES):
                yield from template_images(text, entry.path)


def _read_manifest(manifest: LockedManifest, store: Store) -> bytes:
    blob = Blob(digest=manifest.digest, size_bytes=manifest.size_bytes)
    return store.read(blob, f"manifest {manifest.path}")


# ---------------------------------------------------------------- kubeadm


def kubeadm_images(world: World) -> Iterator[Wanted]:
    """Yield the images that kubeadm asks for by itself: it is asked, where it can be run, else the table.

    Raises: ClosedWorldError for a minor release that the table does not have; CommandError; MissingError.
    """
    version = world.lock.versions["kubernetes"]
    by = f"kubeadm {version}"
    packages = [package for package in world.lock.packages if package.name == "kubeadm"]
    listed = _ask_kubeadm(packages[0], version, world.store) if packages and can_run_here() else ()
    for reference in listed or table_images(version):
        yield Wanted(reference, by)


def can_run_here() -> bool:
    """Say whether this machine can run programs of the bundle."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _ask_kubeadm(package: LockedPackage, version: str, store: Store) -> tuple[str, ...]:
    """Return what the kubeadm of a package says; nothing when there is none in it."""
    blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
    file = store.checked(blob, f"package {package.nevra}")
    with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
        program = _take_program(unpack_payload(file, Path(scratch)), Path(scratch, "kubeadm"))
        if program is None:
            return ()
        done = run(
            [program, "config", "images", "list", "--kubernetes-version", f"v{version}"],
            env={"HOME": scratch},
            timeout_s=60,
            check=False,
        )
    if done.returncode != 0:
        ui.warn(f"{package.nevra} cannot say which images it needs; a table is used: {done.stderr.strip()}")
        return ()
    return tuple(done.stdout.split())


def _take_program(archive_file: Path, target: Path) -> Path | None:
    with tarfile.open(archive_file) as archive:
        for member in archive:
            if member.isreg() and member.name.removeprefix("./").lstrip("/") == _KUBEADM_FILE:
                stream = archive.extractfile(member)
                target.write_bytes(stream.read() if stream else b"")
                target.chmod(0o700)
                return target
    return None


def table_images(kubernetes: str) -> Iterator[str]:
    """Yield the images that kubeadm of a version asks for, from the table.

    Raises: ClosedWorldError for a minor release that the table does not have.

    >>> next(table_images("1.36.4"))
    'registry.k8s.io/kube-apiserver:v1.36.4'
    """
    minor = ".".join(kubernetes.split(".")[:2])
    if minor not in KUBEADM_IMAGES:
        raise ClosedWorldError(
            f"it is not known which images kubeadm {kubernetes} asks for",
            details=f"known minor releases: {', '.join(sorted(KUBEADM_IMAGES))}",
            resolution="add the output of 'kubeadm config images list' to build/evidence/closedworld.py",
        )
    for name in _KUBERNETES_IMAGES:
        yield f"{_KUBERNETES_REGISTRY}/{name}:v{kubernetes}"
    for name, tag in KUBEADM_IMAGES[minor].items():
        yield f"{_KUBERNETES_REGISTRY}/{name}:{tag}"


# ---------------------------------------------------------------- manifests


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
    return completed(reference)


def find_image(reference: str, tags: Mapping[str, str], digests: set[str]) -> str | None:
    """Return the digest of the layout that satisfies a full reference, or None."""
    name, at, digest = reference.partition("@")
    if not at:
        return tags.get(name)
    return digest if digest in digests else None


# ---------------------------------------------------------------- Salt states, static pods


def literal_images(text: str, name: str) -> Iterator[Wanted]:
    """Yield the images that a file writes out in full; an image named by its id alone is no such one.

    >>> [want.reference for want in literal_images('sandbox = "registry.k8s.io/pause:3.10"', "config.toml")]
    ['registry.k8s.io/pause:3.10']
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#"):
            continue
        for match in _LITERAL.finditer(line):
            yield Wanted(match.group(1), f"{name}:{number}")


class _SaltTags(Extension):
    """The tags that Salt adds to Jinja, as far as finding their ends. Source: salt/utils/jinja.py, 3008."""

    tags = {  # noqa: RUF012 - Jinja's own declaration is this
        "import_json", "import_text", "import_yaml", "load_json", "load_text", "load_yaml", "profile",
    }  # fmt: skip

    @override
    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside of the tag."""
        name = next(parser.stream).value
        while parser.stream.current.type != "block_end":
            next(parser.stream)
        if name.startswith("import_"):
            return []
        end = "name:endprofile" if name == "profile" else "name:endload"
        return parser.parse_statements((end,), drop_needle=True)


def template_images(text: str, name: str) -> Iterator[Wanted]:
    """Yield the ids of the images that a template takes from the bundle's table.

    Raises: ClosedWorldError when it is no template that Jinja can read.

    >>> text = "{% import_yaml 'x' as x %}{% for id in ['etcd', 'nginx'] %}{{ images[id] }}{% endfor %}"
    >>> text += "{{ pillar['images']['pause'] }}"
    >>> [want.reference for want in template_images(text, "x.sls")]
    ['etcd', 'nginx', 'pause']
    """
    environment = jinja2.Environment(extensions=["jinja2.ext.do", _SaltTags], autoescape=True)
    try:
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError as exc:
        raise ClosedWorldError(
            f"'{name}' cannot be searched for images",
            details=f"line {exc.lineno}: {exc.message}",
            resolution="mend the template",
        ) from exc
    loops = {
        loop.target.name: [item.value for item in loop.iter.items if isinstance(item, nodes.Const)]
        for loop in tree.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name) and isinstance(loop.iter, nodes.List)
    }
    for field in tree.find_all(nodes.Getattr):
        if _is_table(field.node):
            yield Wanted(field.attr, f"{name}:{field.lineno}", is_id=True)
    for item in tree.find_all(nodes.Getitem):
        if _is_table(item.node):
            for image_id in _names(item.arg, loops):
                yield Wanted(image_id, f"{name}:{item.lineno}", is_id=True)


def _names(key: nodes.Node, loops: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield what the key of a table can be: itself, or what a loop over a written list gives it."""
    if isinstance(key, nodes.Const):
        yield str(key.value)
    elif isinstance(key, nodes.Name):
        yield from map(str, loops.get(key.name, ()))


def _is_table(node: nodes.Node) -> bool:
    """Say whether an expression is the table of images: ``images``, ``x.images``, ``x['images']``."""
    if isinstance(node, nodes.Name):
        return node.name == _TABLE
    if isinstance(node, nodes.Getattr):
        return node.attr == _TABLE
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value == _TABLE


# ---------------------------------------------------------------- content


def missing_content(part: Path, digest: str) -> Iterator[str]:
    """Yield what of an image's linux/amd64 child is not among the files of the bundle."""
    entries = {str(entry.digest): entry for entry in filelist.read_part(part)}
    waiting = [digest]
    while waiting:
        current = waiting.pop()
        if current not in entries:
            yield f"manifest {current}"
            continue
        document: dict[str, Any] = json.loads(entries[current].source.read_bytes())
        children = [
            child["digest"]
            for child in document.get("manifests", ())
            if oci.is_platform(child.get("platform", {}))
        ]
        if "manifests" in document and not any(child in entries for child in children):
            yield f"the manifest for {'/'.join(oci.PLATFORM)} ({', '.join(children) or 'it names none'})"
        waiting += [child for child in children if child in entries]
        for what, blob in (
            ("configuration", document.get("config")),
            *(("layer", layer) for layer in document.get("layers", ())),
        ):
            if blob is not None and blob["digest"] not in entries:
                yield f"{what} {blob['digest']}"


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
