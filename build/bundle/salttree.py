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
    directory = workspace.tree_dir / SALT_DIR
    return plan_tree(
        source_dir, directory, part_file(workspace), name="", doc="the Salt tree", owner="Salt states"
    )


def plan_tree(source_dir: Path, directory: Path, part: Path, *, name: str, doc: str, owner: str) -> Step:
    """Plan the copy of a tree of sources to ``directory``, whose name is its place on the ISO."""
    files = filelist.list_files(source_dir)
    return Step(
        name=name,
        doc=f"{doc} ({len(files)} files)",
        run=functools.partial(run_tree, source_dir, files, directory, part, owner),
        inputs=tuple(source_dir / file for file in files),
        outputs=(directory, part),
        config={"files": list(files)},
    )


def run_tree(source_dir: Path, files: Sequence[str], directory: Path, part: Path, owner: str) -> None:
    """Copy the tree as a whole and write its table."""
    tree = {file: (source_dir / file).read_bytes() for file in files}
    filelist.replace_tree(directory, tree)
    filelist.write_part(part, filelist.entries_of_tree(directory, directory.name, tree, owner))
