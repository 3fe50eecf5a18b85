# SPDX-License-Identifier: Apache-2.0
"""Let the threads of a program hear Ctrl-C: Python itself lets only the first one.

Each thread that works with an interruption gets KeyboardInterrupt once: in the command that it runs, or at the next
one. What it does on its way out (a token that is taken back, a file that is removed) it then does undisturbed, as the
first thread would.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator

HEAR_INTERVAL_S = 0.5
"""How often a thread that waits for a command looks whether it was interrupted."""


class Interruption:
    """What is sent to the threads that work with it (:func:`heard`)."""

    def __init__(self) -> None:
        """Begin with nobody interrupted."""
        self._event = threading.Event()

    @property
    def is_sent(self) -> bool:
        """Say whether somebody wants an end."""
        return self._event.is_set()

    def send(self) -> None:
        """Interrupt all threads that work with it, and those that begin to."""
        self._event.set()


class _Ear:
    """One piece of work that hears an interruption once."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption
        self.has_heard = False


_EAR: contextvars.ContextVar[_Ear | None] = contextvars.ContextVar("ear", default=None)


@contextlib.contextmanager
def heard(interruption: Interruption) -> Iterator[None]:
    """Let what is done in here, in this thread, be interrupted."""
    token = _EAR.set(_Ear(interruption))
    try:
        hear()
        yield
    finally:
        _EAR.reset(token)


def is_possible() -> bool:
    """Say whether this thread may be interrupted by another one."""
    return _EAR.get() is not None


def hear() -> None:
    """Raise KeyboardInterrupt where an interruption was sent and not heard yet; without one Python itself does."""
    ear = _EAR.get()
    if ear is not None and ear.interruption.is_sent and not ear.has_heard:
        ear.has_heard = True
        raise KeyboardInterrupt
