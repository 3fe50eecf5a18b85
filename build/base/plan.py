# SPDX-License-Identifier: Apache-2.0
"""What a planner returns: steps, and where their products go.

_out/PROFILE/tree/     generated files, as they lie on the ISO
_out/PROFILE/parts/    one table a step: what it puts on the ISO (see contents.py)
_out/PROFILE/work/     what is kept between runs and not on the ISO
_out/caisson-*.iso     the bundle
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One unit of work, described and not yet done; a doit task or a test runs it.

    ``name`` is the item's name below its product, empty where the step is the whole product. ``inputs`` are
    files. ``outputs`` are files or whole directories that this step alone writes. ``config`` is plain JSON
    data: everything besides the inputs that the outputs depend on. ``kept`` are outputs that cleaning leaves
    alone, because other builds share them. ``run`` may return the SHA-256 (hexadecimal) of files that it
    wrote, where it knows it: then nobody reads them to learn it.
    """

    name: str
    doc: str
    run: Callable[[], Mapping[Path, str] | None]
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: frozenset[Path] = frozenset()


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The directories of one profile's build."""

    out_dir: Path
    profile_name: str

    @property
    def root(self) -> Path:
        """Return the directory of everything but the bundle itself."""
        return self.out_dir / self.profile_name

    @property
    def tree_dir(self) -> Path:
        """Return where generated files lie as on the ISO."""
        return self.root / "tree"

    @property
    def work_dir(self) -> Path:
        """Return where things lie that a later run takes up again."""
        return self.root / "work"

    def part_file(self, name: str) -> Path:
        """Return the file of a part's table of contents."""
        return self.root / "parts" / f"{name}.json"
