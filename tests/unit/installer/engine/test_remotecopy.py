# SPDX-License-Identifier: Apache-2.0
"""A file of gigabytes to another host, by a real sshd on loopback: in pieces, gone on with, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.base.errors import CommandError, HostError
from installer.engine import remotecopy
from installer.engine.ssh import Connection
from tests.unit.installer.sshd import Server, Typist

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.loopback,
    pytest.mark.skipif(os.geteuid() != 0, reason="an sshd is started: needs root"),
]
DATA = bytes(range(256)) * 1000


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remotecopy, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(remotecopy, "SPARE_BYTES", 0)
    file = tmp_path / "c.iso"
    file.write_bytes(DATA + b"more than its volume")
    return file


@pytest.fixture
def host(server: Server) -> Iterator[Connection]:
    with Connection(server.entry(), paths=server.paths, terminal=Typist()) as opened:
        yield opened


def copy(host: Connection, source: Path, target: Path) -> tuple[remotecopy.Copied, list[str]]:
    said: list[str] = []
    return remotecopy.copy(host, source, str(target), len(DATA), say=said.append), said


def test_it_arrives_whole_and_the_second_time_nothing_is_sent(
    host: Connection, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "there/deep/c.iso"
    copied, said = copy(host, source, target)
    assert (copied.sent_bytes, target.read_bytes(), target.stat().st_mode & 0o777) == (len(DATA), DATA, 0o644)
    assert len([line for line in said if line.endswith("copied")]) == 3
    assert copy(host, source, target)[0].sent_bytes == 0
    assert [file.name for file in target.parent.iterdir()] == ["c.iso"]


@pytest.mark.parametrize("begun", [0, 1, 100_000, 150_000, len(DATA)])
def test_what_arrived_before_a_cut_is_not_sent_again(
    host: Connection, source: Path, tmp_path: Path, begun: int
) -> None:
    target = tmp_path / "c.iso.copy"
    Path(f"{target}.part").write_bytes(DATA[:begun])
    copied, _ = copy(host, source, target)
    assert (copied.resumed_at, copied.sent_bytes, target.read_bytes()) == (begun, len(DATA) - begun, DATA)


def test_a_part_of_another_file_is_found_out_and_thrown_away(
    host: Connection, source: Path, tmp_path: Path
) -> None:
    """As a power cut leaves it: the size is right, the bytes are not."""
    target = tmp_path / "copy"
    Path(f"{target}.part").write_bytes(bytes(150_000))
    with pytest.raises(CommandError, match=r"did not arrive on .* as it is here"):
        copy(host, source, target)
    assert not target.exists()
    assert not Path(f"{target}.part").exists()
    assert copy(host, source, target)[0].resumed_at == 0
    assert target.read_bytes() == DATA


def test_a_whole_file_with_other_bytes_is_copied_again(
    host: Connection, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    target.write_bytes(bytes(len(DATA)))
    assert copy(host, source, target)[0].sent_bytes == len(DATA)
    assert target.read_bytes() == DATA


def test_one_that_has_a_link_in_its_place_is_not_followed(
    host: Connection, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandError):
        copy(host, source, tmp_path / "copy")
    assert not (tmp_path / "elsewhere").exists()


def test_a_host_without_room_is_named(
    host: Connection, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotecopy, "SPARE_BYTES", 1 << 60)
    with pytest.raises(HostError, match=r"has no room for c\.iso"):
        copy(host, source, tmp_path / "copy")


def test_a_source_that_ends_early_is_named(host: Connection, source: Path, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be read") as caught:
        remotecopy.copy(host, source, str(tmp_path / "copy"), 10 * len(DATA), say=lambda _: None)
    assert "bytes early" in caught.value.details
