# SPDX-License-Identifier: Apache-2.0
"""States: container images are in containerd's store, under upstream's name, and pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def imported(name: str, reference: str, digests: list[str], layout_dir: str) -> dict[str, Any]:
    """Make sure that ``reference`` is imported from the ISO's layout with one of ``digests`` and pinned.

    ``digests``: the platform's manifest first (the one that is imported), then those that are as good (the index).
    """
    found = __salt__["caisson_image.present"]().get(reference, {"digests": [], "pinned": False})
    changes: dict[str, Any] = {}
    if not set(found["digests"]) & set(digests):
        changes[reference] = {"old": ", ".join(found["digests"]), "new": digests[0]}
    elif not found["pinned"]:
        changes[reference] = {"old": "not pinned", "new": "pinned"}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": f"{reference} is imported and pinned"}
    if __opts__["test"]:
        return {"name": name, "result": None, "changes": changes, "comment": f"would import {reference}"}
    try:
        if not set(found["digests"]) & set(digests):
            __salt__["caisson_image.import_from_layout"](reference, digests[0], layout_dir)
        __salt__["caisson_image.pin"]([reference])
    except (RuntimeError, OSError) as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    return {"name": name, "result": True, "changes": changes, "comment": f"imported {reference}"}


def pulled(name: str, references: list[str]) -> dict[str, Any]:
    """Make sure that ``references`` are pulled (through the media server, see hosts.toml) and pinned."""
    before = __salt__["caisson_image.present"]()
    missing = [reference for reference in references if reference not in before]
    unpinned = [reference for reference in references if not before.get(reference, {}).get("pinned", False)]
    if not unpinned:
        return {"name": name, "result": True, "changes": {}, "comment": f"{len(references)} images are there"}
    changes = {reference: {"old": "", "new": "pulled and pinned"} for reference in unpinned}
    if __opts__["test"]:
        return {
            "name": name,
            "result": None,
            "changes": changes,
            "comment": f"would pull {len(missing)} images",
        }
    errors = __salt__["caisson_image.pull"](missing)
    if errors:
        comment = "\n".join(f"{reference}: {error}" for reference, error in sorted(errors.items()))
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    __salt__["caisson_image.pin"](unpinned)
    return {"name": name, "result": True, "changes": changes, "comment": f"pulled {len(missing)} images"}
