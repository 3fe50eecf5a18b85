# SPDX-License-Identifier: Apache-2.0
"""List what a host needs of Caisson before it is a node, file by file: it has no media mounted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.base import files
from installer.base.paths import Paths
from installer.config.ports import WORKER_ROLE
from installer.engine import nodepillar
from installer.engine.context import Context
from installer.engine.remotefiles import RemoteFile
from installer.operations import bootstrap

TREES = ("salt", "keys")
"""Beside the installer: the states, and the keys of the packages."""


def wanted(context: Context, caisson: Mapping[str, Any]) -> list[RemoteFile]:
    """Return the installer's tree, the states, the keys, the authority's certificate, the pillar, in this order.

    Raises:
        MediaError: the media is not mounted, or not root's alone.
        HostError: the authority's certificate is not there.
    """
    bootstrap.check_mounted(context)
    own_dir = Path(str(caisson["self_dir"]))
    own = bootstrap.self_files(context.media_dir)
    if caisson["node"]["role"] == WORKER_ROLE:  # it has no console
        own = {name: file for name, file in own.items() if not name.startswith("console/")}
    sources = {**own, **_trees(context.media_dir)}
    tree = [RemoteFile(str(own_dir / name), file.read_bytes()) for name, file in sorted(sources.items())]
    told = [RemoteFile(path, text.encode(), 0o600) for path, text in nodepillar.local_files(caisson).items()]
    command = RemoteFile(str(Paths().command_file), bootstrap.render_command(own_dir).encode(), 0o755)
    return [*tree, RemoteFile(nodepillar.CA_FILE, _authority(context)), *told, command]


def _trees(media_dir: Path) -> dict[str, Path]:
    return {
        str(file.relative_to(media_dir)): file
        for name in TREES
        for file in (media_dir / name).rglob("*")
        if file.is_file() and files.BYTECODE_DIR not in file.parts
    }


def _authority(context: Context) -> bytes:
    return files.read_file(
        context.paths.at(nodepillar.CA_FILE),
        "the certificate of Caisson's authority",
        resolution="run the bootstrap again: its phase salt-master publishes it",
    )
