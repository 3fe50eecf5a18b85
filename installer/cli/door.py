# SPDX-License-Identifier: Apache-2.0
"""``caisson door``: root's side of the console. systemd starts it for each connection; nobody types it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from installer.base.paths import Paths
from installer.cli import jobs
from installer.cli.common import Arguments, add_common, need_root
from installer.operations.door import service, wire

NAME = "door"


def add_command(commands: Any) -> None:
    """Add the command; it is in no help."""
    parser = commands.add_parser(NAME)
    add_common(parser, has_config=False)
    parser.set_defaults(handler=_serve)


def _serve(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    os.umask(0o022)
    with wire.of_stdin() as connection:
        door = service.Door(paths, tree_dir, jobs.program(arguments, tree_dir), wire.allowed_users())
        door.serve(connection)
    return 0
