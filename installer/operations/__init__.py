# SPDX-License-Identifier: Apache-2.0
"""What Caisson does to a host, phase by phase, and what it tells of it."""

from __future__ import annotations

from installer.engine.phase import Operation
from installer.operations import bootstrap, node_add, node_remove, replicating, reset

OPERATIONS: tuple[Operation, ...] = (
    bootstrap.OPERATION,
    node_add.OPERATION,
    node_remove.OPERATION,
    replicating.OPERATION,
    reset.OPERATION,
)
"""Every operation; a code is that of one phase among all of theirs."""
