# SPDX-License-Identifier: Apache-2.0
"""Tables of contents: written, read, merged; trees replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from build.base.errors import BuildError, IntegrityError
from build.inventory.model import Digest
from build.store import filelist
from build.store.filelist import Entry


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
    filelist.write_part(tmp_path / "part.json", reversed(entries), {"known": 1})
    assert filelist.read_part(tmp_path / "part.json") == entries
    assert filelist.read_facts(tmp_path / "part.json") == {"known": 1}


def test_what_two_parts_share_is_listed_once_with_both_owners(tmp_path: Path) -> None:
    filelist.write_part(tmp_path / "1", [entry("blob", "same", "image a")])
    filelist.write_part(tmp_path / "2", [entry("blob", "same", "image b"), entry("all")])
    merged = filelist.merge_parts([tmp_path / "1", tmp_path / "2"])
    assert [(item.path, item.owners) for item in merged] == [("all", ()), ("blob", ("image a", "image b"))]


def test_all_conflicts_are_named(tmp_path: Path) -> None:
    filelist.write_part(tmp_path / "1", [entry("blob", "1", "image a"), entry("keys", "1")])
    filelist.write_part(tmp_path / "2", [entry("blob", "2", "image b"), entry("keys/baseos.asc", "2")])
    with pytest.raises(BuildError) as caught:
        filelist.merge_parts([tmp_path / "1", tmp_path / "2"])
    assert caught.value.details.splitlines() == [
        "blob: image a and image b differ",
        "keys: a file, and a directory for keys/baseos.asc",
    ]


def test_a_tree_is_replaced_whole(tmp_path: Path) -> None:
    tree = tmp_path / "deep" / "tree"
    filelist.replace_tree(tree, {"a/b": b"1", "c": b"2"})
    filelist.replace_tree(tree, {"a/d": b"3"})
    assert filelist.list_files(tree) == ("a/d",)
    assert [path.name for path in tree.parent.iterdir()] == ["tree"]


def test_leftovers_are_not_listed(tmp_path: Path) -> None:
    for name in ("b.py", "a/x.sls", "__pycache__/b.pyc", ".git/config", "b.py~", ".b.py.swp", "c.orig"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert filelist.list_files(tmp_path) == ("a/x.sls", "b.py")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        '{"files": [{}], "facts": 5}',
        '{"files": 5}',
        '{"files": [null], "facts": null}',
    ],
)
def test_a_damaged_part_is_told_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rpms.json"
    file.write_text(text)
    for read in (filelist.read_part, filelist.read_facts):
        with pytest.raises(IntegrityError, match=r"is damaged: rpms\.json") as caught:
            read(file)
        assert str(file) in caught.value.resolution
