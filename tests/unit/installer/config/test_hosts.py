# SPDX-License-Identifier: Apache-2.0
"""The two lines of /etc/hosts: whose names they hold, and that all else stays as it is, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.config import hosts
from installer.operations import cluster
from tests.unit.installer.helpers import make_context


@pytest.mark.parametrize(
    ("host_name", "canonical", "names"),
    [
        ("node1", [("localhost", "127.0.0.1")], ["node1"]),
        ("localhost.localdomain", [("localhost", "127.0.0.1")], []),
        ("localhost", [("localhost4.localdomain4", "127.0.0.1")], []),
        ("node1", [("loghost", "127.0.0.1")], ["node1"]),
        ("node1", [("node1.example", "127.0.1.1")], ["node1", "node1.example"]),
        ("node1", [("web.example", "10.77.1.11")], ["node1", "web.example"]),
    ],
)
def test_only_the_host_s_own_names(
    host_name: str, canonical: list[tuple[str, str]], names: list[str]
) -> None:
    assert hosts.choose_names(host_name, canonical) == names


def test_without_a_name_there_is_one_line() -> None:
    assert hosts.with_lines("127.0.0.1 localhost\n", "10.0.0.1", "api.x.internal", []) == (
        "127.0.0.1 localhost\n10.0.0.1 api.x.internal # caisson\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"127.0.0.1 localhost\n# B\xfcro S\xfcd\n10.77.1.11 node1\n",
        b"127.0.0.1 localhost\r\n10.77.1.11 node1\r\n",
        "127.0.0.1 localhost\n# one\u2028line\n".encode(),
        b"",
    ],
)
def test_all_else_stays_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(hosts, "own_names", lambda: ["node1"])
    context = make_context(tmp_path)
    file = tmp_path / "etc/hosts"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    own = b"10.77.1.11 api.lab.internal # caisson\n::ffff:10.77.1.11 node1 # caisson\n"
    assert cluster._answer_names(context) is True
    assert file.read_bytes() == content + own
    assert cluster._answer_names(context) is False
