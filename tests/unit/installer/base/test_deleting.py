# SPDX-License-Identifier: Apache-2.0
"""A tree goes, and nothing that is merely reached through it: real mounts in a namespace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.base import deleting

ROOT_DIR = Path(__file__).parents[4]
APART = ("unshare", "--user", "--map-root-user", "--mount", "--")


def _fill(tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_text("x", encoding="utf-8")
    (tree / "other").write_text("y", encoding="utf-8")


def test_a_tree_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _fill(tree)
    deleted = deleting.delete_tree(tree)
    assert (tree.exists(), deleted.count, deleted.left) == (False, 5, {})


def test_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert deleting.delete_tree(tmp_path / "tree") == deleting.Deleted()


@pytest.mark.parametrize("is_tree_itself", [True, False])
def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path, *, is_tree_itself: bool) -> None:
    site, tree = tmp_path / "site", tmp_path / "tree"
    _fill(site)
    if is_tree_itself:
        tree.symlink_to(site)
    else:
        tree.mkdir()
        (tree / "link").symlink_to(site)
    deleted = deleting.delete_tree(tree)
    assert not os.path.lexists(tree)
    assert (deleted.left, sorted(site.rglob("*")) != []) == ({}, True)
    assert (site / "a/b/file").read_text(encoding="utf-8") == "x"


def test_what_is_to_stay_stays_with_the_directories_above_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _fill(tree)
    deleted = deleting.delete_tree(tree, keep=[tree / "a/b"])
    assert [str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))] == ["a", "a/b", "a/b/file"]
    assert deleted.left == {str(tree / "a/b"): "kept"}
    assert deleting.delete_tree(tree, keep=[tree / "a/b"]).count == 0


def test_a_depth_that_no_descriptor_reaches_is_no_end(tmp_path: Path) -> None:
    """A pod makes as many levels as it likes; a name in full would be too long for the kernel."""
    tree = tmp_path / "tree"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    assert deleting.delete_tree(tree).left == {}
    assert not tree.exists()


SCENE = """
mount -t tmpfs tmpfs {0}; cd {0}
mkdir -p tree/pods/one/nfs tree/pods/one/bound tree/pods/one/whole disk site/inner
touch site/data site/inner/data tree/pods/one/file
mount -t tmpfs other tree/pods/one/nfs; touch tree/pods/one/nfs/data
mount --bind site tree/pods/one/bound
mount --bind site/data tree/pods/one/file
mount -t tmpfs disk disk; mkdir -p disk/a; touch disk/a/b
{1} -c '
import sys; sys.path.insert(0, "{2}")
from pathlib import Path
from installer.base import deleting
for tree in ("tree", "disk"):
    print(sorted(deleting.delete_tree(Path(tree).absolute()).left.items()))
'
find . -type f | sort
"""


@pytest.mark.subprocess
def test_nothing_that_is_mounted_there_is_entered(tmp_path: Path) -> None:
    """Neither another file system, nor a bind mount of the same one, nor a file that is mounted over."""
    script = SCENE.format(tmp_path, sys.executable, ROOT_DIR)
    said = subprocess.run(
        [*APART, "bash", "-euc", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    one = f"{tmp_path}/tree/pods/one"
    assert eval(said[0]) == [  # noqa: S307  what our own program printed
        (f"{one}/bound", "is a mount: not entered"),
        (f"{one}/file", "Device or resource busy"),
        (f"{one}/nfs", "is a mount: not entered"),
    ]
    assert eval(said[1]) == [(f"{tmp_path}/disk", "is a mount: emptied")]  # noqa: S307
    assert said[2:] == [
        "./site/data",
        "./site/inner/data",
        "./tree/pods/one/bound/data",
        "./tree/pods/one/bound/inner/data",
        "./tree/pods/one/file",
        "./tree/pods/one/nfs/data",
    ]
