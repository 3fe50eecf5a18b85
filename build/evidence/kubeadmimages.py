# SPDX-License-Identifier: Apache-2.0
"""Say which images kubeadm asks for: the locked one is asked itself, in a sandbox, where it can be run.

    kubeadm's RPM (store) --sandbox--> kubeadm config images list -> references
    nothing that can be run --------> a table, by minor release --^

What is run came from outside. So it sees nothing but itself: a root directory of its own, no network, no other
process, no environment, no rights of root, no file that it could write more than a name of.
Source: unshare(1) and prlimit(1) of util-linux 2.37; user_namespaces(7).
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from build.base import ui
from build.base.errors import ClosedWorldError, CommandError, IntegrityError
from build.base.run import run
from build.evidence.wanted import Wanted
from build.inventory.model import Blob, Lock, LockedPackage
from build.store import layers
from build.store.objects import Store
from build.upstream.rpmpayload import unpack_payload

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
_QUESTION = ("config", "images", "list", "--config", "/config.yaml")
#: It asks the host for what is not said here: for its name, an address, a runtime; in the sandbox there is none.
_CONFIGURATION = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: 192.0.2.1}}
nodeRegistration: {{name: node, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v{version}
"""
_TIMEOUT_S = 60
_NOBODY = "65534"
_SANDBOX = (
    "prlimit", "--core=0", "--cpu=30", "--fsize=0", "--nofile=64",
    "unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--net", "--ipc", "--uts", "--pid",
    "--fork", "--kill-child",
)  # fmt: skip


def kubeadm_images(lock: Lock, store: Store) -> Iterator[Wanted]:
    """Yield the images that kubeadm asks for by itself: it is asked, where it can be run, else the table.

    Raises: ClosedWorldError for a minor release that the table does not have; CommandError; MissingError.
    """
    version = lock.versions["kubernetes"]
    packages = [package for package in lock.packages if package.name == "kubeadm"]
    listed = _ask_kubeadm(packages[0], version, store) if packages and can_run_here() else ()
    for reference in listed or table_images(version):
        yield Wanted(reference, f"kubeadm {version}")


def can_run_here() -> bool:
    """Say whether this machine can run programs of the bundle."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _ask_kubeadm(package: LockedPackage, version: str, store: Store) -> tuple[str, ...]:
    """Return what the kubeadm of a package says; nothing when there is none in it, or it cannot be run safely."""
    blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
    file = store.checked(blob, f"package {package.nevra}")
    with tempfile.TemporaryDirectory(prefix="caisson-") as scratch:
        root = Path(scratch, "root")
        root.mkdir(mode=0o755)
        try:
            is_there = _take_program(unpack_payload(file, Path(scratch)), root / "kubeadm")
        except layers.ArchiveError as exc:
            raise IntegrityError(
                f"the payload of package {package.nevra} cannot be read",
                details=str(exc),
                resolution=f"remove {file} and fetch it again; when it stays so, the package is damaged upstream",
            ) from exc
        if not is_there:
            return ()
        (root / "config.yaml").write_text(_CONFIGURATION.format(version=version))
        root.chmod(0o555)
        try:
            done = run(
                [*_SANDBOX, f"--root={root}", "--wd=/", "/kubeadm", *_QUESTION],
                only_env={},
                timeout_s=_TIMEOUT_S,
                check=False,
            )
        except CommandError as exc:
            ui.warn(f"{package.nevra} cannot be asked which images it needs; a table is used: {exc.message}")
            return ()
        finally:
            root.chmod(0o755)
    if done.returncode != 0:
        reason = layers.printable(done.stderr.strip()[-200:]) or f"it ended with {done.returncode}"
        ui.warn(f"{package.nevra} cannot say in a sandbox which images it needs; a table is used: {reason}")
        return ()
    return tuple(done.stdout.split())


def _take_program(archive_file: Path, target: Path) -> bool:
    for archive, member in layers.members(archive_file):
        if member.isreg() and layers.plain_path(member.name) == _KUBEADM_FILE:
            stream = archive.extractfile(member)
            target.write_bytes(stream.read() if stream else b"")
            target.chmod(0o555)
            return True
    return False


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
            resolution="add the output of 'kubeadm config images list' to build/evidence/kubeadmimages.py",
        )
    for name in _KUBERNETES_IMAGES:
        yield f"{_KUBERNETES_REGISTRY}/{name}:v{kubernetes}"
    for name, tag in KUBEADM_IMAGES[minor].items():
        yield f"{_KUBERNETES_REGISTRY}/{name}:{tag}"
