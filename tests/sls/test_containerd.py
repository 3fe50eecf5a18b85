# SPDX-License-Identifier: Apache-2.0
"""containerd's configuration: what it unpacks is on the disk before it counts.

Source: containerd 2.3, plugins/services/diff/local.go; internal/cri/config/config.go.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jinja2

FILE = Path(__file__).parents[2] / "salt/containerd/files/config.toml.j2"


def render(**more: object) -> dict[str, Any]:
    template = jinja2.Template(FILE.read_text(), undefined=jinja2.StrictUndefined)
    return tomllib.loads(template.render(pause_reference="registry.k8s.io/pause:3.10", **more))


def test_every_layer_is_synced_whoever_unpacks_it() -> None:
    plugins = render()["plugins"]
    assert plugins["io.containerd.service.v1.diff-service"]["sync_fs"] is True
    assert plugins["io.containerd.cri.v1.images"]["image_pull_with_sync_fs"] is True


def test_the_rest_of_the_images_table_stays() -> None:
    images = render()["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"] == {"sandbox": "registry.k8s.io/pause:3.10"}
    assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}


def test_layers_are_discarded_where_a_site_wants_it() -> None:
    """Source: containerd 2.3, docs/cri/config.md, ``io.containerd.cri.v1.images``."""
    for given, expected in (
        ({"discard_unpacked_layers": True}, True),
        ({}, None),
        (
            {"discard_unpacked_layers": False},
            None,
        ),
    ):
        images = render(**given)["plugins"]["io.containerd.cri.v1.images"]
        assert images.get("discard_unpacked_layers") is expected
        assert images["image_pull_with_sync_fs"] is True
        assert images["pinned_images"] == {"sandbox": "registry.k8s.io/pause:3.10"}
