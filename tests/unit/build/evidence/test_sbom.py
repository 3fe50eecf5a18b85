# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of the small bundle: valid, whole, the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from build.evidence import sbom
from build.inventory import licences
from build.project import Project
from tests.unit.build.factory import World, all_steps, make_project, make_world, write_sources
from tests.unit.build.sbomschemas import dangling, faults, licence_ids


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def documents(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return build(world, tmp_path_factory.mktemp("checkout"))


def build(world: World, checkout: Path) -> dict[str, dict[str, Any]]:
    """Run all that comes before the bill, and the bill."""
    project: Project = make_project(world, write_sources(checkout))
    for step in all_steps(project):
        step.run()
        if step.name == "sbom":
            break
    tree = project.workspace.tree_dir
    return {path: json.loads((tree / path).read_text()) for path in (sbom.SPDX_PATH, sbom.CYCLONEDX_PATH)}


@pytest.mark.subprocess
@pytest.mark.parametrize("path", [sbom.SPDX_PATH, sbom.CYCLONEDX_PATH])
def test_it_is_valid(documents: dict[str, dict[str, Any]], path: str) -> None:
    """By rpm2archive, and the published schemas."""
    assert list(faults(documents[path])) == []
    assert dangling(documents[path]) == set()


@pytest.mark.subprocess
def test_both_name_everything_that_is_locked(world: World, documents: dict[str, dict[str, Any]]) -> None:
    """By rpm2archive."""
    wanted = {package.digest.hex for package in world.lock.packages}
    wanted |= {python.digest.hex for python in world.lock.python}
    wanted |= {manifest.digest.hex for manifest in world.lock.manifests}
    bases = {image.id for image in world.inventory.images if image.role == "base"}
    for image in world.lock.images:
        if image.id not in bases:
            wanted |= {image.digest.hex, *(layer.digest.hex for layer in image.layers)}
    spdx, cyclonedx = documents[sbom.SPDX_PATH], documents[sbom.CYCLONEDX_PATH]
    assert wanted <= {
        checksum["checksumValue"] for package in spdx["packages"] for checksum in package.get("checksums", ())
    }
    assert wanted <= {
        digest["content"] for component in cyclonedx["components"] for digest in component.get("hashes", ())
    }
    assert len(spdx["packages"]) == len(cyclonedx["components"]) + 1


@pytest.mark.subprocess
def test_a_composed_image_contains_its_packages(documents: dict[str, dict[str, Any]]) -> None:
    """By rpm2archive."""
    entries = {entry["ref"]: entry["dependsOn"] for entry in documents[sbom.CYCLONEDX_PATH]["dependencies"]}
    (composed,) = [parts for ref, parts in entries.items() if "caisson.internal/salt-master" in ref]
    assert any(part.startswith("rpm-salt-master-") for part in composed)


@pytest.mark.subprocess
def test_another_build_gives_the_same(
    world: World, documents: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """By rpm2archive."""
    assert build(world, tmp_path) == documents


def test_licences_are_only_those_of_the_list() -> None:
    known = licence_ids()
    assert sorted(licences._IDS - known) == []
    assert sorted(set(licences._FORMER_NAMES.values()) - licences._IDS - known) == []


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("ASL 2.0", "Apache-2.0"),
        ("GPLv2 and GPLv2+", "GPL-2.0-only AND GPL-2.0-or-later"),
        ("GPL-2.0-or-later AND LGPL-2.1-or-later", "GPL-2.0-or-later AND LGPL-2.1-or-later"),
        ("(MIT or BSD-3-Clause) and ISC", "(MIT OR BSD-3-Clause) AND ISC"),
        ("BSD", None),
        ("MIT and", None),
        ("(MIT", None),
        ("MIT MIT", None),
        ("Public Domain", None),
    ],
)
def test_what_is_an_expression(text: str, expression: str | None) -> None:
    assert licences.spdx_expression(text) == expression
