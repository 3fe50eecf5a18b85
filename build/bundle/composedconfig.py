# SPDX-License-Identifier: Apache-2.0
"""Render configuration and manifest of a composed image. Source: OCI image-spec 1.1, config.md and manifest.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from build.bundle.composedlayer import Layer, Recipe
from build.bundle.nginxmaps import ManifestType
from build.inventory.model import Digest
from build.store import ociindex

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
#: The same bytes under OCI's name: a Docker base becomes part of an OCI image.
_OCI_LAYER_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}


def render_config(recipe: Recipe, base: Mapping[str, Any], diff_id: Digest) -> bytes:
    """Render the image configuration: the base's, with the recipe's settings and one more layer."""
    image = recipe.image
    created = datetime.fromtimestamp(recipe.source_date_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    settings: dict[str, Any] = dict(base.get("config") or {})
    environment = dict(entry.partition("=")[::2] for entry in settings.get("Env") or ())
    settings["Env"] = [f"{name}={value}" for name, value in {**environment, **image.environment}.items()]
    if image.entrypoint:
        settings["Entrypoint"] = list(image.entrypoint)
        settings.pop("Cmd", None)
    if image.command:
        settings["Cmd"] = list(image.command)
    if image.user:
        settings["User"] = image.user
    if image.working_dir:
        settings["WorkingDir"] = image.working_dir
    packages = " ".join(package.nevra for package in recipe.packages)
    return _canonical(
        {
            "architecture": base.get("architecture", ociindex.PLATFORM[1]),
            "os": base.get("os", ociindex.PLATFORM[0]),
            "created": created,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [*base["rootfs"]["diff_ids"], str(diff_id)]},
            "history": [
                *(base.get("history") or ()),
                {"created": created, "created_by": "caisson build", "comment": packages},
            ],
        }
    )


def render_manifest(recipe: Recipe, base: Mapping[str, Any], config: bytes, layer: Layer) -> bytes:
    """Render the OCI manifest: the base's layers, as they are, and the new one."""
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": ManifestType.OCI_MANIFEST.value,
            "config": {
                "mediaType": _CONFIG_TYPE,
                "digest": str(Digest.of_bytes(config)),
                "size": len(config),
            },
            "layers": [
                *(
                    {
                        "mediaType": _OCI_LAYER_TYPES.get(entry["mediaType"], entry["mediaType"]),
                        "digest": entry["digest"],
                        "size": entry["size"],
                    }
                    for entry in base["layers"]
                ),
                {
                    "mediaType": _LAYER_TYPE,
                    "digest": str(layer.blob.digest),
                    "size": layer.blob.size_bytes,
                },
            ],
            "annotations": {
                "org.opencontainers.image.base.digest": str(recipe.base.platform.digest),
                "org.opencontainers.image.base.name": str(recipe.base.reference),
            },
        }
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
