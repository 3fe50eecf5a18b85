# SPDX-License-Identifier: Apache-2.0
"""Put the console on the ISO as it stands in the sources: it imports nothing but what Salt's own Python has.

console/ -> console -> tree/console/, table of console/
"""

from __future__ import annotations

from pathlib import Path

from build.base.plan import Step, Workspace
from build.bundle import salttree

CONSOLE_DIR = "console"


def part_file(workspace: Workspace) -> Path:
    """Return the table of the console."""
    return workspace.part_file("console")


def plan_console(source_dir: Path, workspace: Workspace) -> Step:
    """Plan the copy of the tree; the names of its files are read now, their content later."""
    return salttree.plan_tree(
        source_dir,
        workspace.tree_dir / CONSOLE_DIR,
        part_file(workspace),
        name=CONSOLE_DIR,
        doc="the console",
        owner="console",
    )
