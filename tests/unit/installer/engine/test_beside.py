# SPDX-License-Identifier: Apache-2.0
"""What goes on beside the phases is waited for, says why it failed, and is ended with the run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from installer.base.errors import SaltError
from installer.base.run import run
from installer.engine.beside import Beside, Signs


def test_it_is_waited_for_and_named_meanwhile() -> None:
    beside, go_on, said = Beside(), threading.Event(), list[str]()

    def say(name: str) -> None:
        said.append(name)
        go_on.set()

    def wait(_: Signs) -> None:
        go_on.wait(10)

    beside.begin("the other", wait)
    beside.wait(say)
    assert set(said) == {"the other"}
    said.clear()
    beside.wait(say)
    assert said == []


def test_an_error_is_that_of_who_waits() -> None:
    def fail(_: Signs) -> None:
        raise SaltError("no answer")

    beside = Beside()
    beside.begin("a", fail)
    with pytest.raises(SaltError, match="no answer"):
        beside.wait(lambda _: None)
    beside.wait(lambda _: None)


def test_a_work_is_told_when_it_is_waited_for_and_is_begun_once() -> None:
    beside, begun, was_awaited = Beside(), list[Signs](), list[bool]()

    def work(signs: Signs) -> None:
        begun.append(signs)
        was_awaited.append(signs.awaited.is_set())
        was_awaited.append(signs.awaited.wait(10))

    beside.begin("a", work)
    beside.begin("a", work)
    while len(was_awaited) < 1:
        time.sleep(0.01)
    beside.wait(lambda _: None)
    assert (len(begun), was_awaited) == (1, [False, True])


@pytest.mark.subprocess
def test_what_still_runs_ends_with_the_run(tmp_path: Path) -> None:
    began, ended = threading.Event(), threading.Event()

    def hang(signs: Signs) -> None:
        while not signs.stop.wait(0):
            began.set()
            run(["sleep", "60"], timeout_s=50, check=False, running_dir=tmp_path)
        ended.set()

    beside = Beside()
    beside.begin("a", hang)
    assert began.wait(10)
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == [], "a look is none that the next run has to wait for"
    beside.close()
    assert ended.wait(10)
