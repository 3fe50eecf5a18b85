# SPDX-License-Identifier: Apache-2.0
"""What the bootstrap node asks of a control plane that serves packages and images too, over the bus.

Each function takes one dictionary and returns ``result`` and ``error``: ``installer.operations.replica_answers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

ANSWERS = "installer.operations.replica_answers"


def take_certificate(given: dict[str, Any]) -> dict[str, Any]:
    """Let nginx here serve with the ``certificate`` that is given."""
    return _answer("take_certificate", given)


def forget_images(given: dict[str, Any]) -> dict[str, Any]:
    """Remove the ``images`` that are named from the registry here, and the blobs that nothing names then."""
    return _answer("forget_images", given)


def _answer(function: str, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = __salt__["caisson_installer.call"](ANSWERS, function, given, _paths())
    return found


def _paths() -> Any:
    return __salt__["caisson_installer.call"]("installer.base.paths", "Paths")
