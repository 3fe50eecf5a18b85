# SPDX-License-Identifier: Apache-2.0
"""Files on another host, by a real sshd on loopback: whole, with their mode, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.base.errors import CommandError
from installer.engine import remotefiles
from installer.engine.remotefiles import RemoteFile, put
from installer.engine.ssh import Connection
from tests.unit.installer.sshd import PASSWORD, Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]


@pytest.mark.parametrize("user", ["root", "asked"])
def test_files_arrive_whole_with_their_mode(server: Server, user: str) -> None:
    target = server.directory / "there" / user / "deep"
    data = bytes(range(256)) * 20_000
    files = [
        RemoteFile(f"{target}/big", data, 0o600),
        RemoteFile(f"{target}/empty", b""),
        RemoteFile(f"{target}/a b'c", b"x\n", 0o755),
    ]
    with Connection(server.entry(user), paths=server.paths, terminal=Typist(PASSWORD)) as host:
        put(host, files)
        put(host, files)
    for file in files:
        there = Path(file.path)
        assert there.read_bytes() == file.data
        assert there.stat().st_mode & 0o777 == file.mode
        assert there.stat().st_uid == 0
    assert sorted(entry.name for entry in target.iterdir()) == ["a b'c", "big", "empty"]


def test_what_cannot_be_written_is_named_and_the_old_file_stays(server: Server) -> None:
    target = server.directory / "kept"
    target.mkdir()
    (target / "file").write_text("old")
    (target / "dir").mkdir()
    with Connection(server.entry(), paths=server.paths, terminal=Typist()) as host:
        with pytest.raises(CommandError) as caught:
            put(host, [RemoteFile(f"{target}/dir", b"new"), RemoteFile(f"{target}/file", b"new")])
        assert "IsADirectoryError" in caught.value.details
        assert (target / "file").read_text() == "old"
        assert not list(target.glob(".*"))


def test_a_host_without_python_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotefiles, "FIND_PYTHON", remotefiles.FIND_PYTHON.replace("python3;", "nonesuch;"))
    with (
        Connection(server.entry(), paths=server.paths, terminal=Typist()) as host,
        pytest.raises(Exception, match=r"no Python 3\.9 or newer on 127\.0\.0\.1"),
    ):
        put(host, [RemoteFile(f"{server.directory}/x", b"")])


def test_what_is_there_already_is_not_sent(server: Server, tmp_path: Path) -> None:
    target = server.directory / "compared"
    target.mkdir()
    files = [
        RemoteFile(f"{target}/{name}", name.encode(), 0o600) for name in ("same", "other", "open", "gone")
    ]
    files.append(RemoteFile(f"{target}/link", b"same", 0o600))
    for name, text, mode in (("same", "same", 0o600), ("other", "xther", 0o600), ("open", "open", 0o644)):
        (target / name).write_text(text)
        (target / name).chmod(mode)
    (target / "link").symlink_to(target / "same")
    (target / "dir").mkdir()
    files.append(RemoteFile(f"{target}/dir", b""))
    with Connection(server.entry(), paths=server.paths, terminal=Typist()) as host:
        found = remotefiles.differing(host, files)
        assert [Path(file.path).name for file in found] == ["other", "open", "gone", "link", "dir"]
        put(host, [file for file in found if not file.path.endswith("dir")])
        assert [Path(file.path).name for file in remotefiles.differing(host, files)] == ["dir"]
    assert not (target / "link").is_symlink()
