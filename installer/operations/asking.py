# SPDX-License-Identifier: Apache-2.0
"""Ask many parts of a host side by side, each within a bound: none that hangs holds up what others answer."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Generic, TypeVar

LIMIT_S = 5.0
"""How long a part of the host may take to answer ``caisson status``."""
COMMAND_LIMIT_S = 4.5
"""How long a command or a connection of one question may take: less, so that it ends by itself."""
LEAST_S = 0.1
SAY_INTERVAL_S = 9.0
POLL_S = 0.05

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Fault:
    """What is not as it should be, in one line, and what to do about it."""

    text: str
    fix: str


class Deadline:
    """The end of what one question may take, for all that it does one after the other."""

    def __init__(self, limit_s: float) -> None:
        """Begin to count."""
        self._ends_at = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """What is left; never nothing, so that the next step is asked and fails in its own words."""
        return max(LEAST_S, self._ends_at - time.monotonic())


class Question(Generic[Answer]):
    """One question, asked in a thread of its own from the moment that it is made.

    The thread is a daemon: one that hangs (a disk, a pod, a bus) is left behind when the program ends.
    """

    def __init__(self, name: str, ask: Callable[[], Answer], *, limit_s: float = LIMIT_S) -> None:
        """Begin to ask; ``name`` is for people, like 'etcd'."""
        self.name = name
        self._limit_s = limit_s
        self._ends_at = time.monotonic() + limit_s
        self._answers: list[Answer] = []
        self._error = ""
        # What is started in there belongs to who asks: base/session.py, only_looking.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._ask, ask), name=f"ask-{name}", daemon=True
        )
        self._thread.start()

    def _ask(self, ask: Callable[[], Answer]) -> None:
        try:
            self._answers.append(ask())
        except Exception as exc:  # noqa: BLE001  one part that fails in a new way must not hide the others
            self._error = f"{type(exc).__name__}: {exc}"

    @property
    def is_over(self) -> bool:
        """Whether it has been answered, or will be waited for no longer."""
        return not self._thread.is_alive() or time.monotonic() >= self._ends_at

    def answer(self, otherwise: Answer, lost: list[Fault]) -> Answer:
        """Wait for the answer; without one return ``otherwise`` and add the fault that this is to ``lost``."""
        self._thread.join(max(0.0, self._ends_at - time.monotonic()))
        if self._answers:
            return self._answers[0]
        if self._error:
            text = f"{self.name} could not be asked: {self._error}"
            lost.append(
                Fault(text, "run 'caisson status' again; when it stays so, report it as a fault of Caisson")
            )
        else:
            text = f"{self.name} gave no answer within {self._limit_s:g} s"
            lost.append(
                Fault(text, "see 'uptime' and 'dmesg | tail': the host is very busy, or a disk hangs")
            )
        return otherwise


def wait(
    questions: Sequence[Question[Any]], progress: Callable[[str], None], *, interval_s: float = SAY_INTERVAL_S
) -> None:
    """Wait until all questions are over, and say now and then which are not."""
    started = said_at = time.monotonic()
    while left := [question.name for question in questions if not question.is_over]:
        now = time.monotonic()
        if now - said_at >= interval_s:
            progress(f"{now - started:.0f} s  waiting for the answers of: {', '.join(left)}")
            said_at = now
        time.sleep(POLL_S)


def distinct_fixes(faults: Sequence[Fault]) -> tuple[str, ...]:
    """Return what to do about the faults, in their order, each once.

    >>> distinct_fixes([Fault("a is down", "start it"), Fault("b is down", "start it"), Fault("c", "")])
    ('start it',)
    """
    return tuple(dict.fromkeys(fault.fix for fault in faults if fault.fix))
