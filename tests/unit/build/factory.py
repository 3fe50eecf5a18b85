# SPDX-License-Identifier: Apache-2.0
"""Small real things to build from: RPMs of a kilobyte, images of two layers, a store and its lock.

Everything is made in memory from the arguments alone, so that tests know every byte and need no tool.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import sqlite3
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from build.base.plan import Step, Workspace
from build.bundle.nginxmaps import ManifestType
from build.bundle.product import Product
from build.inventory.model import (
    Blob,
    ComposedImage,
    Descriptor,
    Digest,
    ImageRole,
    Inventory,
    Lock,
    LockedComposed,
    LockedImage,
    LockedKey,
    LockedManifest,
    LockedPackage,
    LockedPython,
    Profile,
    Reference,
    User,
    WantedImage,
    WantedManifest,
    WantedPackage,
    WantedPython,
)
from build.project import Project
from build.store.objects import Store

EPOCH = 1_760_000_000
BUILD_TIME = 1_750_000_000

# ---------------------------------------------------------------- RPM

_INT16, _INT32, _STRING, _BINARY, _STRINGS, _TEXT = 3, 4, 6, 7, 8, 9
_Tag = tuple[int, int, int, bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A file of a tiny RPM: a regular file, a directory (``is_dir``) or a symbolic link (``link``)."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    owner: str = "root"
    is_dir: bool = False
    link: str = ""
    capabilities: str = ""

    @property
    def whole_mode(self) -> int:
        if self.is_dir:
            return 0o040000 | self.mode
        return 0o120777 if self.link else 0o100000 | self.mode

    @property
    def content(self) -> bytes:
        return self.link.encode() or self.data


def tiny_rpm(
    name: str,
    version: str = "1.0",
    release: str = "1.el9",
    *,
    arch: str = "noarch",
    members: Sequence[Member] = (),
    requires: Sequence[str] = (),
) -> bytes:
    """Return a binary RPM, version 4, payload in gzip, not signed. It provides its name."""
    files = sorted(members, key=lambda member: member.path)
    payload = gzip.compress(_cpio(files), mtime=0)
    header = _header(
        63,
        [
            _strings(1000, name), _strings(1001, version), _strings(1002, release),
            _texts(1004, f"Tiny {name}"), _texts(1005, f"A tiny package {name}."),
            _ints(1006, BUILD_TIME), _strings(1007, "builder"),
            _ints(1009, sum(len(member.content) for member in files)),
            _strings(1014, "MIT"), _texts(1016, "Unspecified"), _strings(1021, "linux"), _strings(1022, arch),
            *_file_tags(files),
            _strings(1044, f"{name}-{version}-{release}.src.rpm"),
            _many(1047, [name]), _ints(1112, 8), _many(1113, [f"{version}-{release}"]),
            *_require_tags(requires),
            _strings(1124, "cpio"), _strings(1125, "gzip"), _strings(1126, "9"),
            _many(5092, [hashlib.sha256(payload).hexdigest()]), _ints(5093, 8),
        ],
    )  # fmt: skip
    signature = _header(
        62,
        [
            _strings(269, hashlib.sha1(header, usedforsecurity=False).hexdigest()),
            _strings(273, hashlib.sha256(header).hexdigest()),
            _ints(1000, len(header) + len(payload)),
        ],
    )
    title = f"{name}-{version}-{release}".encode()
    lead = struct.pack(">4sBBhh66shh16s", b"\xed\xab\xee\xdb", 3, 0, 0, 1, title, 1, 5, b"")
    return lead + signature + b"\0" * (-len(signature) % 8) + header + payload


def tiny_rpmdb(*rpms: bytes) -> bytes:
    """Return a database of rpm in SQLite's form, with the headers of these packages."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "rpmdb.sqlite")
        with contextlib.closing(sqlite3.connect(file)) as base:
            base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
            base.executemany("INSERT INTO Packages (blob) VALUES (?)", [(header_blob(rpm),) for rpm in rpms])
            base.commit()
        return file.read_bytes()


def header_blob(rpm: bytes) -> bytes:
    """Return the header of an RPM as databases keep it: without its magic."""
    header, start = 0, 96
    for _ in range(2):
        start += -start % 8
        count, size = struct.unpack_from(">II", rpm, start + 8)
        header, start = start, start + 16 + 16 * count + size
    return rpm[header + 8 : start]


def _require_tags(names: Sequence[str]) -> list[_Tag]:
    if not names:
        return []
    return [_ints(1048, *[0] * len(names)), _many(1049, names), _many(1050, [""] * len(names))]


def _file_tags(files: Sequence[Member]) -> list[_Tag]:
    if not files:
        return []
    directories = sorted({_parent(member.path) for member in files})
    digests = [hashlib.sha256(m.data).hexdigest() if not (m.is_dir or m.link) else "" for m in files]
    count = len(files)
    return [
        _ints(1028, *(len(member.content) for member in files)),
        (1030, _INT16, count, b"".join(struct.pack(">H", member.whole_mode) for member in files)),
        (1033, _INT16, count, b"\0\0" * count),
        _ints(1034, *([BUILD_TIME] * count)),
        _many(1035, digests),
        _many(1036, [member.link for member in files]),
        _ints(1037, *([0] * count)),
        _many(1039, [member.owner for member in files]),
        _many(1040, [member.owner for member in files]),
        _ints(1045, *([0xFFFFFFFF] * count)),
        _ints(1095, *([1] * count)),
        _ints(1096, *range(1, count + 1)),
        _many(1097, [""] * count),
        _ints(1116, *(directories.index(_parent(member.path)) for member in files)),
        _many(1117, [member.path.rsplit("/", 1)[1] for member in files]),
        _many(1118, directories),
        *(
            [_many(5010, [member.capabilities for member in files])]
            if any(m.capabilities for m in files)
            else []
        ),
        _ints(5011, 8),
    ]


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0] + "/"


def _strings(tag: int, text: str) -> _Tag:
    return tag, _STRING, 1, text.encode() + b"\0"


def _texts(tag: int, text: str) -> _Tag:
    return tag, _TEXT, 1, text.encode() + b"\0"


def _many(tag: int, texts: Sequence[str]) -> _Tag:
    return tag, _STRINGS, len(texts), b"".join(text.encode() + b"\0" for text in texts)


def _ints(tag: int, *values: int) -> _Tag:
    return tag, _INT32, len(values), b"".join(struct.pack(">I", value) for value in values)


def _header(region: int, tags: Sequence[_Tag]) -> bytes:
    """Return a header whose tags are all in its immutable region. Source: rpm, docs/manual/hregions.md."""
    index, store = b"", b""
    for tag, kind, count, data in sorted(tags):
        alignment = {_INT16: 2, _INT32: 4}.get(kind, 1)
        store += b"\0" * (-len(store) % alignment)
        index += struct.pack(">IIII", tag, kind, len(store), count)
        store += data
    size = 16 * (len(tags) + 1)
    trailer = struct.pack(">IIiI", region, _BINARY, -size, 16)
    first = struct.pack(">IIII", region, _BINARY, len(store), 16)
    store += trailer
    return struct.pack(">3sB4sII", b"\x8e\xad\xe8", 1, b"", len(tags) + 1, len(store)) + first + index + store


def _cpio(files: Sequence[Member]) -> bytes:
    out = b""
    for inode, member in enumerate([*files, None], start=1):
        name = f".{member.path}" if member else "TRAILER!!!"
        data = member.content if member else b""
        fields = (inode, member.whole_mode if member else 0, 0, 0, 1, BUILD_TIME, len(data), 0, 0, 0, 0,
                  len(name) + 1, 0)  # fmt: skip
        out += b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return out


# ---------------------------------------------------------------- images


def tar_layer(files: Mapping[str, bytes | str]) -> bytes:
    """Return an uncompressed layer; text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(data: bytes) -> bytes:
    """Return data in gzip, without a date."""
    return gzip.compress(data, mtime=0)


def as_json(value: object) -> bytes:
    """Return JSON that is not canonical on purpose: upstream's is not either."""
    return json.dumps(value, indent=3).encode()


@dataclasses.dataclass(frozen=True)
class Pot:
    """A store that tests put bytes into."""

    store: Store

    def put(self, data: bytes) -> Blob:
        digest = Digest.of_bytes(data)
        self.store.add_bytes(data, digest)
        return Blob(digest=digest, size_bytes=len(data))

    def image(
        self,
        image_id: str,
        reference: str,
        *,
        layers: Sequence[bytes],
        kind: ManifestType = ManifestType.OCI_MANIFEST,
        settings: Mapping[str, Any] | None = None,
        is_indexed: bool = False,
    ) -> LockedImage:
        """Store an image of the given (uncompressed) layers, below an index when asked for."""
        config = self.put(
            as_json(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": dict(settings or {}),
                    "rootfs": {
                        "type": "layers",
                        "diff_ids": [str(Digest.of_bytes(layer)) for layer in layers],
                    },
                }
            )
        )
        blobs = [self.put(zipped(layer)) for layer in layers]
        is_docker = kind is ManifestType.DOCKER_MANIFEST
        names = (
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
            if is_docker
            else ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        )
        manifest = self.put(
            as_json(
                {
                    "schemaVersion": 2,
                    "mediaType": kind.value,
                    "config": _descriptor(names[0], config),
                    "layers": [_descriptor(names[1], blob) for blob in blobs],
                }
            )
        )
        child = Descriptor(digest=manifest.digest, size_bytes=manifest.size_bytes, media_type=kind.value)
        top = self._index(child, is_docker=is_docker) if is_indexed else child
        return LockedImage(
            id=image_id,
            reference=Reference.parse(reference),
            digest=top.digest,
            media_type=top.media_type,
            size_bytes=top.size_bytes,
            child=child if is_indexed else None,
            config=config,
            layers=tuple(blobs),
        )

    def _index(self, child: Descriptor, *, is_docker: bool) -> Descriptor:
        kind = ManifestType.DOCKER_LIST if is_docker else ManifestType.OCI_INDEX
        absent = Blob(digest=Digest.of_bytes(b"another architecture"), size_bytes=20)
        present = Blob(digest=child.digest, size_bytes=child.size_bytes)
        index = self.put(
            as_json(
                {
                    "schemaVersion": 2,
                    "mediaType": kind.value,
                    "manifests": [
                        _descriptor(child.media_type, absent)
                        | {"platform": {"os": "linux", "architecture": "arm64"}},
                        _descriptor(child.media_type, present)
                        | {"platform": {"os": "linux", "architecture": "amd64"}},
                    ],
                }
            )
        )
        return Descriptor(digest=index.digest, size_bytes=index.size_bytes, media_type=kind.value)

    def package(
        self,
        name: str,
        version: str = "1.0",
        release: str = "1.el9",
        *,
        members: Sequence[Member] = (),
        required_by: Sequence[str] = (),
        requires: Sequence[str] = (),
    ) -> LockedPackage:
        """Store a tiny RPM."""
        blob = self.put(tiny_rpm(name, version, release, members=members, requires=requires))
        return LockedPackage(
            name=name,
            epoch=0,
            version=version,
            release=release,
            arch="noarch",
            repository="baseos",
            location=f"Packages/{name}.rpm",
            size_bytes=blob.size_bytes,
            digest=blob.digest,
            requested=not required_by,
            required_by=tuple(required_by),
        )

    def wheel(self, name: str, version: str) -> LockedPython:
        """Store a pure wheel with one package."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, text in (
                (f"{name}/__init__.py", f"NAME = {name!r}\n"),
                (f"{name}-{version}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\n"),
            ):
                archive.writestr(zipfile.ZipInfo(path), text)
        return self._python(name, version, f"{name}-{version}-py3-none-any.whl", buffer.getvalue())

    def sdist(self, name: str, version: str, files: Mapping[str, bytes]) -> LockedPython:
        """Store an sdist with the given files below its top directory."""
        layer = tar_layer({f"{name}-{version}/{path}": data for path, data in files.items()})
        return self._python(name, version, f"{name}-{version}.tar.gz", zipped(layer))

    def _python(self, name: str, version: str, file: str, data: bytes) -> LockedPython:
        blob = self.put(data)
        return LockedPython(
            name=name, version=version, file=file, digest=blob.digest, size_bytes=blob.size_bytes
        )


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size_bytes}


# ---------------------------------------------------------------- a whole lock

VERSIONS = {
    "caisson": "0.1.0",
    "kubernetes": "1.36.4",
    "coredns": "v1.14.2",
    "etcd": "3.6.8-0",
    "pause": "3.10.2",
    "salt": "3008.3",
}
_K8S = "registry.k8s.io"
IMAGES = {
    "kube-apiserver": f"{_K8S}/kube-apiserver:v1.36.4",
    "kube-controller-manager": f"{_K8S}/kube-controller-manager:v1.36.4",
    "kube-scheduler": f"{_K8S}/kube-scheduler:v1.36.4",
    "kube-proxy": f"{_K8S}/kube-proxy:v1.36.4",
    "coredns": f"{_K8S}/coredns/coredns:v1.14.2",
    "etcd": f"{_K8S}/etcd:3.6.8-0",
    "pause": f"{_K8S}/pause:3.10.2",
    "nginx": "docker.io/library/nginx:1.30",
}
MANIFEST = b"""\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: node}
spec: {template: {spec: {containers: [{image: "docker.io/library/nginx:1.30"}]}}}
"""
SALT_MASTER = ComposedImage(
    id="salt-master",
    reference=Reference.parse("caisson.internal/salt-master:3008.3"),
    base="base-os",
    packages=("salt-master",),
    purpose="configures the nodes",
    preload=True,
    users=(User(name="salt", uid=450, gid=450, home="/opt/salt", shell="/sbin/nologin"),),  # noqa: S604 - a word of passwd(5)
    entrypoint=("/usr/bin/salt-master",),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """A lock, its inventory and the store that holds all of it."""

    lock: Lock
    inventory: Inventory
    pot: Pot

    @property
    def store(self) -> Store:
        return self.pot.store

    @property
    def lock_image_ids(self) -> tuple[str, ...]:
        return tuple(image.id for image in self.lock.images)


def make_world(root: Path, *, ballast_bytes: int = 0) -> World:
    """Make a whole small world: nine images (an index, Docker manifests), one composed, packages, keys.

    ``ballast_bytes`` makes one layer larger: an image for checkisomd5 has to have a mebibyte.
    """
    pot = Pot(Store(root / "store"))
    images = [
        pot.image(
            image_id,
            reference,
            layers=[tar_layer({"etc/os-release": b"ID=tiny\n"}), tar_layer({f"bin/{image_id}": b"#!" * 50})],
            kind=ManifestType.DOCKER_MANIFEST if image_id in ("nginx", "etcd") else ManifestType.OCI_MANIFEST,
            is_indexed=image_id in ("pause", "nginx"),
        )
        for image_id, reference in IMAGES.items()
    ]
    images[0] = pot.image(
        "kube-apiserver",
        IMAGES["kube-apiserver"],
        layers=[tar_layer({"bin/kube-apiserver": hashlib.shake_256(b"ballast").digest(ballast_bytes)})],
    )
    base_files: dict[str, bytes | str] = {
        "lib": "usr/lib",
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
    }
    base = pot.image(
        "base-os",
        "docker.io/library/almalinux:9.8",
        layers=[tar_layer(base_files)],
        kind=ManifestType.DOCKER_MANIFEST,
        settings={"Env": ["PATH=/usr/bin"], "Cmd": ["/bin/bash"]},
        is_indexed=True,
    )
    packages = [
        pot.package(
            "salt",
            "3008.3",
            "0",
            required_by=["salt-master"],
            members=[
                Member(path="/opt/salt", is_dir=True, mode=0o750, owner="salt"),
                Member(path="/opt/salt/run.py", data=b"print('salt')\n", mode=0o755),
                Member(path="/lib/salt.conf", data=b"a: 1\n"),
            ],
        ),
        pot.package(
            "salt-master",
            "3008.3",
            "0",
            members=[
                Member(path="/opt/salt", is_dir=True, mode=0o750, owner="salt"),
                Member(path="/usr/bin/salt-master", link="/opt/salt/run.py"),
            ],
        ),
        pot.package(
            "kubelet", "1.36.4", "150500.1.1", members=[Member(path="/usr/bin/kubelet", data=b"elf")]
        ),
    ]
    key = pot.put(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    manifest = pot.put(MANIFEST)
    lock = Lock(
        profile_name="test",
        is_lab=True,
        inventory_digest=Digest.of_bytes(b"inventory"),
        source_date_epoch=EPOCH,
        versions=VERSIONS,
        baselines=(),
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        images=tuple(sorted((*images, base), key=lambda image: image.id)),
        composed=(
            LockedComposed(
                id="salt-master",
                reference=SALT_MASTER.reference,
                base="base-os",
                packages=("salt", "salt-master"),
            ),
        ),
        manifests=(
            LockedManifest(
                id="cni",
                url="https://example.com/cni.yaml",
                path="cni.yaml",
                digest=manifest.digest,
                size_bytes=manifest.size_bytes,
            ),
        ),
        python=(
            pot.wheel("attrs", "25.4.0"),
            pot.sdist("PyYAML", "6.0.2", {"lib/yaml/__init__.py": b"", "setup.py": b"", "LICENSE": b"MIT\n"}),
        ),
        keys=(
            LockedKey(
                repository="baseos", fingerprint="A" * 40, digest=key.digest, size_bytes=key.size_bytes
            ),
        ),
    )
    return World(lock=lock, inventory=inventory_of(lock), pot=pot)


def inventory_of(lock: Lock) -> Inventory:
    """Return an inventory that would have given the lock."""
    return Inventory(
        versions=lock.versions,
        images=tuple(
            WantedImage(
                id=image.id,
                reference=image.reference,
                purpose=f"purpose of {image.id}",
                preload=image.id in ("pause", "nginx"),
                role=ImageRole.BASE if image.id == "base-os" else ImageRole.RUN,
            )
            for image in lock.images
        ),
        composed=(SALT_MASTER,),
        manifests=(
            WantedManifest(
                id="cni", url="https://example.com/cni.yaml", path="cni.yaml", purpose="the pod network"
            ),
        ),
        baselines=(),
        packages=tuple(
            WantedPackage(name=name, repositories=("baseos",), purpose=f"purpose of {name}")
            for name in ("kubelet", "salt-master")
        ),
        python=tuple(
            WantedPython(name=item.name, version=item.version, purpose="the installer")
            for item in lock.python
        ),
    )


# ---------------------------------------------------------------- a whole build


def write_sources(root: Path) -> Path:
    """Write a small checkout: an installer and a Salt tree, with leftovers that must not get onto an ISO."""
    files = {
        "installer/bootstrap.sh": "#!/bin/bash\nexec true\n",
        "installer/cli/main.py": "print('hello')\n",
        "installer/__pycache__/cli.pyc": "x",
        "console/__init__.py": "x = 1\n",
        "console/static/app.js": "export {};\n",
        "salt/top.sls": "base: {}\n",
        "salt/calico/init.sls": "{}\n",
        "salt/.top.sls.swp": "x",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@dataclasses.dataclass(frozen=True)
class _Project(Project):
    """A project whose lock, inventory and store are a world's."""

    world: World = dataclasses.field(kw_only=True)

    @property
    def profile(self) -> Profile:
        return Profile(
            name="test",
            is_lab=self.lock.is_lab,
            file=self.root_dir / "profiles" / "test.yaml",
            lock_file=self.root_dir / "test.lock",
            versions={},
            repositories={},
            registries={},
            manifests={},
        )

    @property
    def lock(self) -> Lock:
        return self.world.lock

    @property
    def inventory(self) -> Inventory:
        return self.world.inventory

    @property
    def store(self) -> Store:
        return self.world.store

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.out_dir, "test")

    @property
    def product(self) -> Product:
        return Product(lock=self.lock, inventory=self.inventory, lock_digest=Digest.of_bytes(b"lock"))


def make_project(world: World, checkout: Path) -> Project:
    """Return the project of a world in a checkout that :func:`write_sources` made."""
    return _Project(checkout, "test", world=world)


def all_steps(project: Project) -> list[Step]:
    """Return every step of a bundle, in the order in which doit runs them."""
    return [
        *project.plan_rpms(),
        *project.plan_images(),
        *project.plan_salt(),
        *project.plan_installer(),
        *project.plan_iso(),
    ]


def build_bundle(world: World, checkout: Path) -> Path:
    """Run every step, checking that its outputs are those it planned, and return the ISO."""
    project = make_project(world, write_sources(checkout))
    for step in all_steps(project):
        assert all(path.exists() for path in step.inputs), step.name
        step.run()
        assert all(path.exists() for path in step.outputs), step.name
    return project.iso_file
