# SPDX-License-Identifier: Apache-2.0
"""Remove what a power cut or a kill has left half-written, before the phases look at it.

What writes a file and renames it without syncing it leaves, after a power cut, its name without a byte: Salt's
``file.managed`` and its keys, kubeadm, the kubelet, salt-master do so. Most of them take a missing file for one to be
made and an empty one for a fault that a person must look at, in every later run. What is done is synced before the
journal says so: only files of the phase that was cut can be empty. ``write_file`` syncs, but a kill may leave its
temporary file.

Only the names that these programs write are looked at: a site's own files beside them may be empty, and so may what
the site pushes into its registry.
"""

from __future__ import annotations

import re
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from installer.base.paths import Paths
from installer.config import changes, control_plane

CAISSON = (
    "/etc/caisson/ca.crt",
    "/etc/caisson/console/console.json",
    "/etc/caisson/console/tls.crt",
    "/etc/caisson/console/tls.key",
    "/etc/caisson/guard.nft",
    "/etc/caisson/hosts.json",
    "/etc/caisson/dnf/dnf.conf",
    "/etc/caisson/dnf/.rpmmacros",
    "/etc/caisson/dnf/keys/*.key",
    "/etc/caisson/dnf/repos.d/caisson.repo",
    "/etc/caisson/keepalived/check.sh",
    "/etc/caisson/keepalived/keepalived.conf",
    "/etc/caisson/keepalived/run.sh",
    "/etc/caisson/kubeadm/init.yaml",
    "/etc/caisson/kubeadm/join.yaml",
    "/etc/caisson/kubelet/standalone.yaml",
    "/etc/caisson/nginx/nginx.conf",
    "/etc/caisson/nginx/oci-locations.conf",
    "/etc/caisson/nginx/oci-maps.conf",
    "/etc/caisson/nginx/own-names.conf",
    "/etc/caisson/nginx/registry-login.conf",
    "/etc/caisson/pillar/top.sls",
    "/etc/caisson/pillar/caisson.sls",
    "/etc/caisson/pillar/nodes/*.sls",
    "/etc/caisson/pki/ca.crt",
    "/etc/caisson/pki/ca.key",
    "/etc/caisson/pki/site-ca.crt",
    "/etc/caisson/registry/config.yml",
    "/etc/caisson/registry/htpasswd",
    "/etc/caisson/registry-login/password",
    "/etc/caisson/salt/local/minion",
    "/etc/caisson/salt/master/master",
    "/etc/caisson/tls/media.crt",
    "/etc/caisson/tls/media.key",
    "/etc/caisson/tls/site.crt",
    "/etc/caisson/tls/site.key",
    "/etc/kubernetes/manifests/keepalived.yaml",
    "/etc/kubernetes/manifests/nginx.yaml",
    "/etc/kubernetes/manifests/registry.yaml",
    "/etc/kubernetes/manifests/salt-master.yaml",
    "/etc/salt/minion.d/90-caisson.conf",
    "/var/lib/caisson/kubeadm/*.json",
    "/var/lib/caisson/services/*.service",
)
"""What Caisson's states and the installer write. Source: salt/, the names of ``file.managed`` and the like."""
SALT = (
    "/etc/caisson/salt/pki/master/master.pem",
    "/etc/caisson/salt/pki/master/master.pub",
    "/etc/caisson/salt/pki/master/minions/*",
    "/etc/salt/pki/minion/minion.pem",
    "/etc/salt/pki/minion/minion.pub",
    "/etc/salt/pki/minion/minion_master.pub",
    "/var/cache/caisson/salt-master/sessions/*",
)
"""Keys, and the keys of sessions. Source: Salt 3008, crypt.py, master.py."""
KUBEADM = (
    *(
        f"/etc/kubernetes/{name}.conf"
        for name in (
            "admin",
            "super-admin",
            "kubelet",
            "bootstrap-kubelet",
            "controller-manager",
            "scheduler",
        )
    ),
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    *(
        f"/etc/kubernetes/pki/{name}.{suffix}"
        for name in (
            "ca",
            "apiserver",
            "apiserver-kubelet-client",
            "apiserver-etcd-client",
            "front-proxy-ca",
            "front-proxy-client",
            "etcd/ca",
            "etcd/server",
            "etcd/peer",
            "etcd/healthcheck-client",
        )
        for suffix in ("crt", "key")
    ),
    "/etc/kubernetes/patches/*.json",
    "/etc/kubernetes/patches/*.yaml",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/sa.pub",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/instance-config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/kubelet/pki/kubelet.crt",
    "/var/lib/kubelet/pki/kubelet.key",
    "/var/lib/kubelet/pki/kubelet-client-*.pem",
    "/var/lib/kubelet/pki/kubelet-server-*.pem",
)
"""kubeadm's files and the kubelet's. Source: Kubernetes 1.36, cmd/kubeadm/app/constants; client-go, certificate."""
CALICO = ("/etc/cni/net.d/10-calico.conflist", "/etc/cni/net.d/calico-kubeconfig")
"""Source: Calico, cni-plugin/pkg/install."""
CACHES = ("/var/cache/caisson/dnf", "/var/cache/caisson/salt-local")
"""Made again in a second; what is wrong in one that is half-written is hard to see."""
TEMPORARY = re.compile(r"\..+\.\d+\.new")
"""As ``files.write_file`` calls it."""
TEMPORARIES = (
    "/etc/.hosts.*.new",
    "/etc/caisson/.*.new",
    "/etc/caisson/*/.*.new",
    "/etc/caisson/*/*/.*.new",
    "/etc/systemd/system/.*.new",
    "/usr/bin/.caisson.*.new",
    "/var/lib/caisson/.*.new",
    "/var/lib/caisson/detached/*/.*.new",
    "/var/lib/caisson/jobs/*/.*.new",
    "/var/lib/caisson/kubeadm/.*.new",
)
SILENT_S = 2.0


def remove(paths: Paths, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Remove empty files and temporaries of the programs above, and caches; return the files removed.

    No directory is walked: each pattern is as deep as it looks. ``say`` is told when it takes long.
    """
    timer = threading.Timer(SILENT_S, say, ["looking for what the interrupted run left half-written"])
    timer.daemon = True
    timer.start()
    try:
        for cache in CACHES:
            shutil.rmtree(paths.at(cache), ignore_errors=True)
        removed = sorted(set(_half_written(paths)))
        for file in removed:
            file.unlink(missing_ok=True)  # what runs already may have taken it away meanwhile
        return removed
    finally:
        timer.cancel()


def _half_written(paths: Paths) -> Iterator[Path]:
    # A control plane that others have made is theirs to put in order, and so are its kubelet and its network.
    is_of_others = control_plane.is_of_others(paths.root)
    for pattern in (*CAISSON, *SALT, *(() if is_of_others else (*KUBEADM, *CALICO))):
        yield from (file for file in _at(paths, pattern) if _is_empty(file) and not _tells_whose(paths, file))
    for pattern in TEMPORARIES:
        yield from (file for file in _at(paths, pattern) if TEMPORARY.fullmatch(file.name) and file.is_file())


def _tells_whose(paths: Paths, file: Path) -> bool:
    """Say whether a control plane is there that would pass for one of others without this file, empty or not."""
    return control_plane.is_living(paths.root) and file == paths.at(changes.FIRST_STAMP)


def _at(paths: Paths, pattern: str) -> Iterator[Path]:
    return paths.root.glob(pattern.lstrip("/"))


def _is_empty(file: Path) -> bool:
    try:
        status = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0
