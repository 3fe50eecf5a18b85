# SPDX-License-Identifier: Apache-2.0
"""Remove what a power cut or a kill has left half-written, before the phases look at it.

What writes a file and renames it without syncing it leaves, after a power cut, its name without a byte: Salt's
``file.managed`` and its keys, kubeadm, the kubelet, salt-master do so. Most of them take a missing file for one to be
made and an empty one for a fault that a person must look at, in every later run. What is done is synced before the
journal says so: only files of the phase that was cut can be empty. ``write_file`` syncs, but a kill may leave its
temporary file.
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from installer.base.paths import Paths

OWN_DIRS = (
    "/etc/caisson",
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/etc/salt/minion.d",
    "/etc/salt/pki",
    "/var/cache/caisson/salt-master/sessions",
    "/var/lib/caisson",
    "/var/lib/kubelet/pki",
)
"""What is below is written by a bootstrap and by what it starts; none of it is ever empty on purpose."""
CACHES = ("/var/cache/caisson/dnf", "/var/cache/caisson/salt-local")
"""Made again in a second; what is wrong in one that is half-written is hard to see."""
OWN_FILES = ("/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
TEMPORARY = re.compile(r"\..+\.\d+\.new")
"""As ``files.write_file`` calls it."""
TEMPORARIES = ("/etc/.hosts.*.new", "/etc/systemd/system/.*.new", "/usr/bin/.caisson.*.new")


def remove(paths: Paths) -> list[Path]:
    """Remove empty files and temporaries of Caisson's own places, and its caches; return the files removed."""
    for cache in CACHES:
        shutil.rmtree(paths.at(cache), ignore_errors=True)
    removed = sorted(set(_half_written(paths)))
    for file in removed:
        file.unlink(missing_ok=True)  # what runs already may have taken it away meanwhile
    return removed


def _half_written(paths: Paths) -> Iterator[Path]:
    for directory in OWN_DIRS:
        for file in paths.at(directory).rglob("*"):
            if _is_empty(file) or (TEMPORARY.fullmatch(file.name) and file.is_file()):
                yield file
    yield from (paths.at(name) for name in OWN_FILES if _is_empty(paths.at(name)))
    for pattern in TEMPORARIES:
        yield from (file for file in paths.root.glob(pattern.lstrip("/")) if TEMPORARY.fullmatch(file.name))


def _is_empty(file: Path) -> bool:
    try:
        status = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0
