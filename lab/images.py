# SPDX-License-Identifier: Apache-2.0
"""Make the container images of the lab's upstream: upstream's names and tags around the lab's own bytes.

    Debian packages --mmdebstrap--> root.tar --+
    Go programs, small texts ------------------+--> layers (gzip) --> configuration --> manifest --> index

An image is described first (``describe_images``, pure but for the question where a program is) and made
afterwards (``make_images``). A root and a layer are made once for each digest of their inputs and kept
(lab/cache.py); configurations and manifests are a few hundred bytes and made each time. The flavours vary on
purpose, because the real ones do: OCI and Docker manifests, with an index and without, an index whose other
platform is missing, some with an attestation beside the image.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from lab import golang, rpmdatabase, rpms
from lab.cache import digest_of, file_sha256, lab_dir, produce
from lab.errors import LabError
from lab.progress import step
from lab.root import OS_RELEASE
from lab.run import run

#: Part of every key: raise it when the code below makes other bytes of the same inputs.
FORMAT = "1"
#: No file of an image is younger, and every configuration says it was created then (2026-09-02).
CREATED_EPOCH = 1788307200
CREATED = "2026-09-02T00:00:00Z"
COMPRESSION_LEVEL = 6
MAKERS = 2
ROOT_TIMEOUT_S = 900

#: Debian's programs under upstream's names: tags that tell the truth.
NGINX_DEBIAN_VERSION = "1.26.3"
NGINX_TAG = f"{NGINX_DEBIAN_VERSION}-debian-stand-in"
BASE_OS_TAG = "9-debian12-stand-in"

SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The file capability cap_net_bind_service=ep as the kernel stores it (capability.h, VFS_CAP_REVISION_2).
BIND_SERVICE_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")

BASE_PACKAGES = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "findutils", "grep", "libc-bin",
    "mawk", "netbase", "sed",
)  # fmt: skip
NETWORK_PACKAGES = ("conntrack", "iproute2", "iptables", "kmod", "nftables")
CALICO_NODE_PACKAGES = (*NETWORK_PACKAGES, "ca-certificates", "ipset", "procps", "runit")
#: What a Python of its own under /opt may be linked with, and what a small EL host has besides.
BASE_OS_PACKAGES = (
    "ca-certificates", "libbz2-1.0", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgdbm6", "liblzma5",
    "libncursesw6", "libnsl2", "libreadline8", "libsqlite3-0", "libssl3", "libstdc++6", "libtirpc3",
    "libuuid1", "libzstd1", "login", "openssl", "passwd", "procps", "tar", "tzdata", "zlib1g",
)  # fmt: skip

#: What AlmaLinux's own image is made from; what these require comes with them.
BASE_OS_RPMS = (
    "almalinux-release", "bash", "coreutils", "filesystem", "glibc-minimal-langpack", "openssl-libs", "setup",
    "shadow-utils", "systemd-libs", "tzdata",
)  # fmt: skip

#: Nothing is installed as dpkg would, so its database is written from what was unpacked.
_RECORD = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb --field "$deb"; '
    'printf "Status: install ok unpacked\\n\\n"; done > "$1"/var/lib/dpkg/status'
)

CNI_PROGRAMS = ("bandwidth", "host-local", "loopback", "portmap", "tuning")

#: Left out of every root: nothing here is read by a program that runs in a container.
_DROPPED = (
    "dev", "etc/apt", "etc/cron.daily", "etc/dpkg", "etc/fstab", "etc/hostname", "etc/init.d",
    "etc/logrotate.d", "etc/systemd", "lib/systemd", "usr/lib/systemd", "usr/lib/udev",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl-base", "usr/bin/perl",
    "usr/share/bash-completion", "usr/share/bug", "usr/share/doc", "usr/share/i18n", "usr/share/info",
    "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/perl5", "var/cache/apt",
    "var/cache/debconf", "var/cache/ldconfig", "var/lib/apt", "var/lib/dpkg", "var/log/apt",
)  # fmt: skip
#: Of what is left out, what scanners of images read.
_KEPT = ("var/lib/dpkg", "var/lib/dpkg/status")
#: What update-alternatives would have linked (packages are unpacked, not configured).
_ALTERNATIVES: Mapping[str, str] = {
    "usr/bin/awk": "mawk",
    "usr/bin/which": "which.debianutils",
    "usr/bin/pager": "more",
    **{
        f"usr/sbin/{family}{verb}": f"{family}-nft{verb}"
        for family in ("arptables", "ebtables", "ip6tables", "iptables")
        for verb in ("", "-restore", "-save")
    },
}


class Kind(StrEnum):
    """What an entry of a layer is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"


class Flavour(StrEnum):
    """Whose media types an image's manifests carry."""

    OCI = "oci"
    DOCKER = "docker"


class Index(StrEnum):
    """What stands above the linux/amd64 manifest."""

    NONE = "none"
    FOREIGN = "foreign"  # an index with a small arm64 image beside ours
    ATTESTED = "attested"  # the same, and an attestation manifest of platform unknown/unknown
    SPARSE = "sparse"  # an index that names an arm64 manifest which the registry does not have


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member of a layer; ``path`` has no leading slash; a file has ``source`` or else ``data``."""

    path: str
    kind: Kind = Kind.FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = CREATED_EPOCH
    target: str = ""
    source: Path | None = None
    data: bytes = field(default=b"", repr=False)
    capability: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user with a group of the same name and number."""

    name: str
    uid: int
    home: str = "/nonexistent"


@dataclass(frozen=True, kw_only=True)
class Root:
    """A user land: Debian packages unpacked by mmdebstrap, with what they depend on.

    A kept root is known by its package names, not by what Debian answered that day: remove it to have newer
    packages.
    """

    suite: str
    packages: tuple[str, ...]

    @property
    def kept_dir(self) -> Path:
        """Return where the root is kept, made or not."""
        key = digest_of({"format": FORMAT, "arguments": "\0".join(self.arguments)})
        return lab_dir("roots") / self.suite / key

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return what mmdebstrap is told, but for the file to write.

        Packages are only unpacked. The cache of libraries is made all the same: programs ask it where a
        library is (Salt finds libcrypto by ``ldconfig -p``).
        """
        return (
            "--variant=extract",
            "--quiet",
            f"--include={','.join(self.packages)}",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            '--extract-hook=chroot "$1" /sbin/ldconfig',
            f"--extract-hook={_RECORD}",
            self.suite,
        )


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: a root, less what the root below already has, then the entries in ``added``."""

    comment: str
    root: Root | None = None
    below: Root | None = None
    accounts: tuple[Account, ...] = ()
    added: tuple[Entry, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image is to be: reference, layers from the bottom up, run-time configuration, flavour."""

    id: str
    reference: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = (SEARCH_PATH,)
    user: str = ""
    working_dir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    flavour: Flavour = Flavour.OCI
    index: Index = Index.NONE


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob: ``digest`` with its algorithm, size as served; its bytes: in ``file`` or else in ``data``."""

    digest: str
    size_bytes: int
    file: Path | None = None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class MadeLayer:
    """A layer's compressed blob, the digest of its tar (``diff_id``), what it is for."""

    blob: Blob
    diff_id: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest or index: its exact text, the media type it is served with."""

    digest: str
    media_type: str
    text: str


@dataclass(frozen=True, kw_only=True)
class MadeImage:
    """An image as it is to be pushed: ``manifests`` children first, the one that the tag names last."""

    id: str
    reference: str
    manifests: tuple[Manifest, ...]
    blobs: tuple[Blob, ...]

    @property
    def repository(self) -> str:
        """Return the name in the lab's registry: upstream's registry host is its first component."""
        return self.reference.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """Return the tag."""
        return self.reference.rpartition(":")[2]

    @property
    def digest(self) -> str:
        """Return the digest that the tag names."""
        return self.manifests[-1].digest

    @property
    def size_bytes(self) -> int:
        """Return the sum of all blobs as served, each counted once."""
        return sum({blob.digest: blob.size_bytes for blob in self.blobs}.values())


_MEDIA_TYPES: Mapping[Flavour, Mapping[str, str]] = {
    Flavour.OCI: {
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
        "config": "application/vnd.oci.image.config.v1+json",
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "index": "application/vnd.oci.image.index.v1+json",
    },
    Flavour.DOCKER: {
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "config": "application/vnd.docker.container.image.v1+json",
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    },
}


# ------------------------------------------------------------------------------------------------ description

BOOKWORM_BASE = Root(suite="bookworm", packages=BASE_PACKAGES)
TRIXIE_BASE = Root(suite="trixie", packages=BASE_PACKAGES)


def directory(path: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> Entry:
    """Return a directory."""
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid)


def symlink(path: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target)


def hard_link(path: str, target: str, mode: int) -> Entry:
    """Return a second name for a file; ``mode`` must be the file's, for who unpacks it sets it again."""
    return Entry(path=path, kind=Kind.HARDLINK, mode=mode, target=target)


def program(path: str, source: Path) -> Entry:
    """Return an executable with the bytes of ``source``."""
    return Entry(path=path, mode=0o755, source=source)


def text_file(path: str, text: str, mode: int = 0o644) -> Entry:
    """Return a file with this text."""
    return Entry(path=path, mode=mode, data=text.encode())


def describe_images(
    find_program: Callable[[str, str], Path], calico_filesystem_dir: Path, rpm_database: bytes
) -> tuple[Image, ...]:
    """Describe every image that the lab serves, ordered by id.

    ``find_program`` answers where a compiled program is, by component and name; ``calico_filesystem_dir`` is
    ``node/filesystem`` of Calico's module; ``rpm_database`` says what the stand-in for AlmaLinux's image has.
    Versions are those of ``lab.golang``.
    """
    version = {known.name: known.version for known in golang.COMPONENTS}
    kubernetes, calico = version["kubernetes"], version["calico"]
    base = Layer(comment="Debian 12 base", root=BOOKWORM_BASE)

    def programs(component: str, *paths: str) -> Layer:
        entries = [program(path, find_program(component, path.rpartition("/")[2])) for path in paths]
        return Layer(comment=" ".join(path.rpartition("/")[2] for path in paths), added=tuple(entries))

    def on_base(comment: str, packages: tuple[str, ...]) -> Layer:
        root = _root("bookworm", *BASE_PACKAGES, *packages)
        return Layer(comment=comment, root=root, below=BOOKWORM_BASE)

    scratch = Layer(
        comment="accounts and an empty directory",
        added=(
            text_file("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
            text_file("etc/nsswitch.conf", "hosts: files dns\n"),
            text_file("etc/passwd", "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n"),
            directory("tmp", 0o1777),
        ),
    )
    coredns = program("coredns", find_program("coredns", "coredns"))
    images = [
        Image(
            id=name,
            reference=f"registry.k8s.io/{name}:{kubernetes}",
            layers=(scratch, programs("kubernetes", f"usr/local/bin/{name}")),
            entrypoint=(f"/usr/local/bin/{name}",),
            flavour=Flavour.DOCKER,
            index=Index.FOREIGN,
        )
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    images += [
        Image(
            id="base-os",
            reference=f"docker.io/library/almalinux:{BASE_OS_TAG}",
            layers=(
                base,
                on_base("libraries and certificates", BASE_OS_PACKAGES),
                Layer(
                    comment="what AlmaLinux says of itself",
                    added=(
                        text_file("usr/lib/os-release", OS_RELEASE),
                        text_file("var/lib/dpkg/.wh.status", ""),
                        Entry(path="var/lib/rpm/rpmdb.sqlite", data=rpm_database),
                    ),
                ),
            ),
            command=("/bin/bash",),
            environment=(SEARCH_PATH, "LANG=C.utf8"),
        ),
        Image(
            id="calico-cni",
            reference=f"quay.io/calico/cni:{calico}",
            layers=(
                programs("cni", *(f"opt/cni/bin/{name}" for name in CNI_PROGRAMS)),
                # Calico's two plugins are one program under two names.
                Layer(
                    comment="Calico's plugins and their installer",
                    added=(
                        program("opt/cni/bin/calico", find_program("calico", "calico")),
                        hard_link("opt/cni/bin/calico-ipam", "opt/cni/bin/calico", 0o755),
                        program("opt/cni/bin/install", find_program("calico", "install")),
                    ),
                ),
            ),
            entrypoint=("/opt/cni/bin/install",),
            environment=(f"{SEARCH_PATH}:/opt/cni/bin",),
            working_dir="/opt/cni/bin",
            flavour=Flavour.DOCKER,
        ),
        Image(
            id="calico-kube-controllers",
            reference=f"quay.io/calico/kube-controllers:{calico}",
            layers=(
                # Its user must be able to write /status, or its own probe ends it.
                Layer(
                    comment="what its own user writes",
                    added=(
                        directory("profiles", 0o777, uid=999),
                        directory("status", 0o777, uid=999),
                        directory("tmp", 0o1777),
                    ),
                ),
                programs("calico", "usr/bin/check-status", "usr/bin/kube-controllers"),
            ),
            entrypoint=("/usr/bin/kube-controllers",),
            user="999",
            flavour=Flavour.DOCKER,
        ),
        Image(
            id="calico-node",
            reference=f"quay.io/calico/node:{calico}",
            layers=(
                base,
                on_base("network tools and runit", CALICO_NODE_PACKAGES),
                Layer(comment="services", added=_calico_node_files(calico_filesystem_dir)),
                programs("calico", "usr/bin/calico-node", "usr/bin/mountns"),
            ),
            command=("/usr/sbin/start_runit",),
            # Compiled without cgo, Felix has but a stub of libbpf; its clean-up of connect-time load
            # balancing would end the process.
            environment=(SEARCH_PATH, "SVDIR=/etc/service/enabled", "FELIX_DebugSkipCTLBCleanup=true"),
        ),
        Image(
            id="coredns",
            reference=f"registry.k8s.io/coredns/coredns:{version['coredns']}",
            layers=(
                scratch,
                Layer(
                    comment="coredns, which may bind port 53 as any user",
                    added=(replace(coredns, capability=BIND_SERVICE_CAPABILITY),),
                ),
            ),
            entrypoint=("/coredns",),
            user="65532:65532",
            working_dir="/",
            ports=("53/tcp", "53/udp"),
            index=Index.SPARSE,
        ),
        Image(
            id="etcd",
            reference=f"registry.k8s.io/etcd:{version['etcd'].removeprefix('v')}-0",
            layers=(
                scratch,
                programs("etcd", "usr/local/bin/etcd"),
                programs("etcd", "usr/local/bin/etcdctl", "usr/local/bin/etcdutl"),
            ),
            entrypoint=("/usr/local/bin/etcd",),
            ports=("2379/tcp", "2380/tcp"),
            flavour=Flavour.DOCKER,
        ),
        Image(
            id="kube-proxy",
            reference=f"registry.k8s.io/kube-proxy:{kubernetes}",
            layers=(
                base,
                on_base("network tools", NETWORK_PACKAGES),
                programs("kubernetes", "usr/local/bin/kube-proxy"),
            ),
            entrypoint=("/usr/local/bin/kube-proxy",),
            flavour=Flavour.DOCKER,
            index=Index.FOREIGN,
        ),
        Image(
            id="nginx",
            reference=f"docker.io/library/nginx:{NGINX_TAG}",
            layers=(
                Layer(comment="Debian 13 base", root=TRIXIE_BASE),
                Layer(
                    comment="nginx",
                    root=_root("trixie", *BASE_PACKAGES, "ca-certificates", "nginx"),
                    below=TRIXIE_BASE,
                    accounts=(Account(name="nginx", uid=101),),
                ),
                Layer(comment="configuration, logs to the two outputs", added=_NGINX_FILES),
            ),
            entrypoint=("/docker-entrypoint.sh",),
            command=("nginx", "-g", "daemon off;"),
            environment=(SEARCH_PATH, f"NGINX_VERSION={NGINX_DEBIAN_VERSION}"),
            ports=("80/tcp",),
            stop_signal="SIGQUIT",
            index=Index.ATTESTED,
        ),
        Image(
            id="pause",
            reference=f"registry.k8s.io/pause:{version['pause']}",
            layers=(programs("pause", "pause"),),
            entrypoint=("/pause",),
            user="65535:65535",
            flavour=Flavour.DOCKER,
            index=Index.FOREIGN,
        ),
        Image(
            id="registry",
            reference=f"docker.io/library/registry:{version['registry'].removeprefix('v')}",
            layers=(
                base,
                on_base("certificates", ("ca-certificates",)),
                programs("registry", "usr/bin/registry"),
                Layer(comment="configuration and entry point", added=_REGISTRY_FILES),
            ),
            entrypoint=("/entrypoint.sh",),
            command=("/etc/distribution/config.yml",),
            environment=(SEARCH_PATH, "OTEL_TRACES_EXPORTER=none"),
            ports=("5000/tcp",),
            volumes=("/var/lib/registry",),
            index=Index.ATTESTED,
        ),
    ]
    return tuple(sorted(images, key=lambda image: image.id))


_NGINX_FILES = (
    text_file(
        "docker-entrypoint.sh",
        """#!/bin/sh
# The image's command as it is: there is nothing to prepare here.
set -eu
exec "$@"
""",
        0o755,
    ),
    text_file(
        "etc/nginx/conf.d/default.conf",
        """server {
    listen 80;
    location / {
        root /usr/share/nginx/html;
        index index.html;
    }
}
""",
    ),
    text_file(
        "etc/nginx/nginx.conf",
        """user nginx;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
""",
    ),
    directory("var/cache/nginx", uid=101, gid=101),
    directory("var/lib/nginx", uid=101, gid=101),
    symlink("var/log/nginx/access.log", "/dev/stdout"),
    symlink("var/log/nginx/error.log", "/dev/stderr"),
)
_REGISTRY_FILES = (
    text_file(
        "entrypoint.sh",
        """#!/bin/sh
# A configuration file means "serve it"; a verb or an option is the registry's; anything else is run.
set -eu
case "${1:-}" in
    *.yml | *.yaml) set -- registry serve "$@" ;;
    serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
""",
        0o755,
    ),
    text_file(
        "etc/distribution/config.yml",
        """version: 0.1
log:
  fields: {service: registry}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /var/lib/registry}
http:
  addr: :5000
  headers: {X-Content-Type-Options: [nosniff]}
health:
  storagedriver: {enabled: true, interval: 10s, threshold: 3}
""",
    ),
    directory("var/lib/registry"),
)


def _calico_node_files(filesystem_dir: Path) -> tuple[Entry, ...]:
    entries = [
        directory("etc/calico/confd/config"),
        directory("var/lib/calico"),
        directory("var/log/calico"),
    ]
    for source in sorted(filesystem_dir.rglob("*")):
        if source.is_file():
            path = source.relative_to(filesystem_dir).as_posix()
            # /sbin is a link in the root below; a file of a Go module has lost its executable bit.
            path = f"usr/{path}" if path.startswith("sbin/") else path
            mode = 0o755 if source.read_bytes().startswith(b"#!") else 0o644
            entries.append(Entry(path=path, mode=0o755 if path == "etc/rc.local" else mode, source=source))
    return tuple(entries)


# ------------------------------------------------------------------------------------------------- user lands


def make_root(root: Root) -> Path:
    """Return the tar of a root, as mmdebstrap left it; have it made unless it is kept."""

    def make(work_dir: Path) -> None:
        with step(f"user land of {root.suite} ({len(root.packages)} packages and what they need)"):
            run(
                ["mmdebstrap", *root.arguments, work_dir / "root.tar"],
                env={"SOURCE_DATE_EPOCH": str(CREATED_EPOCH)},
                timeout_s=ROOT_TIMEOUT_S,
            )

    return produce(root.kept_dir, make) / "root.tar"


def root_entries(tar: BinaryIO, accounts: Iterable[Account] = ()) -> dict[str, Entry]:
    """Return the entries of a root by path, less what no container reads.

    The packages were only unpacked, so what configuring them would have made is made here: accounts,
    alternatives, the certificate bundle, the links in /var. Ownership and modes are the packages'; no file is
    younger than ``CREATED_EPOCH``.
    """
    entries: dict[str, Entry] = {}
    with tarfile.open(fileobj=tar) as archive:
        for member in archive:
            path = member.name.removeprefix("./").rstrip("/")
            if path in ("", ".") or _is_dropped(path):
                continue
            entries[path] = _entry_of(archive, member, path)
    bundle = b"".join(
        entry.data
        for path, entry in sorted(entries.items())
        if path.startswith("usr/share/ca-certificates/") and entry.kind is Kind.FILE
    )
    made = [directory(path) for path in ("dev", "proc", "run", "sys", "var/log")]
    made += [directory(path, 0o1777) for path in ("run/lock", "tmp", "var/tmp")]
    made += [symlink("var/lock", "/run/lock"), symlink("var/run", "/run")]
    made += [
        symlink(path, target)
        for path, target in sorted(_ALTERNATIVES.items())
        if f"{path.rpartition('/')[0]}/{target}" in entries
    ]
    if bundle:
        made.append(Entry(path="etc/ssl/certs/ca-certificates.crt", data=bundle))
    for database, line in (("passwd", "{0}:x:{1}:{1}::{2}:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")):
        if master := entries.get(f"usr/share/base-passwd/{database}.master"):
            own = "".join(line.format(account.name, account.uid, account.home) for account in accounts)
            text = master.data.replace(b":*:", b":x:") + own.encode()
            made.append(Entry(path=f"etc/{database}", data=text))
    entries.update({entry.path: entry for entry in made})
    return entries


def _is_dropped(path: str) -> bool:
    return path not in _KEPT and any(path == name or path.startswith(f"{name}/") for name in _DROPPED)


def _entry_of(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Entry:
    common = Entry(
        path=path,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        mtime=min(int(member.mtime), CREATED_EPOCH),
        target=member.linkname,
    )
    if member.isdir():
        return replace(common, kind=Kind.DIRECTORY)
    if member.issym():
        return replace(common, kind=Kind.SYMLINK, mode=0o777)
    if member.islnk():
        return replace(common, kind=Kind.HARDLINK, target=member.linkname.removeprefix("./"))
    if member.isfile():
        return replace(common, data=cast("BinaryIO", archive.extractfile(member)).read())
    raise LabError(
        f"the user land has {path}, which is no file, directory or link",
        details=f"tar member type {member.type!r}",
        resolution="add its directory to _DROPPED in lab/images.py",
    )


def _root(suite: str, *packages: str) -> Root:
    return Root(suite=suite, packages=tuple(sorted(set(packages))))


# ----------------------------------------------------------------------------------------------------- layers


def make_layer(layer: Layer) -> MadeLayer:
    """Return a layer's blob; have it made unless one of the same inputs is kept."""
    kept_dir = produce(lab_dir("layers") / _layer_key(layer), lambda work_dir: _write_layer(layer, work_dir))
    facts = json.loads((kept_dir / "layer.json").read_text())
    return MadeLayer(
        blob=Blob(digest=facts["digest"], size_bytes=facts["size_bytes"], file=kept_dir / "layer.tar.gz"),
        diff_id=facts["diff_id"],
        comment=layer.comment,
    )


def layer_entries(layer: Layer) -> Iterator[Entry]:
    """Yield a layer's entries as they stand in its tar: each directory before what is in it, each path once.

    What the root below has with the same content is left out; nothing is ever removed from below.
    """
    entries: dict[str, Entry] = {}
    if layer.root:
        with make_root(layer.root).open("rb") as tar:
            entries = root_entries(tar, layer.accounts)
    if layer.below:
        with make_root(layer.below).open("rb") as tar:
            below = root_entries(tar)
        entries = {path: entry for path, entry in entries.items() if entry != below.get(path)}
    entries.update({entry.path: entry for entry in layer.added})
    yield from with_parents(entries.values())


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries by path, with the directories above them where none is given; hard links come last."""
    by_path = {entry.path: entry for entry in entries}
    for path in list(by_path):
        while path := path.rpartition("/")[0]:
            by_path.setdefault(path, directory(path))
    return sorted(by_path.values(), key=lambda entry: (entry.kind is Kind.HARDLINK, entry.path.split("/")))


def write_tar(entries: Iterable[Entry], file: BinaryIO) -> None:
    """Write entries as a tar whose bytes depend on nothing but them."""
    types = {
        Kind.FILE: tarfile.REGTYPE,
        Kind.DIRECTORY: tarfile.DIRTYPE,
        Kind.SYMLINK: tarfile.SYMTYPE,
        Kind.HARDLINK: tarfile.LNKTYPE,
    }
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.type = types[entry.kind]
            member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
            member.mtime, member.linkname = entry.mtime, entry.target
            if entry.capability:
                # Source: pax headers of GNU tar and star, "SCHILY.xattr.*", which container runtimes unpack.
                member.pax_headers = {"SCHILY.xattr.security.capability": entry.capability.decode("ascii")}
            if entry.kind is not Kind.FILE:
                archive.addfile(member)
            elif entry.source:
                member.size = entry.source.stat().st_size
                with entry.source.open("rb") as source:
                    archive.addfile(member, source)
            else:
                member.size = len(entry.data)
                archive.addfile(member, io.BytesIO(entry.data))


class _GzipDigester:
    """Compress what is written into ``file`` (no name, no time in the header), and digest both sides."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compressor = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self.size_bytes = 0

    def write(self, plain: bytes) -> int:
        """Take plain bytes."""
        self._plain.update(plain)
        self._put(self._compressor.compress(plain))
        return len(plain)

    def finish(self) -> dict[str, str | int]:
        """Write what is left; return digest and size of the compressed, digest of the plain bytes."""
        self._put(self._compressor.flush())
        return {
            "diff_id": f"sha256:{self._plain.hexdigest()}",
            "digest": f"sha256:{self._packed.hexdigest()}",
            "size_bytes": self.size_bytes,
        }

    def _put(self, packed: bytes) -> None:
        self._packed.update(packed)
        self.size_bytes += len(packed)
        self._file.write(packed)


def _write_layer(layer: Layer, work_dir: Path) -> None:
    with (work_dir / "layer.tar.gz").open("wb") as file:
        sink = _GzipDigester(file)
        write_tar(layer_entries(layer), cast("BinaryIO", sink))
        facts = sink.finish()
    (work_dir / "layer.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def _layer_key(layer: Layer) -> str:
    parts = {"format": f"{FORMAT} {COMPRESSION_LEVEL}", "accounts": repr(layer.accounts)}
    for name, root in (("root", layer.root), ("below", layer.below)):
        if root:
            parts[name] = file_sha256(make_root(root))
    for entry in layer.added:
        owner, capability = (entry.uid, entry.gid), entry.capability.hex()
        facts = [entry.kind, entry.mode, owner, entry.mtime, entry.target, capability]
        content = file_sha256(entry.source) if entry.source else hashlib.sha256(entry.data).hexdigest()
        parts[f"entry {entry.path}"] = json.dumps([*facts, content])
    return digest_of(parts)


# ----------------------------------------------------------------------------------------------------- images


def make_images() -> tuple[MadeImage, ...]:
    """Make all images of the lab, ordered by id; programs, roots and layers that are kept are not remade."""
    programs = {known.name: golang.build(known.name) for known in golang.COMPONENTS}
    images = describe_images(
        lambda component, name: programs[component] / name,
        golang.calico_module_dir() / "node" / "filesystem",
        rpmdatabase.render(rpms.baseline_rpms(BASE_OS_RPMS)),
    )
    layers = {id(layer): layer for image in images for layer in image.layers}
    with step(f"{len(images)} images"):
        roots = {root for layer in layers.values() for root in (layer.root, layer.below) if root}
        with ThreadPoolExecutor(MAKERS) as pool:
            list(pool.map(make_root, roots))
            made = dict(zip(layers, pool.map(make_layer, layers.values()), strict=True))
    return tuple(compose(image, [made[id(layer)] for layer in image.layers]) for image in images)


def compose(image: Image, layers: Iterable[MadeLayer]) -> MadeImage:
    """Return the manifests of an image over its made layers.

    Source: OCI image-spec 1.1, "Image Configuration", "Image Manifest", "Image Index"; Docker "Image Manifest
    Version 2, Schema 2".
    """
    stack = list(layers)
    config = _json_blob(_configuration(image, stack))
    own = _manifest(image.flavour, config, [made.blob for made in stack])
    blobs = [config, *(made.blob for made in stack)]
    if image.index is Index.NONE:
        return MadeImage(id=image.id, reference=image.reference, manifests=(own,), blobs=tuple(blobs))
    descriptors = [_descriptor(own, {"architecture": "amd64", "os": "linux"})]
    manifests = [own]
    arm64 = {"architecture": "arm64", "os": "linux", "variant": "v8"}
    foreign, foreign_blobs = _foreign(image)
    descriptors.append(_descriptor(foreign, arm64))
    if image.index is not Index.SPARSE:
        manifests.append(foreign)
        blobs += foreign_blobs
    if image.index is Index.ATTESTED:
        statement, statement_blobs = _attestation(own)
        annotations = {
            "vnd.docker.reference.digest": own.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        }
        unknown = {"architecture": "unknown", "os": "unknown"}
        descriptors.append({**_descriptor(statement, unknown), "annotations": annotations})
        manifests.append(statement)
        blobs += statement_blobs
    media_type = _MEDIA_TYPES[image.flavour]["index"]
    index = _as_manifest(media_type, {"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors})
    manifests.append(index)
    return MadeImage(id=image.id, reference=image.reference, manifests=tuple(manifests), blobs=tuple(blobs))


_DISCLAIMER = "made by Caisson's lab under upstream's name; not upstream's bytes"


def _configuration(image: Image, stack: list[MadeLayer], architecture: str = "amd64") -> dict[str, object]:
    runtime: dict[str, object] = {
        "Cmd": list(image.command),
        "Entrypoint": list(image.entrypoint),
        "Env": list(image.environment),
        "ExposedPorts": {port: {} for port in image.ports},
        "Labels": {
            "org.opencontainers.image.description": _DISCLAIMER,
            "org.opencontainers.image.title": image.id,
        },
        "StopSignal": image.stop_signal,
        "User": image.user,
        "Volumes": {volume: {} for volume in image.volumes},
        "WorkingDir": image.working_dir,
    }
    return {
        "architecture": architecture,
        "config": {name: value for name, value in runtime.items() if value},
        "created": CREATED,
        "history": [{"created": CREATED, "created_by": made.comment} for made in stack],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [made.diff_id for made in stack]},
    }


def _foreign(image: Image) -> tuple[Manifest, list[Blob]]:
    """Return a small arm64 image: nothing in it can run, it is there to be left out."""
    plain = io.BytesIO()
    write_tar([text_file("README", f"{image.id} for arm64: the lab has none\n")], plain)
    packed = io.BytesIO()
    sink = _GzipDigester(packed)
    sink.write(plain.getvalue())
    facts = sink.finish()
    layer = Blob(digest=str(facts["digest"]), size_bytes=sink.size_bytes, data=packed.getvalue())
    stack = [MadeLayer(blob=layer, diff_id=str(facts["diff_id"]), comment="a note")]
    config = _json_blob(_configuration(replace(image, entrypoint=(), command=()), stack, "arm64"))
    return _manifest(image.flavour, config, [layer]), [config, layer]


def _attestation(subject: Manifest) -> tuple[Manifest, list[Blob]]:
    """Return a manifest as BuildKit puts beside an image: no platform, its one layer an in-toto statement."""
    statement = _json_blob(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "image", "digest": {"sha256": subject.digest.removeprefix("sha256:")}}],
            "predicate": {"builder": {"id": "caisson-lab"}, "buildType": "caisson-lab/images"},
        }
    )
    rootfs = {"type": "layers", "diff_ids": [statement.digest]}
    config = _json_blob({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs})
    return _manifest(Flavour.OCI, config, [statement], "application/vnd.in-toto+json"), [config, statement]


def _manifest(flavour: Flavour, config: Blob, layers: Iterable[Blob], layer_type: str = "") -> Manifest:
    types = _MEDIA_TYPES[flavour]
    document = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": {"mediaType": types["config"], "digest": config.digest, "size": config.size_bytes},
        "layers": [
            {"mediaType": layer_type or types["layer"], "digest": layer.digest, "size": layer.size_bytes}
            for layer in layers
        ],
    }
    return _as_manifest(types["manifest"], document)


def _as_manifest(media_type: str, document: Mapping[str, object]) -> Manifest:
    text = json.dumps(document, indent=2)
    return Manifest(
        digest=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", media_type=media_type, text=text
    )


def _descriptor(manifest: Manifest, platform: Mapping[str, str]) -> dict[str, object]:
    return {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.text.encode()),
        "platform": dict(platform),
    }


def _json_blob(document: Mapping[str, object]) -> Blob:
    data = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    return Blob(digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size_bytes=len(data), data=data)
