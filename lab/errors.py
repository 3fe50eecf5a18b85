# SPDX-License-Identifier: Apache-2.0
"""The lab's one error type: what happened, the facts, what to do."""

from __future__ import annotations


class LabError(Exception):
    """Say what failed, with the facts that were at hand and what the reader can do.

    ``details`` may span lines; ``resolution`` is one sentence and may be empty when nobody can know it.

    >>> print(LabError("the node 'node1' did not boot", details="console: ...", resolution="look at it"))
    the node 'node1' did not boot
      details: console: ...
      resolution: look at it
    """

    exit_code = 3

    def __init__(self, message: str, details: str = "", resolution: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.resolution = resolution

    def __str__(self) -> str:
        lines = [self.message]
        if self.details:
            lines.append("  details: " + self.details.rstrip().replace("\n", "\n    "))
        if self.resolution:
            lines.append("  resolution: " + self.resolution)
        return "\n".join(lines)


class CommandError(LabError):
    """A command ended with another code than 0, could not be started, or took too long.

    ``returncode`` is negative for a signal, and None when the command never ended by itself.
    """

    def __init__(
        self, message: str, details: str = "", resolution: str = "", *, returncode: int | None
    ) -> None:
        super().__init__(message, details, resolution)
        self.returncode = returncode
