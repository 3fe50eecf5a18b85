# SPDX-License-Identifier: Apache-2.0
"""Show the ISOs and the images that they and the site have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console import api
from console.known import Known
from console.views import base
from console.views.base import Mark

SHOWN = 300


def view(
    media: Known[dict[str, Any]], images: Known[dict[str, Any]], wanted: str, now: float
) -> dict[str, Any]:
    """Return what the page shows."""
    every = sorted(
        (_image(one) for one in api.items(images.value, "images")),
        key=lambda one: (one["origin"], one["name"]),
    )
    found = [
        one for one in every if wanted.lower() in f"{one['name']} {one['digest']} {one['origin']}".lower()
    ]
    return {
        "media": [_media(one) for one in api.items(media.value, "media")],
        "images": found[:SHOWN],
        "total": len(every),
        "matching": len(found),
        "wanted": wanted,
        "media_source": base.slow_source(media, now),
        "image_source": base.slow_source(images, now),
    }


def _media(data: Mapping[str, Any]) -> dict[str, Any]:
    problem, given = base.words(data.get("problem")), data.get("signed_by")
    signed_by = None if given is None else str(given)
    signed = {None: "not noted", "": "nobody"}.get(signed_by, f"key {signed_by}")
    return {
        "name": base.words(data.get("name")),
        "title": base.words(data.get("title")),
        "profile": base.words(data.get("profile")),
        "mark": Mark.BAD if problem else Mark.GOOD if data.get("mounted") is True else Mark.WARN,
        "state": problem
        or (
            "in use"
            if data.get("in_use") is True
            else "mounted"
            if data.get("mounted") is True
            else "not mounted"
        ),
        "mount_point": base.words(data.get("mount_point")),
        "made_from": base.words(data.get("made_from")) or "unknown",
        "signed_by": signed,
        "size": data.get("size_bytes"),
        "hidden": base.texts(data.get("hidden")),
        "resolution": base.words(data.get("resolution")),
    }


def _image(data: Mapping[str, Any]) -> dict[str, Any]:
    nodes = data.get("nodes")
    return {
        "name": base.words(data.get("name")),
        "origin": base.words(data.get("origin")),
        "digest": base.words(data.get("digest")),
        "size": data.get("size_bytes"),
        "nodes": "unknown" if nodes is None else ", ".join(base.texts(nodes)) or "none",
    }
