# SPDX-License-Identifier: Apache-2.0
"""Let log-ins fail five times a minute in all; then each has to wait longer, whoever it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

FREE = 5
WINDOW_S = 60.0
LONGEST_S = 60.0
REMEMBERED = 50


@dataclass(frozen=True)
class Failure:
    """A log-in that failed: when, and from which address."""

    at: float
    client: str


class Throttle:
    """The failures of late."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._failures: deque[Failure] = deque(maxlen=REMEMBERED)

    def wait_s(self) -> float:
        """Return how long nobody may try: nothing for five failures, then 2, 4, 8 s, up to a minute, after the last."""
        now = self._now()
        late = [failure for failure in self._failures if now - failure.at < WINDOW_S]
        if len(late) < FREE:
            return 0.0
        delay_s = min(LONGEST_S, 2.0 ** (len(late) - FREE + 1))
        return max(0.0, late[-1].at + delay_s - now)

    def failed(self, client: str) -> None:
        """Note a failure."""
        self._failures.append(Failure(self._now(), client))

    def since(self, seconds: float) -> list[Failure]:
        """Return the failures of the last seconds."""
        return [failure for failure in self._failures if self._now() - failure.at < seconds]
