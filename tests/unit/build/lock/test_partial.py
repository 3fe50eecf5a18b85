# SPDX-License-Identifier: Apache-2.0
"""A lock of which one thing is renewed: everything else stays, unless it must change."""

from __future__ import annotations

import dataclasses
import difflib

import pytest

from build.base.errors import LockError
from build.inventory.model import Lock
from build.lock.lockfile import read_lock
from build.lock.resolve import run_lock
from tests.unit.build.fakerepo import Rpm, comps_xml
from tests.unit.build.fakesite import IMAGES, PACKAGES, VERSIONS, Site

pytestmark = [pytest.mark.loopback, pytest.mark.subprocess]


@pytest.fixture
def site(site: Site) -> Site:
    """Make a site that was locked, and whose upstream has moved in everything since."""
    put_tools(site, "1.0-1.el9")
    lock(site)
    put_tools(site, "1.0-1.el9", "1.1-1.el9")
    site.put_image("pause", is_indexed=False)
    site.put_image("old", is_docker=True)
    site.upstream.put("/raw/net.yaml", b"apiVersion: v1\nkind: Another\n")
    baseline = [Rpm(name="setup", evr="2-1"), Rpm(name="bash", requires=("setup",))]
    site.put_repository("baseos", baseline, comps=comps_xml("core", ["bash"]))
    return site


def put_tools(site: Site, *versions: str, needs: str = "") -> None:
    """Serve the repository of tools: the pinned one requires a library and a helper of these versions."""
    found = [site.rpm("tool", requires=("library", "helper", "bash"))]
    for evr in versions:
        found.append(site.rpm("library", evr=evr, requires=(needs,) if needs else ()))
        found.append(site.rpm("helper", evr=evr))
    site.put_repository("tools", found)


def lock(site: Site, name: str = "") -> Lock:
    run_lock(site.profile_file, None, site.root_dir / "cache", sources=site.sources, name=name)
    return read_lock(site.lock_file)


def changed(site: Site, name: str) -> tuple[Lock, Lock, list[str]]:
    """Renew one thing; return the lock before and after, and the lines that differ."""
    text = site.lock_file.read_text(encoding="utf-8")
    before = read_lock(site.lock_file)
    after = lock(site, name)
    new = site.lock_file.read_text(encoding="utf-8")
    lines = difflib.unified_diff(text.splitlines(), new.splitlines(), lineterm="", n=0)
    return before, after, [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize("name", ["pause", "registry.k8s.io/pause:3.10"])
def test_an_image_is_renewed_and_nothing_else(site: Site, name: str) -> None:
    before, after, lines = changed(site, name)
    assert after.image("pause") != before.image("pause")
    rest = tuple(image for image in after.images if image.id != "pause")
    assert dataclasses.replace(after, images=(*rest, before.image("pause"))) == before
    assert lines


def test_nobody_else_is_asked_for_an_image(site: Site) -> None:
    site.upstream.seen.clear()
    lock(site, "pause")
    assert {seen.path.split("/")[1] for seen in site.upstream.seen} <= {"v2", "token"}
    assert not [seen for seen in site.upstream.seen if "/old/" in seen.path]


def test_a_manifest_is_renewed_and_nothing_else(site: Site) -> None:
    before, after, _ = changed(site, "net")
    assert after.manifests != before.manifests
    assert dataclasses.replace(after, manifests=before.manifests) == before


def test_a_package_is_renewed_and_the_others_stay(site: Site) -> None:
    before, after, _ = changed(site, "library")
    assert {package.name: package.version for package in after.packages} == {
        "helper": "1.0",
        "library": "1.1",
        "tool": "1.0",
    }
    assert after.images == before.images
    assert after.source_date_epoch == before.source_date_epoch
    assert [package for package in after.packages if package.name != "library"] == [
        package for package in before.packages if package.name != "library"
    ]


def test_a_composed_image_is_renewed_with_its_packages(site: Site) -> None:
    put_tools(site, "1.0-1.el9", "1.1-1.el9")
    _, after, _ = changed(site, "made")
    assert after.package("tool").version == "1.0"  # as the inventory pins it
    assert after.package("library").version == "1.0"


def test_what_must_change_does(site: Site) -> None:
    put_tools(site, "1.1-1.el9", needs="helper >= 1.1")
    _, after, _ = changed(site, "library")
    assert {package.version for package in after.packages if package.name != "tool"} == {"1.1"}


def test_what_upstream_no_longer_has_is_replaced(site: Site) -> None:
    put_tools(site, "1.1-1.el9")
    _, after, _ = changed(site, "tool")
    assert after.package("helper").version == "1.1"


def test_a_new_version_of_one_image_is_taken_alone(site: Site) -> None:
    upstream = site.upstream
    for path in [path for path in upstream.content if path.endswith("/pause/manifests/3.10")]:
        newer = path.replace("3.10", "3.11")
        upstream.put(newer, upstream.content[path], upstream.types[path])
        upstream.extra_headers[newer] = upstream.extra_headers[path]
    images = IMAGES.replace("pause:3.10", "pause:{pause}")
    (site.root_dir / "images.yaml").write_text(images, encoding="utf-8")
    (site.root_dir / "versions.yaml").write_text(
        VERSIONS.replace("{tool", "{pause: '3.11', tool"), encoding="utf-8"
    )
    before, after, _ = changed(site, "pause")
    assert after.image("pause").reference.tag == "3.11"
    assert after.image("old") == before.image("old")
    assert (after.packages, after.baselines, after.keys) == (before.packages, before.baselines, before.keys)


def test_an_inventory_that_wants_other_packages_is_solved_with_what_is_locked(site: Site) -> None:
    more = PACKAGES.replace("packages: [", "packages: [{name: bash, repository: baseos, purpose: a shell}, ")
    (site.root_dir / "packages.yaml").write_text(more, encoding="utf-8")
    baseline = [site.rpm("setup"), site.rpm("bash", requires=("setup",))]
    site.put_repository("baseos", baseline, comps=comps_xml("core", ["bash"]))
    _, after, _ = changed(site, "pause")
    assert {package.name: package.version for package in after.packages} == {
        "bash": "1.0",
        "helper": "1.0",
        "library": "1.0",
        "tool": "1.0",
    }


def test_a_wrong_name_lists_those_near_and_writes_nothing(site: Site) -> None:
    before = site.lock_file.read_bytes()
    with pytest.raises(LockError, match="'libary' is not in the lock") as caught:
        lock(site, "libary")
    assert "near it: library" in caught.value.details
    assert site.lock_file.read_bytes() == before


def test_without_a_lock_there_is_nothing_to_keep(site: Site) -> None:
    site.lock_file.unlink()
    with pytest.raises(LockError, match="there is no lock"):
        lock(site, "pause")
