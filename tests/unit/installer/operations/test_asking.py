# SPDX-License-Identifier: Apache-2.0
"""Many parts are asked side by side, and what they wait for is said."""

from __future__ import annotations

import threading
import time

from installer.operations import asking
from installer.operations.asking import Deadline, Question


def test_who_has_not_answered_is_said_now_and_then() -> None:
    held = threading.Event()
    questions: list[Question[object]] = [
        Question("quick", lambda: 1),
        Question("slow", lambda: held.wait(5), limit_s=5),
    ]
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            held.set()

    asking.wait(questions, say, interval_s=0.2)
    assert [line.partition("  ")[2] for line in said] == ["waiting for the answers of: slow"] * 2


def test_what_hangs_is_waited_for_no_longer_than_its_bound() -> None:
    began = time.monotonic()
    asking.wait([Question("hangs", lambda: time.sleep(3), limit_s=0.3)], lambda _: None)
    assert time.monotonic() - began < 2


def test_a_deadline_is_one_for_all_steps() -> None:
    deadline = Deadline(0.3)
    assert 0.2 < deadline.left_s <= 0.3
    time.sleep(0.3)
    assert deadline.left_s == asking.LEAST_S
