# SPDX-License-Identifier: Apache-2.0
"""States: packages are installed from the media; dnf knows who serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def installed(name: str, packages: list[str]) -> dict[str, Any]:
    """Make sure that every package in ``packages`` is installed; one dnf transaction for what is missing.

    The bootstrap has installed all of them before: then this is one look.
    """

    def look() -> tuple[dict[str, Any], str]:
        missing = __salt__["caisson_dnf.missing"](packages)
        if not missing:
            return {}, f"{len(packages)} packages are installed"
        return dict.fromkeys(missing, "installed"), f"would install {', '.join(missing)}"

    def act() -> str:
        __salt__["caisson_dnf.install"](packages)
        return f"installed {', '.join(packages)}"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def repository_known(name: str) -> dict[str, Any]:
    """Make sure that Caisson's dnf asks the nodes that serve packages now."""

    def look() -> tuple[dict[str, Any], str]:
        if __salt__["caisson_dnf.is_told"]():
            return {}, "dnf knows who serves packages"
        return {"repository": "written"}, "dnf does not know who serves packages"

    def act() -> str:
        __salt__["caisson_dnf.tell"]()
        return "dnf was told who serves packages"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
