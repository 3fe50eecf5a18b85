# SPDX-License-Identifier: Apache-2.0
"""The parts of the trials that need no root; the rest is tried on real nodes (tests/node/test_preflight.py)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from installer.base import namespaces
from installer.checks import trials
from installer.checks.trials import CONTAINER, PROGRAMS, Media, Trials
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
