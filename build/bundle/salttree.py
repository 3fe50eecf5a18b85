# SPDX-License-Identifier: Apache-2.0
"""Put the Salt tree on the ISO as it stands in the sources.

salt/ -> salt -> tree/salt/, table of salt/
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from build.base.plan import Step, Workspace
from build.store import filelist

SALT_DIR = "salt"


def part_file(workspace: Workspace) -> Path:
    """Return the table of the Salt tree."""
    return workspace.part_file("salt")


def plan_salt(source_dir: Path, workspace: Workspace) -> Step:
    """Plan the copy of the tree; the names of its files are read now, their content later."""
    files = filelist.list_files(source_dir)
    part, directory = part_file(workspace), workspace.tree_dir / SALT_DIR
    return Step(
        name="",
        doc=f"the Salt tree ({len(files)} files)",
        run=functools.partial(run_salt, source_dir, files, directory, part),
        inputs=tuple(source_dir / file for file in files),
        outputs=(directory, part),
        config={"files": list(files)},
    )


def run_salt(source_dir: Path, files: Sequence[str], directory: Path, part: Path) -> None:
    """Copy the tree as a whole and write its table."""
    tree = {file: (source_dir / file).read_bytes() for file in files}
    filelist.replace_tree(directory, tree)
    filelist.write_part(part, filelist.entries_of_tree(directory, SALT_DIR, tree, "Salt states"))
