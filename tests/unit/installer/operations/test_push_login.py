# SPDX-License-Identifier: Apache-2.0
"""Passwords of the registry: made once, put right after a cut, rotated alone; what the site added stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.base import bcrypt
from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.operations import push_login


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path)
    assert push_login.ensure(made)
    return made


def hashes(paths: Paths) -> dict[str, str]:
    lines = paths.htpasswd_file.read_text().splitlines()
    return {user: hashed for user, _, hashed in (line.partition(":") for line in lines)}


def read_password(paths: Paths) -> str:
    return push_login._read_login(paths.read_login_file)


def is_whole(paths: Paths) -> bool:
    push_login.check(paths)
    found = hashes(paths)
    return bcrypt.is_password(push_login.get(paths), found["caisson"]) and bcrypt.is_password(
        read_password(paths), found["nginx"]
    )


def test_they_are_made_once(paths: Paths) -> None:
    assert is_whole(paths)
    before = paths.htpasswd_file.read_bytes(), paths.htpasswd_file.stat().st_mtime_ns
    assert not push_login.ensure(paths)
    assert (paths.htpasswd_file.read_bytes(), paths.htpasswd_file.stat().st_mtime_ns) == before
    assert len({push_login.get(paths), read_password(paths)}) == 2


@pytest.mark.parametrize("name", ["push_password_file", "read_login_file", "htpasswd_file"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "not text", "open to others"])
def test_what_is_missing_or_damaged_is_made_again(paths: Paths, name: str, damage: str) -> None:
    file: Path = getattr(paths, name)
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "open to others":
        file.chmod(0o644)
    else:
        file.write_bytes(
            {"empty": b"", "cut": whole[: len(whole) // 2], "not text": b"\xff\xfe" * 20}[damage]
        )
    if damage != "open to others":
        with pytest.raises(HostError):
            push_login.check(paths)
    assert push_login.ensure(paths)
    assert is_whole(paths)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not push_login.ensure(paths)


def test_a_new_password_is_that_of_pushes_alone(paths: Paths) -> None:
    old, reading = push_login.get(paths), paths.read_login_file.read_bytes()
    push_login.rotate(paths)
    assert push_login.get(paths) != old
    assert not bcrypt.is_password(old, hashes(paths)["caisson"])
    assert paths.read_login_file.read_bytes() == reading
    assert is_whole(paths)


def test_a_rotation_that_was_cut_off_is_ended_by_the_next_look(paths: Paths) -> None:
    paths.push_password_file.write_text("A" * push_login.LENGTH + "\n")
    with pytest.raises(HostError, match="not those that it knows"):
        push_login.check(paths)
    assert push_login.ensure(paths)
    assert is_whole(paths)


def test_users_of_the_site_stay(paths: Paths) -> None:
    more = f"ci:{bcrypt.hash_password('of the site', cost=4)}\n"
    with paths.htpasswd_file.open("a") as stream:
        stream.write(f"# theirs\n{more}")
    assert is_whole(paths)
    push_login.rotate(paths)
    assert more in paths.htpasswd_file.read_text()
    assert is_whole(paths)


def test_where_there_is_no_registry_nothing_is_rotated(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no password for pushes"):
        push_login.rotate(Paths(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_error_shows_no_password(paths: Paths) -> None:
    paths.push_password_file.write_text(f"{push_login.get(paths)}X\n")
    with pytest.raises(HostError) as caught:
        push_login.get(paths)
    assert "X" not in str(caught.value)
