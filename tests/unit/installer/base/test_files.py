# SPDX-License-Identifier: Apache-2.0
"""Files and trees are replaced whole, and only when they differ."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from installer.base import files
from installer.base.errors import HostError


def test_a_file_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "a/b"
    assert files.write_file(file, "x", mode=0o600)
    assert not files.write_file(file, "x", mode=0o600)
    assert files.write_file(file, "x", mode=0o644)
    assert files.write_file(file, b"y")
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"y", 0o644)
    assert [entry.name for entry in file.parent.iterdir()] == ["b"]


def test_a_file_that_has_to_be_there_is_read_or_the_reason_told(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(HostError, match=f"^the key cannot be read: {file}: No such file") as caught:
        files.read_file(file, "the key", resolution="make it")
    assert caught.value.resolution == "make it"
    file.write_bytes(b"\xff")
    assert files.read_file(file, "the key", resolution="make it") == b"\xff"


def test_a_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    assert files.write_file(tmp_path / "link", "y")
    assert (tmp_path / "victim").read_text() == "x"
    assert not (tmp_path / "link").is_symlink()


def test_a_tree_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "s1").write_text("1")
    (tmp_path / "s2").write_text("2")
    target = tmp_path / "opt/0.1.0"
    (tmp_path / "opt/.0.1.0.new/left").mkdir(parents=True)
    assert files.replace_tree(target, {"a/x": tmp_path / "s1", "b": tmp_path / "s2"})
    assert not files.replace_tree(target, {"a/x": tmp_path / "s1", "b": tmp_path / "s2"})
    (target / "a/__pycache__").mkdir()
    (target / "a/__pycache__/x.pyc").touch()
    assert not files.replace_tree(target, {"a/x": tmp_path / "s1", "b": tmp_path / "s2"})
    (target / "stranger").write_text("3")
    assert files.replace_tree(target, {"a/x": tmp_path / "s2"}, executables=frozenset({"a/x"}))
    assert [str(found.relative_to(target)) for found in target.rglob("*") if found.is_file()] == ["a/x"]
    assert (target / "a/x").stat().st_mode & 0o777 == 0o755
    assert [found.name for found in target.parent.iterdir()] == ["0.1.0"]


def test_a_log_over_its_limit_begins_again_and_keeps_the_last_ones(tmp_path: Path) -> None:
    log_file = tmp_path / "bootstrap.log"
    assert not files.rotate(log_file, limit_bytes=4, keep=2)
    for text in ("first", "second", "third", "last"):
        log_file.write_text(text)
        assert files.rotate(log_file, limit_bytes=4, keep=2) is True
    log_file.write_text("now")
    assert not files.rotate(log_file, limit_bytes=4, keep=2)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "bootstrap.log": "now",
        "bootstrap.log.1": "last",
        "bootstrap.log.2": "third",
    }


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    """Somebody who may write to the directory could otherwise choose which file root overwrites."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / f".file.{os.getpid()}.new").symlink_to(victim)
    assert files.write_file(tmp_path / "file", "text")
    assert victim.read_text() == "untouched"
    assert (tmp_path / "file").read_text() == "text"


def test_a_file_of_the_host_keeps_all_but_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "etc/hosts"
    file.parent.mkdir()
    file.write_bytes(b"one")
    file.chmod(0o640)
    # What a kernel without SELinux keeps as well: a rename alone would have lost it.
    os.setxattr(file, "user.label", b"net_conf_t")
    assert files.edit_host_file(file, b"two")
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"two", 0o640)
    assert os.getxattr(file, "user.label") == b"net_conf_t"
    assert not files.edit_host_file(file, b"two")
    assert [entry.name for entry in file.parent.iterdir()] == ["hosts"]


def test_a_link_to_a_file_of_the_host_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"one")
    (tmp_path / "hosts").symlink_to("real")
    assert files.edit_host_file(tmp_path / "hosts", b"two")
    assert (tmp_path / "hosts").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"two"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EROFS, errno.EXDEV])
def test_where_no_other_file_can_take_the_name_the_bytes_are_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(b"a longer text")

    def refuse(self: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    inode = file.stat().st_ino
    assert files.edit_host_file(file, b"two")
    assert (file.read_bytes(), file.stat().st_ino) == (b"two", inode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["hosts"]


def test_a_file_that_the_host_does_not_let_be_written_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(b"one")

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(HostError, match="cannot be written: Operation not permitted") as caught:
        files.edit_host_file(file, b"two")
    assert "chattr -i" in caught.value.resolution
    assert file.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["hosts"]


def test_a_file_of_another_owner_is_replaced_by_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could change it later, whatever it holds now."""
    file = tmp_path / "file"
    assert files.write_file(file, "text")
    source = tmp_path / "source"
    source.write_text("1")
    assert files.replace_tree(tmp_path / "opt", {"a/x": source})
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    before = file.stat().st_ino
    assert files.write_file(file, "text")
    assert file.stat().st_ino != before
    assert files.replace_tree(tmp_path / "opt", {"a/x": source})


def test_a_directory_that_everybody_may_write_to_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("1")
    assert files.replace_tree(tmp_path / "opt", {"a/x": source})
    assert not files.replace_tree(tmp_path / "opt", {"a/x": source})
    (tmp_path / "opt/a").chmod(0o777)
    assert files.replace_tree(tmp_path / "opt", {"a/x": source})
    assert (tmp_path / "opt/a").stat().st_mode & 0o022 == 0
