# SPDX-License-Identifier: Apache-2.0
"""State: packages are installed from the ISO's repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def installed(name: str, packages: list[str]) -> dict[str, Any]:
    """Make sure that every package in ``packages`` is installed; one dnf transaction for what is missing."""
    before = __salt__["caisson_dnf.installed"](packages)
    missing = sorted(set(packages) - set(before))
    if not missing:
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": f"{len(packages)} packages are installed",
        }
    changes = {package: {"old": "", "new": "installed"} for package in missing}
    if __opts__["test"]:
        return {
            "name": name,
            "result": None,
            "changes": changes,
            "comment": f"would install {', '.join(missing)}",
        }
    outcome = __salt__["caisson_dnf.install"](missing)
    after = __salt__["caisson_dnf.installed"](packages)
    absent = sorted(set(packages) - set(after))
    changes = {package: {"old": "", "new": after[package]} for package in missing if package in after}
    if outcome["retcode"] != 0 or absent:
        lines = (outcome["stderr"] or outcome["stdout"]).strip().splitlines()[-20:]
        meant = __salt__["caisson_dnf.explain"](outcome["stdout"] + outcome["stderr"])
        comment = "\n".join([meant or f"dnf could not install {', '.join(absent or missing)}:", *lines])
        return {"name": name, "result": False, "changes": changes, "comment": comment}
    return {"name": name, "result": True, "changes": changes, "comment": f"installed {', '.join(missing)}"}
