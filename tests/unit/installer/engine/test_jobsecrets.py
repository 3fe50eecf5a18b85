# SPDX-License-Identifier: Apache-2.0
"""Secrets reach a job once, lie only in memory, and are gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.base.errors import HostError
from installer.base.mounts import parse_mountinfo
from installer.base.paths import Paths
from installer.engine import jobsecrets


@pytest.fixture
def paths() -> Iterator[Paths]:
    """Return a host of which /run is in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Paths(Path(directory))


def test_they_are_read_once(paths: Paths) -> None:
    jobsecrets.put(paths, "job1", {"password": "geheim"})
    file = paths.secrets_dir / "job1"
    assert file.stat().st_mode & 0o777 == 0o600
    assert paths.secrets_dir.stat().st_mode & 0o777 == 0o700
    assert jobsecrets.take(paths, "job1") == {"password": "geheim"}
    assert list(paths.secrets_dir.iterdir()) == []
    assert jobsecrets.take(paths, "job1") == {}


def test_without_any_nothing_is_made(paths: Paths) -> None:
    jobsecrets.put(paths, "job1", {})
    assert not paths.running_dir.exists()
    assert jobsecrets.take(paths, "job1") == {}


def test_what_killed_commands_have_left_is_deleted(paths: Paths) -> None:
    jobsecrets.put(paths, "job1", {"password": "geheim"})
    (paths.secrets_dir / ".job1.77.new").write_text("geheim")
    jobsecrets.put(paths, "job2", {})
    assert list(paths.secrets_dir.iterdir()) == []


def test_none_is_written_to_a_disk(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = parse_mountinfo("1 0 8:1 / / rw - ext4 /dev/sda1 rw")
    monkeypatch.setattr(jobsecrets, "read_mounts", lambda: mounts)
    with pytest.raises(HostError, match="is not in memory") as caught:
        jobsecrets.put(paths, "job1", {"password": "geheim"})
    assert "ext4, /dev/sda1" in caught.value.details
    assert list(paths.secrets_dir.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_what_others_can_read_is_not_taken_and_does_not_stay(paths: Paths, mode: int) -> None:
    jobsecrets.put(paths, "job1", {"password": "geheim"})
    (paths.secrets_dir / "job1").chmod(mode)
    with pytest.raises(HostError, match="are not taken") as caught:
        jobsecrets.take(paths, "job1")
    assert "geheim" not in str(caught.value)
    assert list(paths.secrets_dir.iterdir()) == []


def test_a_link_is_not_followed(paths: Paths) -> None:
    paths.secrets_dir.mkdir(parents=True)
    (paths.secrets_dir / "job1").symlink_to("/etc/hosts")
    with pytest.raises(HostError, match="are not taken"):
        jobsecrets.take(paths, "job1")


@pytest.mark.parametrize("content", ["geheim", '["geheim"]'])
def test_another_form_is_refused_without_a_word_of_it(paths: Paths, content: str) -> None:
    paths.secrets_dir.mkdir(parents=True)
    file = paths.secrets_dir / "job1"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(HostError) as caught:
        jobsecrets.take(paths, "job1")
    assert "geheim" not in str(caught.value)
    assert not file.exists()
