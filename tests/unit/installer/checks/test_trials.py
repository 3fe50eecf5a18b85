# SPDX-License-Identifier: Apache-2.0
"""The parts of the trials that need no root; the rest is tried on real nodes (tests/node/test_preflight.py)."""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from installer.base import namespaces
from installer.base.run import Completed
from installer.checks import trials
from installer.checks.trials import CONTAINER, PROGRAMS, Media, Trials
from installer.config.facts import TRIAL_INTERFACES
from tests.unit.installer.helpers import make_product


def test_syncs_leave_no_file(tmp_path: Path) -> None:
    times_s = Trials().time_syncs(tmp_path)
    assert all(seconds >= 0 for seconds in times_s)
    assert list(tmp_path.iterdir()) == []
    assert Trials().time_syncs(tmp_path / "none") == ()


def test_the_file_of_a_package(tmp_path: Path) -> None:
    directory = tmp_path / "repo/el9/Packages"
    directory.mkdir(parents=True)
    (directory / "kubelet-1.36.4-150500.1.1.x86_64.rpm").touch()
    (directory / "kubelet-1.30.0-1.x86_64.rpm").touch()
    media = Media(tmp_path, make_product())
    assert media.package_file("kubelet").name == "kubelet-1.36.4-150500.1.1.x86_64.rpm"
    epoch = Media(tmp_path, make_product(packages={"kubelet": "4:1.36.4-150500.1.1", "socat": "1-1"}))
    assert epoch.package_file("kubelet").name == "kubelet-1.36.4-150500.1.1.x86_64.rpm"
    with pytest.raises(FileNotFoundError, match="socat-1-1 is not on the media"):
        epoch.package_file("socat")


def test_the_scratch_directory_covers_nothing_that_is_needed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    candidates = [str(tmp_path / name) for name in ("none", "link", "a", "b")]
    chosen = namespaces.choose_scratch_dir([tmp_path / "a/iso"], candidates)
    assert chosen == tmp_path / "b"
    with pytest.raises(OSError, match="are in use or missing"):
        namespaces.choose_scratch_dir([tmp_path / "a", tmp_path / "b"], candidates)


def test_a_worker_does_its_work_in_another_thread_and_hands_errors_back() -> None:
    worker = namespaces._Worker("test")
    try:
        assert worker.call(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            worker.call(lambda: 1 // 0)
        assert worker.call(lambda: 2) == 2
    finally:
        worker.close()


def test_a_mount_is_detached_whoever_has_it_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(namespaces, "_system_call", lambda *words: calls.append(words))
    namespaces.detach(tmp_path)
    assert calls == [("umount2", os.fsencode(tmp_path), 2)]


def test_the_trial_s_own_clean_up_is_no_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mount that stays busy, a tree that cannot be removed: the namespace's end takes both away."""
    layers, scratch = tmp_path / "layers", tmp_path / "scratch"
    for directory in (layers / "upper", scratch):
        directory.mkdir(parents=True)

    def mount(_source: str, target: Path, *_: object) -> None:
        target.rmdir()
        target.symlink_to(layers / "upper")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(namespaces, "mount", mount)
    monkeypatch.setattr(namespaces, "detach", busy)
    trials._write_through(layers, scratch)
    (layers / "upper/written").unlink()
    monkeypatch.setattr(namespaces, "mount", lambda *_: None)
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match="does not arrive in its upper layer"):
        trials._write_through(layers, tmp_path / "other")


def test_every_program_is_in_a_package_by_an_absolute_path() -> None:
    assert all(program[0].startswith("/") for programs in PROGRAMS.values() for program in programs)
    assert CONTAINER["root"] == {"path": "rootfs", "readonly": True}


def test_two_checks_of_one_host_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would remove the other's layers, and find its interfaces in the way: findings of the checks' own."""
    monkeypatch.setattr(trials, "TURNS_DIR", tmp_path)
    at_once: list[int] = []
    most: list[int] = []

    def mount(self: Trials, directory: Path) -> str:
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.05)
        at_once.pop()
        return ""

    monkeypatch.setattr(Trials, "_mount_overlay", mount)
    threads = [threading.Thread(target=Trials().mount_overlay, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert list(tmp_path.iterdir()) == [], "no file is made for it"


def test_a_turn_that_never_comes_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TURNS_DIR", tmp_path)
    with trials._turn(), pytest.raises(trials.BusyError, match="another check"), trials._turn(0.2):
        raise AssertionError("two at once")
    with trials._turn(0.2):
        pass


class Cabled:
    """The commands of a trial of packets, and what came of each try."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
        self.answers = answers
        self.words: list[str] = []
        network = SimpleNamespace(close=lambda: None)
        monkeypatch.setattr(namespaces, "Network", lambda: network)
        monkeypatch.setattr(trials, "_connect", lambda *_: None)
        monkeypatch.setattr(trials, "_ask_and_answer", lambda *_: self.answers.pop(0))
        monkeypatch.setattr(trials, "_run", self.run)

    def run(self, words: Sequence[str]) -> Completed:
        self.words.append(" ".join(words))
        # Nothing can be taken away: that must not be a finding.
        return Completed(1 if {"delete", "removeInterface"} & set(words) else 0, "", "no such device")


@pytest.mark.parametrize(
    ("answers", "fault"), [([""], ""), (["lost", ""], ""), (["lost", "lost", "lost"], "lost")]
)
def test_what_takes_the_trial_s_zone_away_is_told_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], fault: str
) -> None:
    """A reload of firewalld, NetworkManager that gives what it sees a zone: both may come while the trial runs."""
    tries = len(answers)
    cabled = Cabled(monkeypatch, answers)
    network = ipaddress.IPv4Network("10.233.0.0/16")
    assert Trials()._send_packets(network, has_firewalld=True) == fault
    told = " ".join(trials.FIREWALLD)
    for name in TRIAL_INTERFACES:
        assert cabled.words.count(f"{told} changeZoneOfInterface ss trusted {name}") == tries
        # Before, for what a killed run left, and after.
        assert cabled.words.count(f"ip link delete {name}") == 2
        assert cabled.words.count(f"{told} removeInterface ss trusted {name}") == 2


def test_the_program_of_the_container_is_written_by_nobody_when_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that a check beside starts holds this process's descriptors until its exec (ETXTBSY)."""
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/crictl").write_bytes(b"program")

    monkeypatch.setattr(trials, "_unpack", lambda *_: tree)
    monkeypatch.setattr(namespaces, "with_scratch_dir", lambda work, **_: work(tmp_path))
    monkeypatch.setattr(trials, "_run", lambda _: Completed(0, "", ""))
    Trials().run_container(Media(tmp_path, make_product()))
    assert (tmp_path / "bundle/rootfs/program").samefile(tree / "usr/bin/crictl")


def test_each_package_is_unpacked_once_for_both_trials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    unpacked: list[str] = []
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/crictl").touch()

    def unpack(_media: Media, packages: Sequence[str], _scratch: Path) -> Path:
        unpacked.extend(packages)
        return tree

    monkeypatch.setattr(trials, "_unpack", unpack)
    monkeypatch.setattr(namespaces, "with_scratch_dir", lambda work, **_: work(tmp_path))
    monkeypatch.setattr(trials, "_run", lambda words: Completed(0, Path(words[0]).name, ""))
    tried, media = Trials(), Media(tmp_path, make_product())
    said = {name: completed.stdout for name, completed in tried.run_programs(media).items()}
    assert tried.run_container(media).stdout == "runc"
    assert sorted(unpacked) == sorted(PROGRAMS)
    assert said == {
        f"{package}: {program}": Path(program).name
        for package, programs in PROGRAMS.items()
        for program, *_ in programs
    }
