# SPDX-License-Identifier: Apache-2.0
"""Remove images from the registry of a control plane that serves too, when the bootstrap node has removed them.

Nothing is deleted over the network: the bootstrap node says over the bus what goes, this node asks its own registry.
Pushes are not paused while blobs are collected: only the bootstrap node pushes here, and it waits for the answer.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.base.errors import HostError, UsageError
from installer.base.paths import Paths
from installer.config import changes
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import lock as lockfile
from installer.operations import image_names, images, push_login
from installer.operations.image_removals import Removal
from installer.operations.registry import Registry

TREE_DIR = Path(__file__).resolve().parents[2]
LOCK_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Forgotten:
    """How many of the tags were here, and what that freed on the disk."""

    removed: int
    freed_bytes: int


def forget(removals: Sequence[Removal], paths: Paths, *, tree_dir: Path = TREE_DIR) -> Forgotten:
    """Remove tags that were removed on the bootstrap node, then what no other names; what is gone already is well.

    Blobs are collected in any case: a run of before may have been cut off before it did.

    Raises:
        HostError: this node serves nothing, or its registry does not answer.
        UsageError: one is no name of an image.
        LockedError: another job is at work here.
    """
    node = (changes.recorded(paths) or {}).get("node", {})
    if not node.get("media"):
        raise HostError(
            f"{platform.node()} serves no packages and images",
            details="images were to be removed from its registry",
            resolution="'caisson media replicate' on the bootstrap node lets it",
        )
    for one in removals:
        if not image_names.is_stored(one.path, one.tag) or not image_names.DIGEST.fullmatch(one.digest):
            raise UsageError(f"'{one.path}:{one.tag}' is no image of a registry", resolution="report this")
    ports = {port.name: port.port for port in read_ports(tree_dir / PORTS_FILE)}
    login = (push_login.READ_USER, push_login.get_reading(paths))
    with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S):
        before = images.used_bytes(paths)
        registry = Registry("127.0.0.1", ports["registry"], login)
        try:
            removed = sum([images.take_tag(registry, one.path, one.tag, one.digest) for one in removals])
        finally:
            registry.close()
        images.collect(lambda _: None)
    return Forgotten(removed, max(0, before - images.used_bytes(paths)))
