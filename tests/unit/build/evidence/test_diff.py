# SPDX-License-Identifier: Apache-2.0
"""What differs between two locks, and between two ISOs of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from build.evidence import diff
from build.inventory.model import Blob, Digest, Lock
from build.lock.lockfile import dump_lock
from tests.unit.build.factory import World, build_bundle, make_world


def blob(text: str, size_bytes: int) -> Blob:
    return Blob(digest=Digest.of_bytes(text.encode()), size_bytes=size_bytes)


def another(lock: Lock) -> Lock:
    """Return a lock with each kind of difference."""
    kubelet = lock.package("kubelet")
    packages = [package for package in lock.packages if package.name not in ("kubelet", "salt")]
    packages += [
        dataclasses.replace(kubelet, version="1.36.10", digest=Digest.of_bytes(b"up"), size_bytes=9_000_000),
        dataclasses.replace(kubelet, name="added", digest=Digest.of_bytes(b"added"), size_bytes=1_000),
    ]
    images = []
    for image in lock.images:
        if image.id == "nginx":
            layers = (image.layers[0], blob("new layer", 2_000_000))
            reference = dataclasses.replace(image.reference, tag="1.29")
            digest = Digest.of_bytes(b"down")
            images.append(dataclasses.replace(image, reference=reference, layers=layers, digest=digest))
        elif image.id == "pause":
            images.append(dataclasses.replace(image, digest=Digest.of_bytes(b"rebuilt")))
        else:
            images.append(image)
    return dataclasses.replace(
        lock, packages=tuple(packages), images=tuple(images), versions={**lock.versions, "nginx": "1.29"}
    )


@pytest.fixture
def comparison(tmp_path: Path) -> diff.Comparison:
    lock = make_world(tmp_path).lock
    return diff.compare(diff.bundle_of_lock(lock, "A.lock"), diff.bundle_of_lock(another(lock), "B.lock"))


@pytest.mark.parametrize("name", ["text", "json", "markdown"])
def test_as_people_and_programs_read_it(
    comparison: diff.Comparison, golden: Callable[[str, str], None], name: str
) -> None:
    golden(f"diff.{name}", diff._RENDERERS[name](comparison))


def test_a_bundle_does_not_differ_from_itself(tmp_path: Path) -> None:
    bundle = diff.bundle_of_lock(make_world(tmp_path).lock, "A.lock")
    comparison = diff.compare(bundle, bundle)
    assert comparison.differences == ()
    assert diff.render_text(comparison) == "A.lock -> A.lock\n\nNothing differs.\n"


def test_a_dependency_across_repositories_is_shown(tmp_path: Path) -> None:
    lock = make_world(tmp_path).lock
    salt = dataclasses.replace(lock.package("salt"), repository="third", crosses=("salt-master",))
    packages = tuple(salt if package.name == "salt" else package for package in lock.packages)
    crossed = diff.bundle_of_lock(dataclasses.replace(lock, packages=packages), "B.lock")
    comparison = diff.compare(diff.bundle_of_lock(lock, "A.lock"), crossed)
    line = "added: salt-master requires salt of repository 'third'"
    assert f"Dependencies across repositories\n  {line}\n" in diff.render_text(comparison)
    assert f"- {line}\n" in diff.render_markdown(comparison)
    assert json.loads(diff.render_json(comparison))["crossings"] == [line]
    assert "Nothing differs" not in diff.render_text(comparison)
    back = diff.compare(crossed, diff.bundle_of_lock(lock, "A.lock"))
    assert diff.crossing_lines(back) == (line.replace("added", "removed"),)


def item(text: str, digest: str = "") -> diff.Item:
    """Return an item of a version; a second word makes it another build of the same."""
    return diff.Item(version=text.split(maxsplit=1)[0], digest=digest or text, size_bytes=10)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (["1.9-1"], ["1.10-1"], ["up"]),
        (["2:1.0-1"], ["1:2.0-1"], ["down"]),
        (["v3.9.0"], ["v3.31.0"], ["up"]),
        (["1-1", "2-1"], ["2-1"], ["removed"]),
        (["1-1"], ["1-1", "2-1"], ["added"]),
        (["1-1", "2-1"], ["1-2", "2-1"], ["up"]),
        (["2-1"], ["1-1 a", "2-1 b"], ["changed", "added"]),
    ],
)
def test_builds_are_paired_in_order(before: list[str], after: list[str], found: list[str]) -> None:
    differences = diff._differences("package", "x", [*map(item, before)], [*map(item, after)])
    assert [difference.change for difference in differences] == found


def test_other_bytes_under_one_version_are_a_change() -> None:
    (difference,) = diff._differences("package", "x", [item("1", "a")], [item("1", "b")])
    assert difference.change is diff.Change.CHANGED


@pytest.mark.subprocess
def test_an_iso_says_what_its_lock_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By rpm2archive and xorriso. Only the composed image is not in a lock, and a base not on an ISO."""
    world: World = make_world(tmp_path / "world")
    iso_file = build_bundle(world, tmp_path / "checkout")
    lock_file = tmp_path / "caisson.lock"
    lock_file.write_text(dump_lock(world.lock))
    assert diff.main([str(lock_file), str(iso_file), "--format", "json"]) == 0
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert {(entry["kind"], entry["change"]) for entry in differences} <= {
        ("image", "added"),
        ("image", "removed"),
    }
    added = [entry["name"] for entry in differences if entry["change"] == "added"]
    assert added == ["caisson.internal/salt-master"]


def test_what_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.iso").write_bytes(b"no image")
    assert diff.main([str(tmp_path / "x.iso"), str(tmp_path / "none.lock")]) == 25
    assert diff.main([str(tmp_path / "none.lock"), str(tmp_path / "x.iso")]) == 13
    assert "there is no lock" in capsys.readouterr().err
