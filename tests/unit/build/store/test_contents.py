# SPDX-License-Identifier: Apache-2.0
"""Tables of contents: written, read, merged; trees replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import BuildError
from build.inventory.model import Digest
from build.store import contents
from build.store.contents import Entry


def entry(path: str, text: str = "x", *owners: str) -> Entry:
    return Entry(
        path=path,
        source=Path("/store") / path,
        size_bytes=len(text),
        digest=Digest.of_bytes(text.encode()),
        owners=owners,
    )


@pytest.mark.parametrize("path", ["/a", "a/../b", "a//b", "a/", "a\nb"])
def test_a_path_is_plain_and_relative(path: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        entry(path)


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    entries = (entry("a", "1", "one", "two"), entry("b/c", "2"))
    contents.write_part(tmp_path / "part.json", reversed(entries), {"known": 1})
    assert contents.read_part(tmp_path / "part.json") == entries
    assert contents.read_facts(tmp_path / "part.json") == {"known": 1}


def test_what_two_parts_share_is_listed_once_with_both_owners(tmp_path: Path) -> None:
    contents.write_part(tmp_path / "1", [entry("blob", "same", "image a")])
    contents.write_part(tmp_path / "2", [entry("blob", "same", "image b"), entry("all")])
    merged = contents.merge_parts([tmp_path / "1", tmp_path / "2"])
    assert [(item.path, item.owners) for item in merged] == [("all", ()), ("blob", ("image a", "image b"))]


def test_all_conflicts_are_named(tmp_path: Path) -> None:
    contents.write_part(tmp_path / "1", [entry("blob", "1", "image a"), entry("keys", "1")])
    contents.write_part(tmp_path / "2", [entry("blob", "2", "image b"), entry("keys/baseos.asc", "2")])
    with pytest.raises(BuildError) as caught:
        contents.merge_parts([tmp_path / "1", tmp_path / "2"])
    assert caught.value.details.splitlines() == [
        "blob: image a and image b differ",
        "keys: a file, and a directory for keys/baseos.asc",
    ]


def test_a_tree_is_replaced_whole(tmp_path: Path) -> None:
    tree = tmp_path / "deep" / "tree"
    contents.replace_tree(tree, {"a/b": b"1", "c": b"2"})
    contents.replace_tree(tree, {"a/d": b"3"})
    assert contents.list_files(tree) == ("a/d",)
    assert [path.name for path in tree.parent.iterdir()] == ["tree"]


def test_leftovers_are_not_listed(tmp_path: Path) -> None:
    for name in ("b.py", "a/x.sls", "__pycache__/b.pyc", ".git/config", "b.py~", ".b.py.swp", "c.orig"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert contents.list_files(tmp_path) == ("a/x.sls", "b.py")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    contents.write_text(file, "one")
    contents.write_text(file, "two")
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]
