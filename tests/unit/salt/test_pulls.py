# SPDX-License-Identifier: Apache-2.0
"""Pulls in the background: order, what is waited for, and that nothing outlives the process that began them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.salt.test_modules import load

ROOT = Path(__file__).parents[3]
FAKE = """#!/bin/bash
echo "$4" >> {log}
sleep {seconds}
[[ "$4" != broken ]] || exit 1
"""


def _fake_crictl(directory: Path, seconds: float) -> Path:
    program, log = directory / "crictl", directory / "pulled"
    program.write_text(FAKE.format(log=log, seconds=seconds), encoding="utf-8")
    program.chmod(0o755)
    log.touch()
    return log


@pytest.fixture
def pulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the module; a crictl of its own is the only one on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    module: Any = load("caisson_pulls")
    module.POLL_S = 0.01
    module.__dict__["__salt__"] = {
        "caisson_wait.probe_url": lambda *_: "",
        "caisson_image.pull_one": load("caisson_image").pull_one,
    }
    yield module
    for thread in threading.enumerate():
        if thread.name == module.THREAD_NAME:
            thread.join(10)


def _settle(module: Any, references: list[str]) -> None:
    deadline = time.monotonic() + 10
    while module.pending(references) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert module.pending(references) == []


@pytest.mark.subprocess
def test_images_are_pulled_in_their_order_and_a_failed_one_is_left_to_others(
    pulls: Any, tmp_path: Path
) -> None:
    log = _fake_crictl(tmp_path, 0.0)
    references = ["etcd", "broken", "kube-apiserver"]
    assert pulls.start(references, "https://x", "", parallel=1)
    _settle(pulls, references)
    assert log.read_text(encoding="utf-8").split() == references


@pytest.mark.subprocess
def test_a_second_start_joins_the_first_also_from_a_module_loaded_anew(pulls: Any, tmp_path: Path) -> None:
    log = _fake_crictl(tmp_path, 0.3)
    assert pulls.start(["a", "b"], "https://x", "")
    again = load("caisson_pulls")
    again.__dict__["__salt__"] = pulls.__dict__["__salt__"]
    assert again.pending(["b", "c"]) == ["b"]
    assert not again.start(["a", "b"], "https://x", "")
    _settle(again, ["a", "b"])
    assert sorted(log.read_text(encoding="utf-8").split()) == ["a", "b"]


@pytest.mark.subprocess
def test_nothing_is_pulled_before_the_server_answers(pulls: Any, tmp_path: Path) -> None:
    log = _fake_crictl(tmp_path, 0.0)
    answers = ["refused"]
    pulls.__dict__["__salt__"]["caisson_wait.probe_url"] = lambda *_: answers[0]
    pulls.start(["a"], "https://x", "")
    time.sleep(0.1)
    assert (log.read_text(encoding="utf-8"), pulls.pending(["a"])) == ("", ["a"])
    answers[0] = ""
    _settle(pulls, ["a"])
    assert log.read_text(encoding="utf-8").split() == ["a"]


@pytest.mark.subprocess
def test_a_server_that_never_answers_leaves_nothing_pending(pulls: Any) -> None:
    pulls.SERVER_TIMEOUT_S = 0.05
    pulls.__dict__["__salt__"]["caisson_wait.probe_url"] = lambda *_: "refused"
    pulls.start(["a"], "https://x", "")
    _settle(pulls, ["a"])


@pytest.mark.subprocess
@pytest.mark.parametrize(("gives_up_s", "pulled"), [(0.0, ["a"]), (60.0, ["a", "b"])])
def test_a_crictl_that_hangs_holds_nobody_up(
    pulls: Any, tmp_path: Path, gives_up_s: float, pulled: list[str]
) -> None:
    """It is ended as in the foreground; whoever waits for what comes after it need not wait once more."""
    log = _fake_crictl(tmp_path, 60.0)
    image: Any = load("caisson_image")
    image.PULL_TIMEOUT_S = -9.5
    pulls.GIVE_UP_S = gives_up_s
    pulls.__dict__["__salt__"]["caisson_image.pull_one"] = image.pull_one
    pulls.start(["a", "b"], "https://x", "", parallel=1)
    _settle(pulls, ["a", "b"])
    assert log.read_text(encoding="utf-8").split() == pulled


class Wrapped:
    """What ``__salt__`` holds: a function, and a call of it in a context that all threads share."""

    def __init__(self, func: Any) -> None:
        self.func = func

    def __call__(self, *arguments: Any) -> str:
        raise AssertionError("called through the wrapper")


@pytest.mark.subprocess
def test_threads_call_nothing_through_the_one_context_of_salt_s_loader(pulls: Any, tmp_path: Path) -> None:
    log = _fake_crictl(tmp_path, 0.0)
    functions = pulls.__dict__["__salt__"]
    pulls.__dict__["__salt__"] = {name: Wrapped(function) for name, function in functions.items()}
    pulls.start(["a", "b"], "https://x", "")
    _settle(pulls, ["a", "b"])
    assert sorted(log.read_text(encoding="utf-8").split()) == ["a", "b"]


@pytest.mark.subprocess
def test_a_pull_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    """As when the installer is killed: salt-call ends, and no crictl stays behind."""
    _fake_crictl(tmp_path, 60.0)
    text = (
        "import importlib.util, os, sys, time\n"
        "def load(name):\n"
        f"    file = {str(ROOT / 'salt/_modules')!r} + '/' + name + '.py'\n"
        "    spec = importlib.util.spec_from_file_location(name, file)\n"
        "    module = importlib.util.module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "    return module\n"
        "module, pull = load('caisson_pulls'), load('caisson_image').pull_one\n"
        "module.__salt__ = {'caisson_wait.probe_url': lambda *_: '', 'caisson_image.pull_one': pull}\n"
        "module.start(['a', 'b', 'c'], 'https://x', '')\n"
        "time.sleep(1)\n"
    )
    started = time.monotonic()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", text], env=environment, check=True, timeout=30)
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 5
    while _running(str(tmp_path / "crictl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _running(str(tmp_path / "crictl")) == []


def _running(program: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [" ".join(words)] if program in words[:2] else []
    return found
