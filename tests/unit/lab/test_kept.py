# SPDX-License-Identifier: Apache-2.0
"""Which kept disk serves, which are removed, and when a cluster of one is Ready; in a cache of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import cleanup, kept
from lab.__main__ import main
from lab.cache import locked
from lab.errors import LabError
from lab.kept import Recipe
from lab.node import Lab, bootstrap_config

SINCE = "2026-11-27T12:00:00Z"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    file = tmp_path / "the.iso"
    file.write_bytes(b"content")
    return file


@pytest.fixture
def recipe(iso: Path, tmp_path: Path) -> Recipe:
    return Recipe(name="node1", iso=iso, root_image=tmp_path / "abc" / "root.xfs")


def test_what_makes_a_disk_another_one(recipe: Recipe, tmp_path: Path) -> None:
    other = tmp_path / "other.iso"
    other.write_bytes(b"content")
    changed = (
        replace(recipe, name="node2"),
        replace(recipe, iso=other),
        replace(recipe, root_image=tmp_path / "abd" / "root.xfs"),
        replace(recipe, configuration="clusterName: other"),
        replace(recipe, nameserver=None),
    )
    files = {recipe.disk_file, *(one.disk_file for one in changed)}
    assert len(files) == len(changed) + 1
    assert replace(recipe).disk_file == recipe.disk_file


def test_an_iso_of_other_content_makes_another_disk(recipe: Recipe, iso: Path) -> None:
    before = recipe.disk_file
    iso.write_bytes(b"other content")
    assert recipe.disk_file != before


def test_what_makes_the_lab_s_nodes_makes_another_disk(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recipe.disk_file
    changed = tmp_path / "node.py"
    changed.write_text("changed")
    monkeypatch.setattr(kept, "_SOURCES", (*kept._SOURCES[:-1], str(changed)))
    assert recipe.disk_file != before


def test_the_usual_configuration_is_the_same_said_or_not(recipe: Recipe) -> None:
    said = replace(recipe, configuration=bootstrap_config("node1"))
    assert said.disk_file == recipe.disk_file


def test_the_digest_beside_the_iso_is_taken_unless_the_iso_is_newer(iso: Path) -> None:
    own = hashlib.sha256(b"content").hexdigest()
    assert kept.iso_sha256(iso) == own
    said = iso.with_name("the.iso.sha256")
    said.write_text(f"{'0' * 64}  another.iso\n{'1' * 64}  the.iso\n# frame x  the.iso.frame\n")
    assert kept.iso_sha256(iso) == "1" * 64
    os.utime(said, ns=(0, 0))
    assert kept.iso_sha256(iso) == own
    with pytest.raises(LabError, match="no ISO file"):
        kept.iso_sha256(iso.with_name("none.iso"))


def make_disks(names: Sequence[str]) -> list[Path]:
    """Make kept disks, the oldest first."""
    kept.kept_dir().mkdir(parents=True)
    disks = []
    for age, name in enumerate(names):
        disk = kept.kept_dir() / f"{name}.xfs"
        disk.write_bytes(b"x")
        disk.with_suffix(".lock").touch()
        os.utime(disk, ns=(age, age))
        disks.append(disk)
    return disks


def test_the_newest_stay() -> None:
    first, second, third = make_disks(["c", "a", "b"])
    assert kept.kept_disks() == (third, second, first)
    assert kept.drop_disks(2) == 1
    assert kept.kept_disks() == (third, second)
    assert kept.size_bytes() > 0
    assert kept.drop_disks() == 2
    assert kept.kept_disks() == ()


def test_one_that_another_run_has_in_its_hands_is_left_alone() -> None:
    first, _ = make_disks(["a", "b"])
    half_made = first.with_name(".a.half")
    half_made.touch()
    with locked(first.with_suffix(".lock")):
        assert kept.drop_disks() == 1
        assert first.exists()
        assert half_made.exists()
    assert kept.drop_disks() == 1
    assert not half_made.exists()


def test_there_is_nothing_to_drop_where_nothing_was_kept() -> None:
    assert (kept.drop_disks(), kept.kept_disks(), kept.size_bytes()) == (0, (), 0)


def test_the_command_removes_kept_disks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cleanup, "sweep", lambda **_options: ())
    monkeypatch.setattr(cleanup, "labs", lambda: ())
    make_disks(["a", "b"])
    assert main(["clean"]) == 0
    assert "kept: 2 disks of bootstrapped nodes" in capsys.readouterr().out
    assert len(kept.kept_disks()) == 2
    assert main(["clean", "--disks"]) == 0
    assert capsys.readouterr().out == "removed: nothing\nremoved: 2 disks of bootstrapped nodes\n"
    assert kept.kept_disks() == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [((), "needs an ISO"), (("--iso", "the.iso", "--disk-gib", "30"), "is not to be chosen")],
    ids=["no ISO", "another size"],
)
def test_the_command_says_what_a_bootstrapped_node_cannot_be(
    more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", "start", "node1", "--bootstrapped", *more]) == LabError.exit_code
    assert said in capsys.readouterr().err


def node(ready: str = "True") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {"kind": "Node", "metadata": {"name": "node1"}, "status": {"conditions": conditions}}


def pod(started: str = "2026-11-27T12:00:05Z", ready: str = "True") -> dict[str, Any]:
    state = {"running": {"startedAt": started}} if started else {"waiting": {"reason": "Unknown"}}
    status = {"conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [{"state": state}]}
    return {"kind": "Pod", "metadata": {"name": "etcd"}, "status": status}


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([node(), pod()], []),
        ([node(), pod(SINCE)], []),
        ([node(), pod("2026-11-27T11:59:59Z")], ["Pod etcd"]),
        ([node(), pod("")], ["Pod etcd"]),
        ([node(), pod(ready="False")], ["Pod etcd"]),
        ([node(ready="Unknown"), pod()], ["Node node1"]),
        ([node()], ["no node or no pod"]),
        ([], ["no node or no pod"]),
    ],
    ids=["ready", "at once", "of the boot before", "not started", "unready", "node", "no pod", "nothing"],
)
def test_what_is_ready(items: list[dict[str, Any]], said: list[str]) -> None:
    assert [fault.partition(":")[0] for fault in kept.unready_of(items, SINCE)] == said


@pytest.mark.parametrize("options", [[], ["--bootstrapped"]])
def test_an_iso_that_is_not_there_is_told_before_a_lab_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(Lab, "open", lambda lab: opened.append(lab.name))
    words = ["node", "start", "node1", "--lab", "nolab", "--iso", str(tmp_path / "none.iso"), *options]
    assert main(words) != 0
    assert "there is no ISO file" in capsys.readouterr().err
    assert opened == []
