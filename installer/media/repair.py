# SPDX-License-Identifier: Apache-2.0
"""Install packages again of which a power cut has taken files.

rpm syncs its database, not the files of packages: after a power cut it says that a package is installed, and its
programs are there without a byte. A transaction that was cut is carried out again as a whole (transaction.py); this
looks for what that leaves, file by file: dnf keeps a configuration file that is not as the package has it, an empty one
too. A file with another content is not looked at: it is the site's, or Calico's in /opt/cni/bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from installer.base.errors import PackageError
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.media import dnf, rpmdb
from installer.media.product import Product

LEFT_ALONE = ("d", "g", "l")  # documentation that a site removed, ghosts, licences


def repair(*, paths: Paths, media_dir: Path, product: Product, ui: Ui) -> bool:
    """Install again what is damaged of the media's packages on this host; return whether there was any.

    Raises:
        PackageError: dnf or rpm refused, or files are still damaged.
    """
    names = sorted({package.name for package in rpmdb.packages()} & set(product.packages))
    if not names:
        return False
    ui.progress(f"the files of {len(names)} packages, after an interrupted run")
    damaged = find(names)
    if not damaged:
        return False
    owners = sorted(set(damaged.values()))
    ui.detail(f"files are damaged or missing, installing again: {' '.join(owners)}")
    # dnf would keep a configuration file that is not as the package has it, an empty one too.
    for file in map(Path, damaged):
        if file.is_file() and not file.is_symlink() and file.stat().st_size == 0:
            file.unlink()
    dnf.write_files(paths, media_dir, product)
    dnf.carry_out(["reinstall", *owners], owners, paths)
    left = find(owners)
    if left:
        raise PackageError(
            f"files of {', '.join(sorted(set(left.values())))} are still damaged after dnf installed them again",
            details="\n".join(sorted(left)[: dnf.LAST_LINES]),
            resolution="check the disk (dmesg, smartctl), then run this again",
        )
    return True


def find(names: list[str]) -> Mapping[str, str]:
    """Return path -> package of each file that is not there or empty, and has content in its package."""
    lost = [path for path in changed(rpmdb.verify(names)) if _is_lost(Path(path))]
    owners = rpmdb.owners(names) if lost else {}
    return {path: owners[path] for path in lost if path in owners}


def changed(entries: Iterable[rpmdb.Change]) -> list[str]:
    """Return the path of each file whose bytes rpm calls changed: its size, its digest, or all of it.

    Links are the site's (alternatives): of what rpm compares nothing else is looked at.
    """
    return [
        entry.path
        for entry in entries
        if entry.kind not in LEFT_ALONE and (entry.marks == "missing" or {"S", "5"} & set(entry.marks))
    ]


def _is_lost(file: Path) -> bool:
    return not file.exists() or file.stat().st_size == 0
