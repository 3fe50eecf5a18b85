# SPDX-License-Identifier: Apache-2.0
"""Who owns a lab and what is still there of it, with records and directories in a temporary place."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lab import cleanup, places
from lab.cleanup import LabRecord, NodeRecord, Process
from lab.errors import LabError
from lab.places import LabPlaces

GONE = Process(pid=1, started=10**15)
"""A number that is in use, by a process that started at another time."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine without labs be: no namespaces, no control groups, records in a temporary directory."""
    monkeypatch.setenv("CAISSON_CACHE", str(tmp_path / "cache"))
    for module in (cleanup, places):
        monkeypatch.setattr(module, "RUN_DIR", tmp_path / "run")
        monkeypatch.setattr(module, "NETNS_DIR", tmp_path / "netns")
    monkeypatch.setattr(cleanup, "_LOCK_FILE", tmp_path / "run.lock")
    monkeypatch.setattr(cleanup, "control_group_roots", lambda: {tmp_path / "cgroup": "cgroup"})
    (tmp_path / "cgroup").mkdir()


def lab_record(owner: Process | None = None, *, kept: bool = False, boot: str = "") -> LabRecord:
    return LabRecord(owner=owner or cleanup.this_process(), boot_id=boot or cleanup.boot_id(), kept=kept)


def node_record(lab: str, name: str, number: int) -> NodeRecord:
    node = LabPlaces(lab=lab).node(name)
    record = NodeRecord(
        name=name,
        number=number,
        owner=GONE,
        image_file=str(node.image_file),
        root_dir=str(node.root_dir),
        media_dir=str(node.media_dir),
        netns=node.key,
        control_groups=("/sys/fs/cgroup/cpu/x",),
        leader=GONE,
    )
    cleanup.write_record(node.record_file, record)
    return record


def test_a_process_is_a_number_and_a_start_time() -> None:
    me = cleanup.this_process()
    assert me.pid == os.getpid()
    assert cleanup.is_alive(me)
    assert not cleanup.is_alive(replace(me, started=me.started - 1))
    assert not cleanup.is_alive(None)
    assert not cleanup.is_alive(GONE)


def test_a_process_with_a_reused_number_is_not_ended() -> None:
    cleanup.end_process(replace(cleanup.this_process(), started=1))
    cleanup.end_process(None)


@pytest.mark.subprocess
def test_this_very_process_is_ended() -> None:
    """Starts sleep, to end it; unreaped, it is a zombie and counts as gone."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        process = cleanup.process_of(child.pid)
        assert cleanup.is_alive(process)
        cleanup.end_process(process)
        assert not cleanup.is_alive(process)
    finally:
        child.kill()
        child.wait()


def test_records_come_back_as_they_were_written() -> None:
    places_of = LabPlaces(lab="demo")
    record = replace(lab_record(kept=True), nameserver=GONE)
    cleanup.write_record(places_of.record_file, record)
    assert cleanup.read_lab("demo") == record
    second, first = node_record("demo", "node2", 2), node_record("demo", "node1", 1)
    assert cleanup.read_nodes("demo") == (first, second)


def test_a_broken_record_is_no_record() -> None:
    file = LabPlaces(lab="demo").record_file
    file.parent.mkdir(parents=True)
    for text in ("", "[]", "{", '{"owner": {"pid": 1}}'):
        file.write_text(text)
        assert cleanup.read_lab("demo") is None
    assert not cleanup.is_in_use("demo")


@pytest.mark.parametrize(
    ("record", "in_use"),
    [
        (lab_record(), True),
        (lab_record(GONE), False),
        (lab_record(GONE, kept=True), True),
        (lab_record(boot="another boot"), False),
        (lab_record(kept=True, boot="another boot"), False),
    ],
    ids=["owner lives", "owner is gone", "kept", "before a reboot", "kept before a reboot"],
)
def test_who_may_be_swept(record: LabRecord, *, in_use: bool) -> None:
    cleanup.write_record(LabPlaces(lab="demo").record_file, record)
    assert cleanup.is_in_use("demo") is in_use


def test_labs_are_found_by_whatever_they_left(tmp_path: Path) -> None:
    (tmp_path / "run" / "one").mkdir(parents=True)
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns" / "caisson-two-node1").touch()
    (tmp_path / "netns" / "somebody-else").touch()
    (tmp_path / "cgroup" / "caisson-three-switch").mkdir()
    (tmp_path / "cache" / "lab" / "nodes" / "four").mkdir(parents=True)
    assert cleanup.labs() == ("four", "one", "three", "two")


def test_claim_sweeps_the_dead_and_refuses_a_living_name(tmp_path: Path) -> None:
    cleanup.write_record(LabPlaces(lab="dead").record_file, lab_record(GONE))
    node_record("dead", "node1", 1)
    image = LabPlaces(lab="dead").node("node1").image_file
    image.parent.mkdir(parents=True)
    image.write_text("a disk")
    (tmp_path / "cgroup" / "caisson-dead-node1" / "system.slice").mkdir(parents=True)
    cleanup.claim("mine", lab_record())
    assert cleanup.labs() == ("mine",)
    assert not image.exists()
    with pytest.raises(LabError, match="the lab 'mine' is in use") as caught:
        cleanup.claim("mine", lab_record())
    assert "python -m lab clean --lab mine" in caught.value.resolution


def test_leftovers_name_everything_and_become_none(tmp_path: Path) -> None:
    assert cleanup.leftovers() == []
    cleanup.write_record(LabPlaces(lab="demo").record_file, lab_record(GONE))
    (tmp_path / "cgroup" / "caisson-demo-node1").mkdir()
    (tmp_path / "cgroup" / "caisson-demo-node1" / "cgroup.procs").write_text("")
    left = cleanup.leftovers("demo")
    assert any(line.startswith("control group") for line in left)
    assert f"directory {tmp_path / 'run' / 'demo'}" in left
    assert cleanup.leftovers("another") == []
    (tmp_path / "cgroup" / "caisson-demo-node1" / "cgroup.procs").unlink()
    assert cleanup.sweep() == ("demo",)
    assert cleanup.leftovers() == []


def test_a_kept_lab_stays_until_it_is_asked_for() -> None:
    cleanup.write_record(LabPlaces(lab="demo").record_file, lab_record(GONE, kept=True))
    assert cleanup.sweep() == ()
    assert cleanup.sweep(kept=True, only="another") == ()
    assert cleanup.sweep(kept=True) == ("demo",)


def test_a_lab_with_a_living_owner_is_never_swept() -> None:
    for name, kept in (("one", False), ("two", True)):
        cleanup.write_record(LabPlaces(lab=name).record_file, lab_record(kept=kept))
    assert cleanup.sweep(kept=True) == ()
    assert cleanup.labs() == ("one", "two")


def test_a_cpuset_group_gets_processors_before_anybody_joins(tmp_path: Path) -> None:
    (tmp_path / "cgroup" / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cgroup" / "cpuset.mems").write_text("0\n")
    (group,) = cleanup.make_control_groups("caisson-demo-node1")
    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (group / "cpuset.mems").read_text() == "0\n"


def test_mounts_are_read_with_their_escapes() -> None:
    line = r"36 35 98:0 /sub\040dir /mnt/a\011b rw,noatime master:1 - xfs /dev/loop0 rw"
    (mount,) = cleanup.mounts(line)
    assert (mount.root, mount.target, mount.kind, mount.source) == (
        "/sub dir",
        "/mnt/a\tb",
        "xfs",
        "/dev/loop0",
    )
