# SPDX-License-Identifier: Apache-2.0
"""An image that something in the bundle wants, and how it is found in the layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from build.inventory.reference import completed


@dataclasses.dataclass(frozen=True, order=True)
class Wanted:
    """An image reference, or the id of an image of the bundle, and who wants it."""

    reference: str
    by: str
    is_id: bool = False


def full_reference(reference: str) -> str:
    """Return a reference as runtimes complete it: with registry and tag.

    >>> full_reference("nginx"), full_reference("quay.io/calico/node:v3"), full_reference("a/b@sha256:00")
    ('docker.io/library/nginx:latest', 'quay.io/calico/node:v3', 'docker.io/a/b@sha256:00')
    """
    return completed(reference)


def find_image(reference: str, tags: Mapping[str, str], digests: set[str]) -> str | None:
    """Return the digest of the layout that satisfies a full reference, or None."""
    name, at, digest = reference.partition("@")
    if not at:
        return tags.get(name)
    return digest if digest in digests else None
