# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of the small bundle: valid, whole, the same each time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from lib4sbom.parser import SBOMParser
from packageurl import PackageURL

from build.evidence import sbom
from build.inventory import licences
from build.project import Project
from tests.unit.build.evidence.test_scan import APK, DPKG, METADATA
from tests.unit.build.factory import (
    Member,
    World,
    all_steps,
    make_project,
    make_world,
    tar_layer,
    tiny_rpm,
    tiny_rpmdb,
    write_sources,
)  # fmt: skip
from tests.unit.build.goprograms import elf, information
from tests.unit.build.sbomschemas import dangling, faults, licence_ids

BAD_NAME = b"caf\xe9".decode(errors="surrogateescape")
RELEASE = b"ID=almalinux\nVERSION_ID=9.8\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return with_insides(make_world(tmp_path_factory.mktemp("world")))


def with_insides(world: World) -> World:
    """Put databases and programs into nginx's image, the base of the composed one, and the package of Salt."""
    pot, lock = world.pot, world.lock
    nginx = pot.image(
        "nginx",
        "docker.io/library/nginx:1.30",
        layers=[
            tar_layer({"usr/lib/os-release": b"ID=debian\nVERSION_ID=13\n", "var/lib/dpkg/status": DPKG}),
            tar_layer({f"{BAD_NAME}/tool": elf(information()), "lib/apk/db/installed": APK}),
        ],
    )
    database = tiny_rpmdb(tiny_rpm("bash", "5.1.8", "9.el9", arch="x86_64"))
    base = pot.image(
        "base-os",
        "docker.io/library/almalinux:9.8",
        layers=[
            tar_layer({"etc/os-release": RELEASE, "var/lib/rpm/rpmdb.sqlite": database, "etc/passwd": b""})
        ],
    )
    path = "/opt/salt/lib/jinja2-3.1.6.dist-info/METADATA"
    salt = pot.package(
        "salt", "3008.3", "0", required_by=["salt-master"], members=[Member(path=path, data=METADATA)]
    )
    changed = dataclasses.replace(
        lock,
        images=tuple({"nginx": nginx, "base-os": base}.get(image.id, image) for image in lock.images),
        packages=tuple(salt if package.name == "salt" else package for package in lock.packages),
    )
    return dataclasses.replace(world, lock=changed)


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


PURLS = {
    "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13&upstream=glibc%402.41-12",
    "pkg:deb/debian/unpacked@1:2.0~rc1?arch=all&distro=debian-13",
    "pkg:apk/debian/musl@1.2.5-r10?arch=x86_64&distro=debian-13",
    "pkg:rpm/almalinux/bash@5.1.8-9.el9?arch=x86_64&distro=almalinux-9.8&upstream=bash-5.1.8-9.el9.src.rpm",
    "pkg:pypi/jinja2@3.1.6",
}


@pytest.mark.subprocess
def test_what_is_inside_of_images_and_packages_is_named(documents: dict[str, dict[str, Any]]) -> None:
    """By rpm2archive. In both documents, with where it is."""
    cyclonedx = documents[sbom.CYCLONEDX_PATH]
    assert {item.get("purl") for item in cyclonedx["components"]} >= PURLS
    spdx = documents[sbom.SPDX_PATH]["packages"]
    assert {ref["referenceLocator"] for item in spdx for ref in item.get("externalRefs", ())} >= PURLS
    parts = {entry["ref"]: entry["dependsOn"] for entry in cyclonedx["dependencies"]}
    assert "pkg:pypi/jinja2@3.1.6" in parts["rpm-salt-3008.3-0.noarch"]
    (master,) = [keys for ref, keys in parts.items() if "caisson.internal/salt-master" in ref]
    assert {"pkg:pypi/jinja2@3.1.6", "os-almalinux-9.8"} < {*master}
    assert any(item["name"] == "/caf\\xe9/tool" for item in cyclonedx["components"])


@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # lib4sbom leaves files open
def test_published_parsers_read_it(
    world: World, documents: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """By rpm2archive. The parser of package URLs gives each one back as it was; that of bills finds as many."""
    purls = [item["purl"] for item in documents[sbom.CYCLONEDX_PATH]["components"] if "purl" in item]
    assert [PackageURL.from_string(purl).to_string() for purl in purls] == purls
    for path, document in documents.items():
        file = tmp_path / path.rsplit("/", 1)[1]
        file.write_text(json.dumps(document))
        parser = SBOMParser()
        parser.parse_file(str(file))
        read = {item["name"] for item in parser.get_packages()}
        assert read >= {"libc6", "musl", "bash", "Jinja2", "kubelet"}


@pytest.mark.subprocess
def test_what_is_inside_is_counted(documents: dict[str, dict[str, Any]]) -> None:
    """By rpm2archive."""
    assert list(sbom.render_counts(documents[sbom.CYCLONEDX_PATH])) == [
        "caisson.internal/salt-master 3008.3: 1 RPM, 1 Python",
        "docker.io/library/nginx 1.30: 2 apk, 2 Debian, 1 Go program, 4 Go module",
        "salt 3008.3-0: 1 Python",
        "in all, each once: 2 apk, 2 Debian, 1 RPM, 1 Python, 1 Go program, 4 Go module",
    ]


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
