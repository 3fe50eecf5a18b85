# SPDX-License-Identifier: Apache-2.0
"""Install packages again of which a power cut has taken files.

rpm syncs its database, not the files of packages: after a power cut it says that a package is installed, and its
programs are there without a byte. A transaction that was cut is carried out again as a whole (transaction.py); this
looks for what that leaves, file by file: dnf keeps a configuration file that is not as the package has it, an empty one
too. A file with another content is not looked at: it is the site's, or Calico's in /opt/cni/bin.

Only builds that the media has can be installed again. Damage in another build of the same name (a site's update) is
told and stops nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installer.base.errors import PackageError
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.media import dnf, repository, rpmdb
from installer.media.product import Product

LEFT_ALONE = ("d", "g", "l")  # documentation that a site removed, ghosts, licences
CONFIGURATION = "c"


@dataclass(frozen=True)
class Damage:
    """Files that are not there or empty, and have content in their package: path -> package.

    ``removed``: configuration that is all that its package lacks. It is the site's to remove; a power cut takes bytes,
    hardly a name: that is in the file system's journal before rpm's database is on the disk.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)

    def of(self, packages: Collection[str]) -> Damage:
        """Return the damage of these packages alone."""
        return Damage(
            *({k: v for k, v in part.items() if v in packages} for part in (self.files, self.removed))
        )


def repair(*, paths: Paths, media_dir: Path, product: Product, ui: Ui) -> bool:
    """Install again what is damaged of the media's packages on this host; return whether any was installed.

    Raises:
        PackageError: dnf or rpm refused, or files are damaged that it has just written.
    """
    offered = repository.builds(media_dir, product)
    names = {build.name for build in offered}
    there = sorted(package for package in rpmdb.packages() if package.name in names)
    if not there:
        return False
    ui.progress(f"the files of {len(there)} packages, after an interrupted run")
    damage = find([package.nevra for package in there])
    own = {package.nevra for package in there if package.build in offered}
    _tell(damage.of({package.nevra for package in there} - own), "the media has another build", "dnf", ui)
    damage = damage.of(own)
    own_dnf = f"HOME={paths.dnf_dir} {' '.join(dnf.dnf_arguments(paths))}"
    _tell(Damage(removed=damage.removed), "configuration that a site may remove", own_dnf, ui)
    owners = sorted(set(damage.files.values()))
    if not owners:
        return False
    ui.note(f"files are empty or missing; installed again: {' '.join(owners)}")
    ui.detail("\n".join(sorted(damage.files)))
    dnf.write_files(paths, media_dir, product)
    return _install_again(owners, [Path(path) for path in damage.files], paths, ui)


def _install_again(owners: Sequence[str], files: Sequence[Path], paths: Paths, ui: Ui) -> bool:
    before = rpmdb.entries(owners)
    with _out_of_the_way(files):
        dnf.carry_out(["reinstall", *owners], owners, paths)
    done = {entry.split()[0] for entry in rpmdb.entries(owners) - before}
    left = find(owners)
    _tell(left.of(set(owners) - done), "dnf did not install it again", "dnf", ui)
    torn = left.of(done).files
    if torn:
        raise PackageError(
            f"files of {', '.join(sorted(set(torn.values())))} are still damaged after dnf installed them again",
            details="\n".join(sorted(torn)[: dnf.LAST_LINES]),
            resolution="check the disk (dmesg, smartctl), then run this again",
        )
    return bool(done)


@contextlib.contextmanager
def _out_of_the_way(files: Sequence[Path]) -> Iterator[None]:
    """Move empty files aside, since dnf keeps configuration; put back those that dnf did not bring."""
    for file in files:
        if file.is_file() and not file.is_symlink():
            file.replace(_aside(file))
    try:
        yield
    finally:
        for file in files:
            if file.exists():
                _aside(file).unlink(missing_ok=True)
            elif _aside(file).exists():
                _aside(file).replace(file)


def _aside(file: Path) -> Path:
    return file.with_name(f".{file.name}.caisson-empty")


def _tell(damage: Damage, why: str, program: str, ui: Ui) -> None:
    """Say what is left as it is, why, and how it comes back."""
    for found, what in ((damage.files, "damaged"), (damage.removed, "not there")):
        for owner in sorted(set(found.values())):
            files = " ".join(sorted(path for path in found if found[path] == owner))
            ui.note(f"{what}, and left so ({why}): {files}\n  to bring it back: {program} reinstall {owner}")


def find(nevras: Sequence[str]) -> Damage:
    """Return what packages lack.

    A file that an earlier repair has moved aside, and was killed then, was not removed by the site.
    """
    found = rpmdb.verify(nevras)
    lost = [path for path in changed(found) if _is_lost(Path(path))]
    owners = rpmdb.owners(nevras) if lost else {}
    files = {path: owners[path] for path in lost if path in owners}
    absent = {entry.path for entry in found if entry.kind == CONFIGURATION and entry.marks == "missing"}
    torn = {files[path] for path in files if path not in absent or _aside(Path(path)).exists()}
    return Damage(
        files={path: owner for path, owner in files.items() if owner in torn},
        removed={path: owner for path, owner in files.items() if owner not in torn},
    )


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
