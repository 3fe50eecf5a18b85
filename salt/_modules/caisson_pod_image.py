# SPDX-License-Identifier: Apache-2.0
"""Which image a static pod runs, by its manifest, and whether the media's is another: a newer one, an older one.

A manifest that was taken away so that a newer one can take its place is kept beside, until that one is in place: what a
run that was killed in between has removed is still known to the next, also when that comes from another media.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MANIFESTS_DIR = Path("/etc/kubernetes/manifests")
REPLACED_DIR = Path("/var/lib/caisson/replaced")
IMAGE_ANNOTATION = "caisson.io/image-digest"
BUILT_ANNOTATION = "caisson.io/image-built"
FIRST, NEWER, SAME, OLDER = "first", "newer", "same", "older"
VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?\Z")


def recorded(name: str) -> dict[str, Any]:
    """Return what static pod ``name`` runs, or ran before its manifest was taken away; empty where there is none.

    ``reference``, ``digest`` (empty where none was noted), ``built`` (of the newest media that had it, seconds since
    1970, 0 where none was noted), and the ``pod`` itself.
    """
    for file in (MANIFESTS_DIR / f"{name}.yaml", REPLACED_DIR / f"{name}.yaml"):
        pod = _pod(file)
        if pod:
            annotations = pod["metadata"].get("annotations") or {}
            built = str(annotations.get(BUILT_ANNOTATION, ""))
            reference = str(pod["spec"]["containers"][0]["image"])
            return {
                "reference": reference,
                "digest": str(annotations.get(IMAGE_ANNOTATION) or reference.partition("@")[2]),
                "built": int(built) if built.isdigit() else 0,
                "pod": pod,
            }
    return {}


def _pod(file: Path) -> dict[str, Any]:
    """Return the pod of a manifest; nothing where there is none, or a torn one."""
    try:
        pod = yaml.safe_load(file.read_text())
        is_pod = bool(pod["spec"]["containers"][0]["image"]) and isinstance(pod["metadata"], dict)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, IndexError, AttributeError):
        return {}
    return pod if is_pod else {}


def verdict(name: str, image: dict[str, Any]) -> str:
    """Say what the media's image is beside the one that static pod ``name`` runs.

    ``image``: ``reference``; ``digests``, that are as good as one another; ``built``, when the media was made. The
    version decides, by its numbers. What has the same version was made again: the media that was made later has the
    newer one. Of two that were made in the same second none is newer.
    """
    found = recorded(name)
    if not found:
        return FIRST
    order = compare_versions(tag_of(image["reference"]), tag_of(found["reference"]))
    if order:
        return NEWER if order > 0 else OLDER
    if image["built"] < found["built"]:
        return OLDER
    # A manifest that does not say which image it means, as nobody noted it, may mean another.
    if found["digest"] in image["digests"]:
        return SAME
    return NEWER if image["built"] > found["built"] else OLDER


def keeps(name: str, image: dict[str, Any]) -> bool:
    """Say whether what static pod ``name`` reads is to be left as it is.

    So it is where the pod is newer than the media's, and as long as an older one is in place: it would read what a
    newer one understands.
    """
    said = verdict(name, image)
    return said == OLDER or (said == NEWER and bool(_pod(MANIFESTS_DIR / f"{name}.yaml")))


def told(name: str, image: dict[str, Any]) -> str:
    """Return one line about what the media's image is beside the one that runs, and what that means.

    Once the manifest of the older one is away, that is still the one that it is compared with.
    """
    found = recorded(name)
    said = verdict(name, image)
    new = tag_of(image["reference"])
    if said == FIRST:
        return f"{name}: {new} is the first"
    old = tag_of(found["reference"])
    if said == NEWER:
        return (
            f"{name}: {old if old != new else 'an earlier build of ' + old} is replaced by the media's {new}"
        )
    if said == OLDER:
        what = f"the media's {new} is older" if new != old else f"the media has an earlier build of {new}"
        return f"{name}: {old} is left as it is, {what}"
    return f"{name}: {old} is left as it is, the media has the same"


def tag_of(reference: str) -> str:
    """Return the tag of a reference, empty where it has none.

    >>> tag_of("registry.site:5555/a/registry:3.1.2@sha256:ab"), tag_of("registry.site:5555/a")
    ('3.1.2', '')
    """
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[2]


def compare_versions(one: str, other: str) -> int:
    """Return 1, 0 or -1: ``one`` is newer, as new, or older. What is no version is as new as any.

    Source: semver.org 2.0.0, 11: what has a suffix comes before the version without one.

    >>> compare_versions("3.10.0", "3.9.1"), compare_versions("v3.1", "3.1.0"), compare_versions("3.1.0-rc.1", "3.1.0")
    (1, 0, -1)
    >>> compare_versions("3.1.0-rc.10", "3.1.0-rc.9"), compare_versions("latest", "3.1.0")
    (1, 0)
    """
    first, second = VERSION.match(one), VERSION.match(other)
    if first is None or second is None:
        return 0
    keys = [(_numbers(found.group(1)), _suffix(found.group(2) or "")) for found in (first, second)]
    return (keys[0] > keys[1]) - (keys[0] < keys[1])


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        del numbers[-1]
    return numbers


def _suffix(text: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    parts = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in text.split(".")]
    return (not text, parts if text else [])
