# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in threads: once in each piece of work, in the command that it runs; what it does on its way out it may do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from installer.base.interruption import Interruption, hear, heard
from installer.base.run import Conversation, run

pytestmark = pytest.mark.subprocess


def test_a_command_is_ended_with_all_of_it_and_the_way_out_is_free(tmp_path: Path) -> None:
    """The thread that runs it gets KeyboardInterrupt, as the first one would; what follows runs to its end."""
    interruption, said = Interruption(), tmp_path / "said"

    def work() -> None:
        with heard(interruption):
            try:
                run(["bash", "-c", f"echo begun > {said}; sleep 60"], timeout_s=120)
            finally:
                run(["bash", "-c", f"sleep 0.7; echo ended >> {said}"], timeout_s=30)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        deadline = time.monotonic() + 20
        while not said.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started = time.monotonic()
        interruption.send()
        with pytest.raises(KeyboardInterrupt):
            future.result(timeout=30)
    assert time.monotonic() - started < 10
    assert said.read_text().split() == ["begun", "ended"]


def test_one_that_answers_lines_is_ended_too() -> None:
    interruption = Interruption()
    threading.Timer(0.3, interruption.send).start()
    with heard(interruption), pytest.raises(KeyboardInterrupt):
        Conversation(["sleep", "60"]).ask("x", timeout_s=60)


def test_each_piece_of_work_hears_it_once() -> None:
    """Also the next one of the same thread, which then does not begin."""
    interruption = Interruption()
    with heard(interruption):
        interruption.send()
        with pytest.raises(KeyboardInterrupt):
            hear()
        hear()
    with pytest.raises(KeyboardInterrupt), heard(interruption):
        pytest.fail("it began")


def test_a_command_takes_its_time_and_no_more_where_it_may_be_interrupted() -> None:
    with heard(Interruption()):
        assert run(["sleep", "0.7"], timeout_s=20).returncode == 0
        started = time.monotonic()
        with pytest.raises(Exception, match="did not finish within 1"):
            run(["sleep", "60"], timeout_s=1)
    assert 1 <= time.monotonic() - started < 10
