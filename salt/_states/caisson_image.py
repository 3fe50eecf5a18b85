# SPDX-License-Identifier: Apache-2.0
"""States: container images are in containerd's store, under upstream's name, as the media has them, and pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}


def imported(
    name: str,
    images: dict[str, list[str]],
    layout_dir: str,
    pods: dict[str, dict[str, Any]] | None = None,
    left: list[str] | None = None,
) -> dict[str, Any]:
    """Make sure that ``images`` are imported from the ISO's layout and pinned.

    Reference -> digests: the platform's manifest first (the one that is imported), then those that are as good.
    ``pods`` are static pods that run one of the images, with that image as ``caisson_pod_image.verdict`` takes it:
    where its answer is among ``left``, the image stays as it is, so that its name goes on to mean what the pod runs.
    """
    passed_over = {
        image["reference"]
        for pod, image in (pods or {}).items()
        if __salt__["caisson_pod_image.verdict"](pod, image) in (left or [])
    }
    wanted = {reference: digests for reference, digests in images.items() if reference not in passed_over}

    def bring(missing: dict[str, list[str]]) -> None:
        chosen = {reference: accepted[0] for reference, accepted in missing.items()}
        __salt__["caisson_image.import_all"](chosen, layout_dir)

    return _there(name, wanted, bring, "imported")


def pulled(name: str, images: dict[str, list[str]]) -> dict[str, Any]:
    """Make sure that ``images`` are pulled (through the media server, see hosts.toml) and pinned.

    Reference -> the digests that are as good as one another. What is there under that name with another digest, from
    an earlier ISO of the same version, is pulled again.
    """
    return _there(name, images, __salt__["caisson_image.pull"], "pulled")


def _there(name: str, images: dict[str, list[str]], bring: Any, done: str) -> dict[str, Any]:
    """Make sure that each image is there by one of its digests and pinned; ``bring`` gets those that are not."""
    missing: dict[str, list[str]] = {}
    changes: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        present = __salt__["caisson_image.present"]()
        for reference, digests in images.items():
            found = present.get(reference, {"digest": "", "pinned": False})
            if found["digest"] not in digests:
                missing[reference] = digests
                changes[reference] = {"old": found["digest"], "new": digests[0]}
            elif not found["pinned"]:
                changes[reference] = {"old": "not pinned", "new": "pinned"}
        if not changes:
            return {}, f"{', '.join(images)}: {done} and pinned" if images else "left as it is"
        return changes, f"not {done} or not pinned yet: {', '.join(changes)}"

    def act() -> str:
        bring(missing)
        __salt__["caisson_image.pin"](list(changes))
        present = __salt__["caisson_image.present"]() if missing else {}
        for reference, digests in missing.items():
            found = present.get(reference, {}).get("digest", "nothing")
            if found not in digests:
                raise RuntimeError(
                    f"{reference} was {done}, and it is {found}; the media has {' or '.join(digests)}"
                )
        return f"{done}: {', '.join(missing)}" if missing else f"pinned: {', '.join(changes)}"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said
