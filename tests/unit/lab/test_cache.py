# SPDX-License-Identifier: Apache-2.0
"""A kept directory is made once, trusted while it is as recorded, and made anew when it is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab import cache


class Maker:
    """Count how often a directory is made; each time it holds a program, a text and a link."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, work_dir: Path) -> None:
        self.calls += 1
        (work_dir / "sub").mkdir()
        (work_dir / "sub" / "program").write_text(f"made {self.calls}")
        (work_dir / "sub" / "program").chmod(0o755)
        (work_dir / "text").write_text("text")
        (work_dir / "link").symlink_to("text")


@pytest.fixture
def target_dir(tmp_path: Path) -> Path:
    return tmp_path / "kind" / "name"


def test_cache_dir_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path))
    assert cache.lab_dir("bin") == tmp_path / "lab" / "bin"
    monkeypatch.delenv("CAISSON_CACHE")
    assert cache.cache_dir() == Path.home() / ".cache" / "caisson"


def test_a_directory_is_made_once(target_dir: Path) -> None:
    make = Maker()
    assert cache.produce(target_dir, make) == target_dir
    cache.produce(target_dir, make)
    assert make.calls == 1
    assert (target_dir / "sub" / "program").read_text() == "made 1"


def test_recorded_digests_are_those_of_the_regular_files(target_dir: Path) -> None:
    cache.produce(target_dir, Maker())
    recorded = cache.recorded_sha256(target_dir)
    assert sorted(recorded) == ["sub/program", "text"]
    assert recorded["text"] == cache.file_sha256(target_dir / "text")


def _change_content(target_dir: Path) -> None:
    (target_dir / "text").write_text("tex!")


def _remove_file(target_dir: Path) -> None:
    (target_dir / "text").unlink()


def _add_file(target_dir: Path) -> None:
    (target_dir / "more").touch()


def _turn_link(target_dir: Path) -> None:
    (target_dir / "link").unlink()
    (target_dir / "link").symlink_to("sub")


def _change_mode(target_dir: Path) -> None:
    (target_dir / "sub" / "program").chmod(0o644)


def _remove_manifest(target_dir: Path) -> None:
    target_dir.with_name("name.json").unlink()


def _break_manifest(target_dir: Path) -> None:
    target_dir.with_name("name.json").write_text('{"files": {"text": 1}}')


@pytest.mark.parametrize(
    "spoil",
    [_change_content, _remove_file, _add_file, _turn_link, _change_mode, _remove_manifest, _break_manifest],
)
def test_a_spoilt_directory_is_made_anew(target_dir: Path, spoil: object) -> None:
    make = Maker()
    cache.produce(target_dir, make)
    assert callable(spoil)
    spoil(target_dir)
    assert not cache.is_intact(target_dir)
    cache.produce(target_dir, make)
    assert make.calls == 2
    assert cache.is_intact(target_dir)


def test_new_file_times_alone_cost_one_hashing(target_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    cache.produce(target_dir, make)
    os.utime(target_dir / "text", (1, 1))
    hashed: list[Path] = []
    real = cache.file_sha256

    def count(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(cache, "file_sha256", count)
    assert cache.is_intact(target_dir)
    assert cache.is_intact(target_dir)
    assert hashed == [target_dir / "text"]
    assert make.calls == 1


def test_a_failed_making_leaves_nothing_and_can_be_repeated(target_dir: Path) -> None:
    def fail(work_dir: Path) -> None:
        (work_dir / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.produce(target_dir, fail)
    assert [path.name for path in target_dir.parent.iterdir()] == ["name.lock"]
    cache.produce(target_dir, Maker())
    assert cache.is_intact(target_dir)


def test_what_a_killed_run_left_is_removed(target_dir: Path) -> None:
    left_over = target_dir.parent / ".name.abc"
    (left_over / "sub").mkdir(parents=True)
    (left_over / "sub").chmod(0o500)
    cache.produce(target_dir, Maker())
    assert not left_over.exists()


def test_replace_text_leaves_no_temporary_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    cache.replace_text(file, "one")
    cache.replace_text(file, "two")
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_the_manifest_is_readable(target_dir: Path) -> None:
    cache.produce(target_dir, Maker())
    document = json.loads(target_dir.with_name("name.json").read_text())
    assert document["files"]["link"]["content"] == "link:text"
