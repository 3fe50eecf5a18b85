# SPDX-License-Identifier: Apache-2.0
"""States: images are pulled beside other work. What is pulled, and whether, is said by ``caisson_image.pulled``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

END_TIMEOUT_S = 600.0


def started(name: str, references: list[str], url: str, ca_file: str) -> dict[str, Any]:
    """Begin to pull what is missing of ``references`` once ``url`` answers; this is no change of the host yet."""

    def look() -> tuple[dict[str, Any], str]:
        present = __salt__["caisson_image.present"]()
        missing = [reference for reference in references if reference not in present]
        if not missing:
            return {}, "nothing is missing"
        if not __opts__["test"]:
            __salt__["caisson_pulls.start"](missing, url, ca_file)
        return {}, f"{len(missing)} images are pulled in the background"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, test=__opts__["test"])
    return said


def ended(name: str, references: list[str]) -> dict[str, Any]:
    """Wait until nothing pulls any of ``references`` in the background."""

    def probe() -> str:
        left = __salt__["caisson_pulls.pending"](references)
        return f"{', '.join(left)} to be pulled" if left else ""

    said: dict[str, Any] = __salt__["caisson_result.wait"](name, probe, END_TIMEOUT_S, test=__opts__["test"])
    return said
