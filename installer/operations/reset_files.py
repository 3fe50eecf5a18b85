# SPDX-License-Identifier: Apache-2.0
"""Remove what Caisson and the programs that it runs have written, and the packages that it brought.

Nothing is deleted while something is mounted below it, unless that is the host's own; no mount is entered and no link
is followed (base/deleting.py). What is not known in a directory that others may write to is saved, never deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from installer.base import deleting, files
from installer.base.errors import HostError
from installer.base.mounts import read_mounts
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import changes, control_plane
from installer.engine import torn, traces
from installer.media import dnf, rpmdb, transaction
from installer.media.rpmdb import Build
from installer.operations import before, reset_mounts
from installer.operations.reset_host import remove_files
from installer.operations.reset_plan import Action, ResetContext

UNIT_FILES = tuple(name for name in traces.FILES if name.startswith(f"{traces.UNITS_DIR}/"))


def plan(context: ResetContext) -> Sequence[Action]:
    """Remove the data of the node: its pods', etcd's, containerd's, Calico's, and its configuration."""
    paths = context.paths
    actions = []
    there = [name for name in _outside(paths) if _exists(paths, name)]
    if there:
        actions.append(remove_files(paths, there))
    if set(there) & set(UNIT_FILES):
        actions.append(Action("let systemd read its units again", _reload))
    foreign = foreign_files(paths)
    if foreign:
        text = f"save {len(foreign)} files of {traces.KUBERNETES_DIR} that nobody here knows"
        actions.append(Action(text, lambda: save(context, foreign)))
    noted = [
        f"/{file.relative_to(paths.root)}" for one in traces.CNI_PATTERNS for file in paths.root.glob(one[1:])
    ]
    if noted:
        actions.append(Action("remove what the plugins noted of pods", lambda: _delete_all(context, noted)))
    came = _of_packages(paths, traces.TREES_OF_PACKAGES)
    trees = (*traces.TREES, *came, traces.KUBERNETES_DIR, *_kubectl_caches(paths))
    older = [place for places in traces.TREES_OF_PACKAGES.values() for place in places if place not in came]
    context.others.update({place: "its package was here before" for place in older if _exists(paths, place)})
    going = [tree for tree in trees if _has_something_to_go(context, tree)]
    return [*actions, *(Action(f"delete {tree}", partial(delete, context, tree)) for tree in going)]


def _outside(paths: Paths) -> list[str]:
    """Return what lies among files of others."""
    owned = (f"{traces.CONFIG_DIR}/", f"{traces.KUBERNETES_DIR}/")
    own = [name for name in traces.FILES if not name.startswith(owned)]
    return [*own, *traces.PROGRAM_FILES, *_of_packages(paths, traces.FILES_OF_PACKAGES)]


def _of_packages(paths: Paths, table: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what is of packages that came with Caisson."""
    note = transaction.read(paths)
    came = [name for name in table if transaction.has_brought(note, name)]
    return [place for name in came for place in table[name]]


def _delete_all(context: ResetContext, names: Sequence[str]) -> None:
    for name in names:
        delete(context, name)


def _exists(paths: Paths, name: str) -> bool:
    file = paths.at(name)
    return file.exists() or file.is_symlink()


def _reload() -> None:
    run(["systemctl", "daemon-reload"], timeout_s=60)


def _kubectl_caches(paths: Paths) -> list[str]:
    """Return what kubectl has kept of this cluster's kinds, for root: it was the installer that called it."""
    cluster = (changes.recorded(paths) or {}).get("cluster") or {}
    name = f"{cluster.get('endpoint', '')}_{control_plane.API_PORT}"
    directory = f"{traces.KUBECTL_CACHE}/discovery/{name}"
    if "/" in name or not _exists(paths, directory):
        return []
    is_only_one = len(list(paths.at(directory).parent.iterdir())) == 1
    return [directory, *([f"{traces.KUBECTL_CACHE}/http"] if is_only_one else [])]


# ---- directories -----------------------------------------------------------------------------------------------


def _has_something_to_go(context: ResetContext, tree: str) -> bool:
    place = context.paths.at(tree)
    if not place.exists() and not place.is_symlink():
        return False
    if str(place) in map(str, context.kept()):
        return False
    is_emptied_mount = (
        place.is_dir() and not place.is_symlink() and place.is_mount() and not any(place.iterdir())
    )
    return not is_emptied_mount and not (place.is_dir() and _holds_only(place, context.kept()))


def _holds_only(place: Path, kept: Sequence[Path]) -> bool:
    """Say whether a directory holds nothing but what stays, and the directories above that."""
    if not any(str(stays).startswith(f"{place}/") for stays in kept):
        return False
    above = {place, *(parent for stays in kept for parent in stays.parents)}
    return all(child in kept or (child in above and _holds_only(child, kept)) for child in place.iterdir())


def delete(context: ResetContext, tree: str) -> None:
    """Delete one directory, once nothing is mounted below it but what stays.

    Raises:
        HostError: something is mounted there, or could not be deleted.
    """
    place = context.paths.at(tree)
    kept = context.kept()
    still = [mount.mount_point for mount in reset_mounts.ours(read_mounts(), context)]
    below = [point for point in still if point.startswith(f"{place}/")]
    if below:
        raise HostError(
            f"{len(below)} places below {place} are mounts, so nothing there is deleted",
            details="\n".join(below[:10]),
            resolution="run the same command again: it unmounts them first",
        )
    deleted = deleting.delete_tree(place, keep=kept)
    faults = {path: why for path, why in deleted.left.items() if why not in (deleting.KEPT, deleting.EMPTIED)}
    of_host = {path: why for path, why in faults.items() if why == deleting.NOT_ENTERED}
    context.others.update(
        {path: why for path, why in deleted.left.items() if path in of_host or path not in faults}
    )
    hard = set(faults) - set(of_host)
    if hard:
        raise HostError(
            f"{len(hard)} entries of {place} could not be deleted",
            details="\n".join(f"{path}: {faults[path]}" for path in sorted(hard)[:10]),
            resolution="look at 'lsattr' of them (chattr -i takes the letter i away) and at the file system",
        )


def foreign_files(paths: Paths) -> list[str]:
    """Return the files of Kubernetes' directory that nobody here has written: a site's own pod, say."""
    directory = paths.at(traces.KUBERNETES_DIR)
    known = {file for pattern in torn.KUBEADM for file in paths.root.glob(pattern.lstrip("/"))}
    known |= {paths.at(name) for name in traces.FILES}
    kubeadm_tmp = directory / "tmp"
    return sorted(
        f"/{file.relative_to(paths.root)}"
        for file in directory.rglob("*")
        if (file.is_file() or file.is_symlink()) and file not in known and kubeadm_tmp not in file.parents
    )


def make_archive(context: ResetContext) -> Path:
    """Return where a reset saves what it does not know: root's alone, for a secret may be in it."""
    archive = context.paths.at(context.noted.archive_dir)
    archive.mkdir(parents=True, exist_ok=True, mode=0o700)
    return archive


def save(context: ResetContext, names: Iterable[str]) -> None:
    """Copy files to where the reset keeps what it does not know; a link is kept as a link."""
    archive = make_archive(context)
    for name in names:
        source, target = context.paths.at(name), archive / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if source.is_symlink():
            if not target.is_symlink():
                target.symlink_to(source.readlink())
        else:
            files.write_file(target, source.read_bytes(), mode=0o600, dir_mode=0o700)
    context.others[str(archive)] = "what was found and not known, and what the reset saved"


# ---- packages --------------------------------------------------------------------------------------------------


def plan_packages(context: ResetContext) -> Sequence[Action]:
    """Remove the packages that Caisson brought, in one transaction; what others need by now stays."""
    note = transaction.read(context.paths)
    now = rpmdb.packages()
    offered = {Build(name, text.split(":")[-1]) for name, text in context.product.packages.items()}
    brought = transaction.brought(note, now, offered)
    if brought is None:
        context.others["the packages that Caisson installed"] = (
            "the version that installed them did not note which were new: see the log in /var/log/caisson/dnf"
        )
        return []
    ours = [package for package in sorted(now) if package.name_arch in brought]
    going, needed = rpmdb.removable(ours)
    for package, why in needed.items():
        context.others[f"package {package}"] = why
    if not going:
        return []
    shown = " ".join(package.name for package in going)
    return [Action(f"remove {len(going)} packages: {shown}", lambda: dnf.remove(going, context.paths))]


def plan_remains(context: ResetContext) -> Sequence[Action]:
    """Remove directories that are empty now, and those that packages left behind."""
    paths = context.paths
    noted = before.read(paths)
    there = traces.SHARED_DIRS if noted is None else noted.directories
    fresh = [name for name in traces.EMPTIED_DIRS if name not in there]
    if not any(_is_empty(paths.at(name)) for name in fresh):
        return []
    return [Action("remove directories that nothing is left in", lambda: _remove_empty(paths, fresh))]


def _is_empty(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink() and not place.is_mount() and not any(place.iterdir())


def _remove_empty(paths: Paths, names: Sequence[str]) -> None:
    for name in names:
        if _is_empty(paths.at(name)):
            paths.at(name).rmdir()
