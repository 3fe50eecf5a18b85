# SPDX-License-Identifier: Apache-2.0
"""Push images to the site's registry, list them with the ISO's, remove and verify them.

A push goes through nginx, which looks at it as at anybody's. All else is done with the registry itself, on loopback.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable

from installer.base.errors import CommandError, HostError, MediaError, UsageError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import format_bytes
from installer.config import changes
from installer.config.ports import PORTS_FILE, read_ports
from installer.media.product import Product
from installer.operations import containers, image_names, image_removals, push_login
from installer.operations.image_files import INDEX_TYPES, PIECE, Root, Source, open_source
from installer.operations.image_names import ImageName
from installer.operations.image_removals import Removal
from installer.operations.registry import Registry, Reply, refused

Say = Callable[[str], None]
CA_FILE = "/etc/caisson/ca.crt"
BLOBS_DIR = "/var/lib/caisson/registry/docker/registry/v2/blobs/sha256"
REPOSITORIES_DIR = "/var/lib/caisson/registry/docker/registry/v2/repositories"
CONFIGURATION_FILE = "/etc/caisson/registry/config.yml"
EXPORT_TIMEOUT_S = 900.0
COLLECT_TIMEOUT_S = 1800.0
ASK_TIMEOUT_S = 30.0
CTR = ("ctr", "--namespace", "k8s.io", "images")
PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class Site:
    """Where images are pushed and read on this node, and what the media server is called."""

    address: str
    ports: Mapping[str, int]
    own_names: tuple[str, ...]
    paths: Paths

    @property
    def own(self) -> str:
        """The registry's name of the site's own images."""
        return f"{self.address}:{self.ports['registry-push']}"

    @contextmanager
    def pushing(self) -> Iterator[Registry]:
        """Open a connection that pushes, through nginx."""
        login = (push_login.PUSH_USER, push_login.get(self.paths))
        ca_file = self.paths.at(CA_FILE)
        registry = Registry(self.address, self.ports["registry-push"], login, ca_file=ca_file)
        try:
            yield registry
        finally:
            registry.close()

    @contextmanager
    def inside(self) -> Iterator[Registry]:
        """Open a connection to the registry itself, where nothing is in between."""
        login = (push_login.PUSH_USER, push_login.get(self.paths))
        registry = Registry("127.0.0.1", self.ports["registry"], login)
        try:
            yield registry
        finally:
            registry.close()

    def parse(self, text: str) -> ImageName:
        """Read a name; one that begins with this media server's is the site's own."""
        return image_names.parse(text, own_names=self.own_names)


def find_site(paths: Paths, tree_dir: Path) -> Site:
    """Return where images are on this node.

    Raises:
        HostError: this is no bootstrap node.
    """
    known = changes.recorded(paths)
    if known is None:
        raise HostError(
            "there is no registry on this host",
            details=f"{paths.pillar_dir}/caisson.sls is not there",
            resolution="run it on the bootstrap node",
        )
    names = (str(known["node"]["name"]), str(known["media_name"]))
    return site_at(str(known["node"]["control_plane_address"]), names, paths, tree_dir)


def site_at(address: str, names: Sequence[str], paths: Paths, tree_dir: Path) -> Site:
    """Return where images are on the node of this address, which has these names too."""
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    own_names = tuple(
        f"{name}:{ports[port]}" for name in (address, *names) for port in ("registry-push", "media-https")
    )
    return Site(address, ports, own_names, paths)


# ---- push ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pushed:
    """An image that is in the registry now, and what had to be sent for it; ``was_there``: nothing, not its name."""

    name: str
    digest: str
    sent_blobs: int
    sent_bytes: int
    was_there: bool = False


@contextmanager
def source_of(given: str, scratch_dir: Path, say: Say) -> Iterator[tuple[Source, str]]:
    """Open what is to be pushed: a file, a directory, or an image of this host's containerd; its name, if that is one.

    Raises:
        UsageError: it is none of these.
    """
    path = Path(given)
    if path.exists():
        yield open_source(path), ""
        return
    if given.startswith(("/", ".")) or given.endswith(".tar"):
        raise UsageError(
            f"{given} is not there", resolution="give the archive, the OCI layout, or the name of an image"
        )
    name = image_names.parse(given).said()
    say(f"{name} out of containerd")
    scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_dir, prefix="push-") as directory:
        archive = Path(directory) / "image.tar"
        try:
            run(
                [*CTR, "export", "--local", "--platform", PLATFORM, archive, name], timeout_s=EXPORT_TIMEOUT_S
            )
        except CommandError as exc:
            raise UsageError(
                f"{name} is neither a file nor a whole image of this host",
                details=exc.details or exc.message,
                resolution="'crictl images' lists those of this host; or give an archive or an OCI layout",
            ) from exc
        yield open_source(archive), name


def push(source: Source, site: Site, *, wanted: str = "", said: str = "", say: Say) -> list[Pushed]:
    """Push every image of a source; ``wanted`` is the name that the operator gives, ``said`` the one it was found by.

    Raises:
        UsageError: an image has no name, or one name is given to several.
        MediaError: the source is damaged.
        HostError: the registry refuses it, or does not answer.
    """
    chosen = named(source, site, wanted or said)
    with site.pushing() as registry:
        return [push_one(source, root, name, site, registry, say=say) for name, root in chosen]


def push_one(
    source: Source, root: Root, name: ImageName, site: Site, registry: Registry, *, say: Say
) -> Pushed:
    """Push one image of a source under a name; what of it is there already is not sent again.

    Raises:
        MediaError: the source is damaged.
        HostError: the registry refuses it, or does not answer.
    """
    title = name.said(site.own)
    say(f"{title} to {registry.place}")
    pushing = _Push(source, registry, name, say)
    digest = pushing.image(root)
    return Pushed(title, digest, pushing.sent_blobs, pushing.sent_bytes, was_there=not pushing.has_sent)


def named(source: Source, site: Site, wanted: str = "") -> list[tuple[ImageName, Root]]:
    """Return the images of a source with the names under which they are pushed.

    Raises:
        UsageError: an image has no name, or one name is given to several.
    """
    if not source.roots:
        raise UsageError(f"{source.title} holds no image", resolution="save the image again, by its name")
    if wanted:
        name = site.parse(wanted)
        if name.digest:
            raise UsageError(f"{wanted}: an image is pushed under a tag", resolution="write NAME:TAG")
        if len({root.digest for root in source.roots}) > 1:
            names = ", ".join(root.name or root.digest for root in source.roots)
            raise UsageError(
                f"{source.title} holds several images, and one name is given",
                details=names,
                resolution="leave --as out, or save the image alone",
            )
        return [(name, source.roots[0])]
    nameless = [
        root.name or root.digest for root in source.roots if "/" not in root.name and ":" not in root.name
    ]
    if nameless:
        raise UsageError(
            f"{source.title} does not say what its image is called",
            details=", ".join(nameless),
            resolution="give it a name: --as REGISTRY/NAME:TAG",
        )
    return [(site.parse(root.name), root) for root in source.roots]


def whole(source: Source, root: Root) -> tuple[str, str]:
    """Return digest and media type of what is pushed; of an index of which not all is here, the one image that is.

    Raises:
        MediaError: the source is damaged, or holds some of an index and not one.
    """
    data = source.manifest(root.digest)
    if root.media_type in INDEX_TYPES or json.loads(data).get("mediaType") in INDEX_TYPES:
        entries = json.loads(data)["manifests"]
        present = [entry for entry in entries if source.has(entry["digest"])]
        if len(present) < len(entries):
            if len(present) != 1:
                raise MediaError(
                    f"{source.title} is not whole",
                    details=f"{len(present)} of the {len(entries)} images of {root.digest} are in it",
                    resolution="save it for all platforms, or for one",
                )
            return str(present[0]["digest"]), str(present[0]["mediaType"])
    return root.digest, root.media_type


def lacking(source: Source, digest: str) -> list[str]:
    """Return the blobs that an image needs and its source has not, as far as its manifests can be read.

    Raises:
        MediaError: a manifest is not there, or damaged.
    """
    manifest = json.loads(source.manifest(digest))
    found = [
        entry for child in manifest.get("manifests", ()) for entry in lacking(source, str(child["digest"]))
    ]
    needed = [manifest["config"]] if "config" in manifest else []
    needed += [entry for entry in manifest.get("layers", ()) if not entry.get("urls")]
    return found + [str(entry["digest"]) for entry in needed if not source.has(str(entry["digest"]))]


class _Push:
    """One image on its way: blobs first, then manifests, the root last."""

    def __init__(self, source: Source, registry: Registry, name: ImageName, say: Say) -> None:
        self.source, self.registry, self.name, self.say = source, registry, name, say
        self.sent_blobs = self.sent_bytes = 0
        self.has_sent = False

    def image(self, root: Root) -> str:
        """Push an image under its tag and return its digest."""
        digest, media_type = whole(self.source, root)
        return self._manifest(digest, media_type, self.name.tag)

    def _manifest(self, digest: str, media_type: str, reference: str) -> str:
        data = self.source.manifest(digest)
        manifest = json.loads(data)
        media_type = str(manifest.get("mediaType") or media_type)
        for entry in manifest.get("manifests", ()):
            self._manifest(str(entry["digest"]), str(entry["mediaType"]), str(entry["digest"]))
        wanted = [manifest["config"]] if "config" in manifest else []
        for entry in {entry["digest"]: entry for entry in (*wanted, *manifest.get("layers", ()))}.values():
            # A layer that a vendor lets nobody pass on lies elsewhere.
            if self.source.has(entry["digest"]) or not entry.get("urls"):
                self._blob(str(entry["digest"]))
        path = f"/v2/{self.name.path}/manifests/{reference}"
        if self.registry.get("HEAD", path, 200, 404).headers.get("Docker-Content-Digest") != digest:
            self.registry.get("PUT", path, 201, body=data, headers={"Content-Type": media_type})
            self.has_sent = True
        return digest

    def _blob(self, digest: str) -> None:
        base = f"/v2/{self.name.path}/blobs"
        if self.registry.get("HEAD", f"{base}/{digest}", 200, 404).status == 200:
            return
        size = self.source.size(digest)
        self.say(f"{digest[:19]}, {format_bytes(size)}")
        begun = self.registry.get("POST", f"{base}/uploads/", 202)
        _, _, place = begun.headers["Location"].partition("/v2/")
        more = "&" if "?" in place else "?"
        with self.source.open(digest) as stream:
            reply = self._sent(f"/v2/{place}{more}digest={digest}", stream, size)
        if reply.status != 201:
            if "DIGEST_INVALID" in reply.words:
                raise MediaError(
                    f"{self.source.title} is damaged",
                    details=f"{digest} has other bytes; the registry says {reply.words}",
                    resolution="save the image again",
                )
            raise refused(self.registry.place, reply)
        self.has_sent = True
        self.sent_blobs += 1
        self.sent_bytes += size

    def _sent(self, path: str, stream: BinaryIO, size: int) -> Reply:
        headers = {"Content-Type": "application/octet-stream"}
        return self.registry.ask("PUT", path, body=stream, size_bytes=size, headers=headers)


# ---- list ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """An image that the media server gives out. ``nodes``: where it is, None when the API did not say."""

    name: str
    origin: str
    digest: str
    size_bytes: int
    nodes: tuple[str, ...] | None


def list_images(site: Site, product: Product) -> list[Listed]:
    """Return the images of the ISO and the site's, by name.

    Raises:
        HostError: the registry does not answer.
    """
    with site.inside() as registry:
        stored = [
            Listed(name.said(site.own), "site", digest, size, None)
            for name, digest, size in _stored(registry)
        ]
    of_iso = [
        Listed(image.reference, "ISO", image.digest, image.size_bytes, None)
        for image in product.images.values()
    ]
    places = _places(site.paths)
    return [
        Listed(
            entry.name,
            entry.origin,
            entry.digest,
            entry.size_bytes,
            None if places is None else tuple(sorted(places.get(entry.name, ()))),
        )
        for entry in sorted((*of_iso, *stored), key=lambda entry: (entry.name, entry.origin))
    ]


def pushed_digests(site: Site, names: Iterable[ImageName]) -> dict[ImageName, str]:
    """Return the digest of each of these names that the site's registry has an image under.

    Raises:
        HostError: the registry does not answer.
    """
    found = {}
    with site.inside() as registry:
        for name in names:
            reply = registry.get("HEAD", f"/v2/{name.path}/manifests/{name.reference}", 200, 404)
            if reply.status == 200:
                found[name] = reply.headers["Docker-Content-Digest"]
    return found


def _stored(registry: Registry) -> Iterator[tuple[ImageName, str, int]]:
    """Yield name, digest and size of each tag that the registry has."""
    for path in registry.names():
        for tag in registry.tags(path):
            reply = registry.get("GET", f"/v2/{path}/manifests/{tag}", 200, 404)
            if reply.status == 200:
                size = sum(size for _, size in _blobs(registry, path, json.loads(reply.body)))
                yield image_names.of_path(path, tag), reply.headers["Docker-Content-Digest"], size


def _blobs(registry: Registry, path: str, manifest: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield digest and size of all that a manifest names; of an index, of its manifests and theirs."""
    for entry in manifest.get("manifests", ()):
        yield str(entry["digest"]), int(entry["size"])
        reply = registry.get("GET", f"/v2/{path}/manifests/{entry['digest']}", 200, 404)
        if reply.status == 200:
            yield from _blobs(registry, path, json.loads(reply.body))
    config = [manifest["config"]] if "config" in manifest else []
    for entry in (*config, *manifest.get("layers", ())):
        yield str(entry["digest"]), int(entry["size"])


def _places(paths: Paths) -> dict[str, set[str]] | None:
    """Return the nodes on which an image is, by its names; the kubelet names the fifty largest of each node."""
    kubectl = ["kubectl", "--kubeconfig", str(paths.admin_kubeconfig_file), "get", "nodes", "--output=json"]
    try:
        nodes = json.loads(run(kubectl, timeout_s=ASK_TIMEOUT_S).stdout)["items"]
    except (CommandError, HostError, ValueError, KeyError):
        return None
    found: dict[str, set[str]] = {}
    for node in nodes:
        for image in node["status"].get("images", ()):
            for name in image.get("names") or ():
                found.setdefault(str(name), set()).add(str(node["metadata"]["name"]))
    return found


# ---- remove ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removed:
    """A tag that is gone, and what that freed on the disk."""

    name: str
    digest: str
    freed_bytes: int


def remove(site: Site, text: str, *, say: Say) -> Removed:
    """Remove a tag of the site's, then what no other names, with pushes paused meanwhile; nodes keep what they have.

    Raises:
        UsageError: there is no such image.
        HostError: the registry does not answer, or the blobs could not be collected.
    """
    name = site.parse(text)
    with site.inside() as registry:
        path = f"/v2/{name.path}/manifests/{name.reference}"
        reply = registry.get("GET", path, 200, 404)
        if reply.status == 404 or name.digest:
            raise UsageError(
                f"the site's registry has no {name.said(site.own)}",
                details="what is on the ISO goes with the ISO" if not name.digest else "a digest is no tag",
                resolution="'caisson images list' shows what there is; write NAME:TAG",
            )
        digest = reply.headers["Docker-Content-Digest"]
        before = used_bytes(site.paths)
        image_removals.note(Removal(name.path, name.tag, digest), site.paths)
        with paused(site.paths):
            say(f"{name.said(site.own)}: removed; pushes wait until its blobs are")
            take_tag(registry, name.path, name.tag, digest)
            collect(say)
    return Removed(name.said(site.own), digest, max(0, before - used_bytes(site.paths)))


def take_tag(registry: Registry, path: str, tag: str, digest: str) -> bool:
    """Delete a tag, and the manifests that only it led to; return whether it was there. Its blobs: :func:`collect`.

    ``digest`` is what the tag had: its manifest goes, too, where a run that was cut off has deleted the tag alone.
    """
    place = f"/v2/{path}/manifests"
    found = registry.get("HEAD", f"{place}/{tag}", 200, 404)
    if found.status == 200:
        registry.get("DELETE", f"{place}/{tag}", 202, 404)
    for one in dict.fromkeys((found.headers.get("Docker-Content-Digest", digest), digest)):
        reply = registry.get("GET", f"{place}/{one}", 200, 404)
        if reply.status == 200:
            _forget(registry, path, one, json.loads(reply.body))
    return found.status == 200


def _forget(registry: Registry, path: str, digest: str, manifest: Mapping[str, Any]) -> None:
    """Delete the manifests that only this tag led to: itself, and those of its index."""
    kept: set[str] = set()
    for tag in registry.tags(path):
        reply = registry.get("GET", f"/v2/{path}/manifests/{tag}", 200, 404)
        if reply.status == 200:
            kept.add(reply.headers["Docker-Content-Digest"])
            kept.update(str(entry["digest"]) for entry in json.loads(reply.body).get("manifests", ()))
    for found in (digest, *(str(entry["digest"]) for entry in manifest.get("manifests", ()))):
        if found not in kept:
            registry.get("DELETE", f"/v2/{path}/manifests/{found}", 202, 404)


@contextmanager
def paused(paths: Paths) -> Iterator[None]:
    """Let nginx take no push meanwhile: a blob that was pushed and that nothing names yet would be collected."""
    write_file(paths.pushes_paused_file, "")
    try:
        yield
    finally:
        push_login.let_push_again(paths)


def collect(say: Say) -> None:
    """Let the registry remove the blobs that no manifest names.

    Source: distribution 3.1, "Garbage collection": nothing may be pushed meanwhile; what is read goes on.
    """
    asked = ["crictl", "ps", "--quiet", "--state", "Running", *containers.selection("registry")]
    found = run(asked, timeout_s=ASK_TIMEOUT_S).stdout.split()
    if not found:
        raise HostError(
            "the registry does not run",
            details="the tag is removed, its blobs are not",
            resolution=f"see: {containers.listing('registry')}; then run the same command again",
        )
    say("the blobs that nothing names any more; 'pull' goes on, 'push' waits")
    run(
        ["crictl", "exec", found[0], "registry", "garbage-collect", CONFIGURATION_FILE],
        timeout_s=COLLECT_TIMEOUT_S,
    )


def used_bytes(paths: Paths) -> int:
    """Return what the blobs of the registry take."""
    return sum(file.stat().st_size for _, file in blob_files(paths))


def blob_files(paths: Paths) -> Iterator[tuple[str, Path]]:
    """Yield digest and file of each blob of the registry. Source: distribution 3.1, registry/storage/paths.go."""
    for file in sorted(paths.at(BLOBS_DIR).glob("[0-9a-f][0-9a-f]/*/data")):
        yield f"sha256:{file.parent.name}", file


# ---- verify ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A blob that is not what its name says, or is not there, and the images that need it."""

    digest: str
    what: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """What was compared, and what is wrong."""

    blobs: int
    size_bytes: int
    faults: tuple[Fault, ...]


def verify(site: Site, *, say: Say) -> Verified:
    """Compare every blob of the site's registry with its digest, and look for those that are named and not there.

    Raises:
        HostError: the registry does not answer.
    """
    bad: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for digest, file in blob_files(site.paths):
        sizes[digest] = file.stat().st_size
        say(f"{digest[:19]}, {format_bytes(sizes[digest])}")
        if _digest_of(file) != digest:
            bad[digest] = "has other bytes"
    users: dict[str, set[str]] = {}
    with site.inside() as registry:
        for path in registry.names():
            for tag in registry.tags(path):
                for digest in _needed(registry, site.paths, path, tag, bad):
                    users.setdefault(digest, set()).add(image_names.of_path(path, tag).said(site.own))
    missing = {digest: "is not there" for digest in users if digest not in sizes}
    faults = [
        Fault(digest, what, tuple(sorted(users.get(digest, ()))))
        for digest, what in sorted({**bad, **missing}.items())
    ]
    return Verified(len(sizes), sum(sizes.values()), tuple(faults))


def _needed(registry: Registry, paths: Paths, path: str, tag: str, bad: Iterable[str]) -> Sequence[str]:
    """Return all that a tag needs, as far as it can be read: a manifest that is damaged names nothing."""
    link = paths.at(f"{REPOSITORIES_DIR}/{path}/_manifests/tags/{tag}/current/link")
    try:
        digest = link.read_text(encoding="ascii").strip()
    except OSError:
        return []  # removed meanwhile
    reply = registry.ask("GET", f"/v2/{path}/manifests/{tag}")
    if reply.status != 200 or digest in bad:
        return [digest]
    return [digest, *(found for found, _ in _blobs(registry, path, json.loads(reply.body)))]


def _digest_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
