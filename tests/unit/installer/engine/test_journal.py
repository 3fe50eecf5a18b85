# SPDX-License-Identifier: Apache-2.0
"""The journal: what a power cut leaves can be read, and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from installer.base.errors import HostError
from installer.engine import journal
from installer.engine.journal import Journal


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "state/journal.jsonl"
    written = Journal(file, run_id="r1")
    written.start("one")
    written.done("one", changed=True, seconds=1.23456)
    written.start("two")
    written.failed("two", seconds=2.0)
    assert [json.loads(line) for line in file.read_text().splitlines()][1].items() >= {
        "run": "r1",
        "phase": "one",
        "event": "done",
        "changed": True,
        "seconds": 1.235,
    }.items()
    found = Journal(file)
    assert [(entry.phase, entry.event) for entry in found.entries] == [
        ("one", "start"),
        ("one", "done"),
        ("two", "start"),
        ("two", "failed"),
    ]
    assert found.has_done("one")
    assert not found.has_done("two")
    assert found.interrupted() is None
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_torn_last_line_is_passed_over_and_closed_off(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    first = Journal(file, run_id="r1")
    first.start("one")
    size = file.stat().st_size
    first.done("one", changed=True, seconds=1)
    with file.open("r+b") as torn:
        torn.truncate(size + 20)
    second = Journal(file, run_id="r2")
    assert second.interrupted() == "one"
    second.start("one")
    assert [(entry.run_id, entry.event) for entry in journal.read(file)] == [("r1", "start"), ("r2", "start")]


def test_lines_of_another_shape_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b'[]\n"x"\n{}\n\xff\xfe\n\0\0\0\0')
    assert journal.read(file) == ()


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == ()


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    with pytest.raises(HostError, match=r"cannot be (written|read)"):
        Journal(tmp_path / "state/journal.jsonl").start("one")


def test_what_a_phase_made_is_on_the_disk_before_it_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    file = tmp_path / "journal.jsonl"
    monkeypatch.setattr("os.sync", lambda: seen.append(len(journal.read(file))))
    written = Journal(file)
    written.start("a")
    written.done("a", changed=True, seconds=1)
    assert seen == [1]
    written.done("b", changed=False, seconds=1)
    assert seen == [1]
    written.failed("c", seconds=1)
    assert seen == [1, 3]


def test_an_entry_that_names_no_operation_is_of_the_bootstrap(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    file.write_text('{"time": "2026-11-26T10:00:00Z", "run": "r0", "phase": "nginx", "event": "start"}\n')
    assert Journal(file).interrupted() == "nginx"
    other = Journal(file, operation="node-add")
    assert (other.interrupted(), other.has_done("nginx"), other.entries) == (None, False, ())
    other.done("nginx", changed=False, seconds=1)
    assert not Journal(file).has_done("nginx")
    assert [entry.operation for entry in journal.read(file)] == ["bootstrap", "node-add"]


@pytest.mark.parametrize(
    ("runs", "is_cut"),
    [
        ([], False),
        (["+install -install +runtime -runtime"], False),
        (["+install"], True),
        (["+install -install +runtime"], True),
        (["+install -install +runtime", "+verify -verify +install -install"], False),
        (["+install -install +runtime", "+verify"], True),
        (["+install -install +runtime", "+verify -verify +check !check"], True),
        (["+install !install"], False),
    ],
)
def test_whether_a_run_was_cut_since_a_phase(tmp_path: Path, runs: list[str], is_cut: bool) -> None:
    for run in runs:
        written = Journal(tmp_path / "j")
        for word in run.split():
            mark, phase = word[0], word[1:]
            if mark == "+":
                written.start(phase)
            elif mark == "-":
                written.done(phase, changed=False, seconds=0)
            else:
                written.failed(phase, seconds=0)
    now = Journal(tmp_path / "j")
    now.start("verify")
    assert now.was_cut_since("install") is is_cut


def test_what_is_written_stands_in_the_journal_of_the_job_too(tmp_path: Path) -> None:
    file, copy_file = tmp_path / "journal.jsonl", tmp_path / "job/journal.jsonl"
    Journal(file, run_id="r1").done("one", changed=True, seconds=1)
    second = Journal(file, run_id="r2", copy_file=copy_file)
    assert second.has_done("one")
    second.start("two")
    assert [entry.phase for entry in journal.read(file)] == ["one", "two"]
    assert [entry.phase for entry in journal.read(copy_file)] == ["two"]
    assert copy_file.stat().st_mode & 0o777 == 0o600


def test_a_copy_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("a file, no directory")
    Journal(tmp_path / "journal.jsonl", copy_file=tmp_path / "job/journal.jsonl").start("one")
    assert [entry.phase for entry in journal.read(tmp_path / "journal.jsonl")] == ["one"]
