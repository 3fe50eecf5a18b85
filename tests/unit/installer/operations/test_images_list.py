# SPDX-License-Identifier: Apache-2.0
"""Which images there are, the ISO's and the site's, and on which nodes, as the API has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from installer.base.errors import CommandError
from installer.base.paths import Paths
from installer.base.run import Completed
from installer.operations import images
from installer.operations.image_names import ImageName
from installer.operations.images import Site
from tests.unit.installer.helpers import make_product

SITE = Site(
    "10.77.1.11", {"registry-push": 8444, "registry": 5000}, ("10.77.1.11:8444",), Paths(Path("/none"))
)
STORED = (
    (ImageName("quay.io", "vendor/app", "1"), "sha256:1", 10),
    (ImageName("", "site/app", "1"), "sha256:2", 20),
    (ImageName("quay.io", "vendor/nowhere", "1"), "sha256:3", 30),
)
NODES: dict[str, list[list[str] | None]] = {
    "node1": [
        ["registry.k8s.io/pause:3.10.2"],
        ["quay.io/vendor/app@sha256:1", "quay.io/vendor/app:1"],
        None,
    ],
    "node2": [["quay.io/vendor/app:1"], ["10.77.1.11:8444/site/app:1"]],
}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what kubectl says; empty: the API does not answer."""
    items = [
        {"metadata": {"name": name}, "status": {"images": [{"names": names} for names in entries]}}
        for name, entries in NODES.items()
    ]
    said = [json.dumps({"items": [*items, {"metadata": {"name": "node3"}, "status": {}}]})]

    def run(words: Sequence[object], **_: Any) -> Completed:
        assert words[0] == "kubectl"
        if not said:
            raise CommandError("'kubectl' failed: exit code 1")
        return Completed(0, said[0], "")

    @contextmanager
    def inside(_: object) -> Iterator[None]:
        yield None

    monkeypatch.setattr(images, "run", run)
    monkeypatch.setattr(Site, "inside", inside)
    monkeypatch.setattr(images, "_stored", lambda _: STORED)
    return said


@pytest.mark.usefixtures("answers")
def test_each_image_is_told_with_its_origin_and_its_nodes() -> None:
    found = {entry.name: (entry.origin, entry.nodes) for entry in images.list_images(SITE, make_product())}
    assert found == {
        "10.77.1.11:8444/site/app:1": ("site", ("node2",)),
        "quay.io/vendor/app:1": ("site", ("node1", "node2")),
        "quay.io/vendor/nowhere:1": ("site", ()),
        "registry.k8s.io/pause:3.10.2": ("ISO", ("node1",)),
    }


@pytest.mark.parametrize("said", [[], ["{"], ['{"kind": "Status"}']])
def test_nodes_that_the_api_does_not_tell_are_not_known(answers: list[str], said: list[str]) -> None:
    answers[:] = said
    assert {entry.nodes for entry in images.list_images(SITE, make_product())} == {None}
