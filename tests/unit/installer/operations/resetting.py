# SPDX-License-Identifier: Apache-2.0
"""Make the context of a reset for its tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.engine.journal import Journal
from installer.operations import reset_plan
from installer.operations.reset_plan import Noted, ResetContext
from tests.unit.installer.helpers import make_product

ARCHIVE = "/var/log/caisson/before-reset-x"


def make_reset(root: Path, kept: Sequence[str] = ()) -> ResetContext:
    """Return the context of a reset of the host below ``root``, with this much noted as kept."""
    paths = Paths(root)
    noted = Noted(ARCHIVE, dict.fromkeys(kept, "a volume"))
    journal = Journal(paths.at(f"{ARCHIVE}/reset.jsonl"), operation=reset_plan.NAME)
    return ResetContext(paths, Ui(io.StringIO(), is_terminal=False), journal, noted, make_product())
