# SPDX-License-Identifier: Apache-2.0
"""The real salt-ssh in raw mode, over the installer's own connection to a real sshd."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from installer.base.errors import SaltError
from installer.base.paths import Paths
from installer.engine import saltssh
from installer.engine.ssh import Connection
from tests.unit.installer import sshd
from tests.unit.installer.sshd import PASSWORD, Server, Typist

SALT_SSH = Path(sys.executable).with_name("salt-ssh")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with sshd.serving() as running:
        yield running


@pytest.mark.parametrize(("user", "answers"), [("root", ()), ("free", ()), ("asked", (PASSWORD,))])
def test_a_command_arrives_as_it_is_and_so_does_its_answer(
    server: Server, user: str, answers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Saltfile").write_text("salt-ssh: {config_dir: /nonexistent, ssh_priv: /nonexistent}\n")
    words = [
        "sh",
        "-c",
        'id -u; printf "%s|" "$@"; echo err >&2; exit 3',
        "sh",
        "a b",
        "",
        "$x",
        "'",
        '"',
        "/bin/sh",
    ]
    with Connection(server.entry(user), paths=server.paths, terminal=Typist(*answers)) as host:
        said = saltssh.run_raw(host, words, timeout_s=60, paths=server.paths, program=SALT_SSH)
        left = sorted(path.name for path in (host.scratch_dir / "salt").glob("**/*.rsa"))
    assert (said.returncode, said.stdout) == (3, "0\na b||$x|'|\"|/bin/sh|")
    assert "err" in said.stderr + said.stdout
    assert left == []
    assert list(server.paths.ssh_dir.iterdir()) == []


def test_the_archive_is_made_once_by_one_at_a_time(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    archive = paths.at(saltssh.CACHE_DIR) / "thin/thin.tgz"
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: saltssh.make_archive(paths, SALT_SSH), range(3)))
    made = archive.stat()
    assert made.st_size > 1_000_000
    saltssh.make_archive(paths, SALT_SSH)
    assert archive.stat() == made
    assert list(paths.ssh_dir.iterdir()) == []


def test_without_the_connection_there_is_no_other_way_in(server: Server) -> None:
    with Connection(server.entry(), paths=server.paths, terminal=Typist()) as host:
        (host.scratch_dir / "m").unlink()
        before = server.log.count("Accepted")
        with pytest.raises(SaltError, match="salt-ssh did not run 'true'"):
            saltssh.run_raw(host, ["true"], timeout_s=60, paths=server.paths, program=SALT_SSH)
        assert server.log.count("Accepted") == before
