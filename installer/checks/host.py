# SPDX-License-Identifier: Apache-2.0
"""Give the checks their one view of the host: files below a root, commands, and what is known beforehand."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import Completed, run
from installer.checks.trials import Trials
from installer.config import changes, control_plane
from installer.config.bootstrap import Config
from installer.config.facts import Facts, host_name
from installer.config.ports import BOOTSTRAP_ROLE, PORTS_FILE, Port, of_role, read_ports
from installer.engine.journal import SETTLE, read
from installer.media.product import Product

COMMAND_TIMEOUT_S = 60.0
PACKAGES_DIR = "repo/el9/Packages"
FIRST_LASTING_PHASE = "container-runtime"
"""From this phase on a host carries containerd, a kubelet and listeners of Caisson's own."""


def run_quietly(args: Sequence[str]) -> Completed:
    """Run a command for its answer: any exit code is one; a missing program or a hang has code 127 or 124."""
    try:
        return run(args, timeout_s=COMMAND_TIMEOUT_S, check=False)
    except HostError as exc:
        return Completed(127, "", exc.message)
    except CommandError as exc:
        return Completed(124, "", exc.message)


def read_umask(file: Path = Path("/proc/self/status")) -> int:
    """Return the mask of new files of this process, which only the kernel tells without setting it."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


@dataclass(frozen=True)
class Host:
    """A host as the checks see it; everything can be replaced in a test.

    ``is_ours`` says that an earlier bootstrap of Caisson got as far as leaving its own services behind:
    then its ports, services and files are expected. ``other_origin``: why a control plane that Caisson has no record
    of is not the configured cluster's; without a reason it is left alone and expected too; None: there is none.
    ``media_dir`` holds packages; None: only the copy of the installer is at hand.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Completed] = run_quietly
    config: Config | None = None
    facts: Facts | None = None
    product: Product | None = None
    ports: tuple[Port, ...] = ()
    is_ours: bool = False
    other_origin: tuple[str, ...] | None = None
    user_id: int = field(default_factory=os.geteuid)
    machine: str = field(default_factory=platform.machine)
    cpu_count: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    name: str = field(default_factory=host_name)
    now: float = field(default_factory=time.time)
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs
    umask: int = field(default_factory=read_umask)
    media_dir: Path | None = None
    trials: Trials = field(default_factory=Trials)

    @property
    def is_left_alone(self) -> bool:
        """Tell whether the control plane of the configured cluster stands here, and was not made by Caisson."""
        return self.other_origin == ()

    def path(self, absolute: str) -> Path:
        """Return the place of an absolute path below the root."""
        return self.root / absolute.lstrip("/")

    def existing(self, absolute: str) -> Path:
        """Return the place of a directory, or of the nearest one above it that is there."""
        place = self.path(absolute)
        while not place.exists():
            place = place.parent
        return place

    def resolve(self, absolute: str) -> str:
        """Return where an absolute path leads when its links are followed; what is not there yet is kept as it is."""
        real = os.path.realpath(self.path(absolute))
        root = os.path.realpath(self.root)
        return "/" + os.path.relpath(real, root) if real.startswith(root.rstrip("/") + "/") else real

    def read(self, absolute: str) -> str | None:
        """Return the text of a file, None when it is not there or cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def view(
    *,
    config: Config | None,
    facts: Facts | None,
    product: Product | None,
    tree_dir: Path,
    paths: Paths,
    role: str = BOOTSTRAP_ROLE,
) -> Host:
    """Return the view of this very host; ``tree_dir`` is the media, or the installer's own copy of it.

    Of the port table it holds what a node of ``role`` listens on.

    Raises:
        MediaError: the port table of the tree cannot be read.
    """
    origin = _other_origin(config, facts, product, paths)
    return Host(
        config=config,
        facts=facts,
        product=product,
        ports=of_role(read_ports(tree_dir / PORTS_FILE), role),
        is_ours=is_ours(paths) or origin == (),
        other_origin=origin,
        media_dir=_find_media(tree_dir, product, paths),
    )


def _other_origin(
    config: Config | None, facts: Facts | None, product: Product | None, paths: Paths
) -> tuple[str, ...] | None:
    """Return what differs between a control plane of others and the configured cluster; None when not known.

    Only root may read kubeadm's files: anybody else would find every value unknown.
    """
    if os.geteuid() != 0:
        return None
    if config is None or facts is None or product is None or not control_plane.is_of_others(paths.root):
        return None
    values = changes.values(config, facts)
    return tuple(control_plane.differences(paths.root, values, product.versions["kubernetes"]))


def _find_media(tree_dir: Path, product: Product | None, paths: Paths) -> Path | None:
    """Return the tree with packages: the one given, or the mounted media."""
    mounted = paths.media_dir(product.full_version) if product is not None else tree_dir
    return next((found for found in (tree_dir, mounted) if (found / PACKAGES_DIR).is_dir()), None)


def is_ours(paths: Paths) -> bool:
    """Say whether an earlier bootstrap left services behind, or this host was begun to be made a further node."""
    return any(entry.phase in (FIRST_LASTING_PHASE, SETTLE) for entry in read(paths.journal_file))
