# SPDX-License-Identifier: Apache-2.0
"""Keep copies of the ISOs on a further control plane: what ``caisson media replicate`` starts there.

An ISO is mounted, now and at each boot, only when its sums are those that the bootstrap node verified, and every byte
is as they say. One that is not, now or later, is a reason to serve nothing: the pod of nginx is taken away.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import HostError, MediaError
from installer.base.files import write_file
from installer.base.mounts import is_mounted, read_mounts
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import changes, leaf
from installer.config.leaf import Leaf
from installer.media import custody, mounting, notes, scratch, state
from installer.media import product as products
from installer.operations import media_certificate, media_serving
from installer.operations.asking import Fault

Say = Callable[[str], None]
SCRATCH_DIR = "/run/caisson-media"
INTERVAL_S = 1.5
PART = ".iso.part"
"""What a copy is called that has not arrived yet: Caisson's alone."""
OFFERED_FILE = "/run/caisson-replica/offered.crt"
MANIFEST_FILE = "/etc/kubernetes/manifests/nginx.yaml"


@dataclass(frozen=True)
class Kept:
    """An ISO that this node has: its build, the digest of its SHA256SUMS, and what is wrong with it, if anything is."""

    name: str
    sums_sha256: str
    missing: str


def kept(paths: Paths) -> list[Kept]:
    """Return the ISOs that this node keeps; one whose note cannot be read is none, and is verified and noted again."""
    found = []
    for file in sorted(paths.media_notes_dir.glob("[!.]*.json")):
        with contextlib.suppress(HostError):
            note = notes.read(file.stem, paths.media_notes_dir)
            if note is not None:
                missing = state.media_state(note, paths).missing
                found.append(Kept(note.full_version, note.sums_sha256, missing))
    return found


def faults(paths: Paths, name: str) -> tuple[Fault, ...]:
    """Return what is wrong with the ISOs that this node (``name``) keeps, and how the bootstrap node puts it right."""
    fix = f"run 'caisson media replicate {name}' on the bootstrap node: it verifies the copy, or copies it again"
    return tuple(Fault(f"the copy of {one.name}: {one.missing}", fix) for one in kept(paths) if one.missing)


def keep(file: Path, name: str, sums_sha256: str, paths: Paths, *, say: Say) -> bool:
    """Verify a copy and mount it, now and at each boot; return whether it was not.

    ``sums_sha256`` is the digest of its SHA256SUMS as the bootstrap node verified it.

    Raises:
        MediaError: it is another one, or damaged; then nothing is served here any more.
    """
    known = next((one for one in kept(paths) if one.name == name), None)
    if known is not None and known.sums_sha256 == sums_sha256 and not known.missing:
        return False
    try:
        custody.refuse_changeable(file, mounts=read_mounts(), root=paths.root)
        with scratch.mounted(
            file, paths.at(SCRATCH_DIR), types="iso9660", resolution="run 'caisson media replicate' again"
        ) as source_dir:
            _verify(source_dir, name, sums_sha256, say)
            found = products.load(source_dir)
            media_dir = paths.media_dir(name)
            mounting.keep_mounted(found, source_dir, media_dir, paths.units_dir, note=say)
            notes.write(notes.make(found, media_dir, file), paths.media_notes_dir)
    except MediaError:
        stop_serving(paths)
        raise
    return True


def _verify(source_dir: Path, name: str, sums_sha256: str, say: Say) -> None:
    found = products.load(source_dir)
    if found.full_version != name or notes.sums_digest(source_dir) != sums_sha256:
        raise MediaError(
            f"what was copied to {platform.node()} is not {name} as the bootstrap node verified it",
            details=f"it calls itself {found.full_version}; its SHA256SUMS: sha256:{notes.sums_digest(source_dir)}\n"
            f"verified there: sha256:{sums_sha256}",
            resolution="run 'caisson media replicate' again: it copies it once more",
        )
    mounting.verify(source_dir, progress=say, interval_s=INTERVAL_S)


def forget_others(names: list[str], paths: Paths) -> list[str]:
    """Unmount the ISOs that the bootstrap node has no more, delete their copies, begun ones too; return which were."""
    gone = []
    for one in kept(paths):
        if one.name in names:
            continue
        media_dir = paths.media_dir(one.name)
        unit = mounting.unit_name(media_dir)
        made_from = state.read_made_from(paths.units_dir / unit)
        run(["systemctl", "disable", "--now", unit], timeout_s=120, check=False)
        if is_mounted(media_dir, read_mounts()):
            continue  # something reads from it: the next run
        (paths.units_dir / unit).unlink(missing_ok=True)
        notes.forget(one.name, paths.media_notes_dir)
        copy = Path(made_from)
        if copy.parent == paths.at(custody.PLACE):
            copy.unlink(missing_ok=True)
        gone.append(one.name)
    for part in paths.at(custody.PLACE).glob(f"[!.]*{PART}"):
        if part.name[: -len(PART)] not in names:  # of a copy that was cut off, and that nobody goes on with
            part.unlink(missing_ok=True)
    return gone


def take_certificate(text: str, paths: Paths) -> bool:
    """Let nginx here serve with a certificate that the bootstrap node has signed for the key that is here.

    Raises:
        HostError: this node serves nothing, or it is not for this node, its key and its authority; nothing is changed.
    """
    known = changes.recorded(paths) or {}
    node: Mapping[str, Any] = known.get("node", {})
    if not node.get("media"):
        raise HostError(
            f"{platform.node()} serves no packages and images",
            details="a certificate for that was given",
            resolution="'caisson media replicate' on the bootstrap node lets it",
        )
    offered = paths.at(OFFERED_FILE)
    write_file(offered, text, mode=0o600, dir_mode=0o700)
    try:
        key_file = paths.at(media_certificate.OWN_KEY_FILE)
        given = Leaf(offered, key_file, paths.at(media_certificate.PUBLISHED_FILE))
        names = (str(node["control_plane_address"]), str(known["media_name"]))
        unfit = [said for _, said in leaf.examine(given, names)]
    finally:
        shutil.rmtree(offered.parent, ignore_errors=True)
    if unfit:
        raise HostError(
            f"the certificate that {platform.node()} was given is no good: the one before goes on to be served",
            details="\n".join(unfit),
            resolution="'caisson media replicate' on the bootstrap node gives a new one with its key",
        )
    write_file(paths.at(media_certificate.OWN_FILE), text)
    run(["crictl", "exec", media_serving.container(), *media_serving.RELOAD], timeout_s=60)
    return True


def stop_serving(paths: Paths) -> None:
    """Take the pod of nginx away: who asks here goes on to the next server."""
    paths.at(MANIFEST_FILE).unlink(missing_ok=True)
