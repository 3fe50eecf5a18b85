# SPDX-License-Identifier: Apache-2.0
"""What the builder tells people while it works: notes, warnings and one line of progress."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_TERMINAL_PERIOD_S = 0.2
_LINE_PERIOD_S = 5.0
_RATE_WINDOW_S = 10.0


def note(text: str, *, stream: TextIO | None = None) -> None:
    """Print a line about what was done."""
    print(text, file=stream or sys.stderr, flush=True)


def warn(text: str, *, stream: TextIO | None = None) -> None:
    """Print a line about something that is not wrong yet."""
    print(f"warning: {text}", file=stream or sys.stderr, flush=True)


def bytes_text(size_bytes: float) -> str:
    """Return a size for people, in powers of 1000.

    >>> bytes_text(999), bytes_text(1_500_000)
    ('999 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """Return a time for people.

    >>> duration_text(59), duration_text(3725)
    ('59 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """One line for all that is being fetched: done, total, rate, time left. Threads may share it.

    On a terminal the line is rewritten; else a new line is printed every five seconds.
    """

    def __init__(
        self,
        title: str,
        total_bytes: int,
        total_items: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._total_bytes = total_bytes
        self._total_items = total_items
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._clock = clock
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._done_items = 0
        self._start = clock()
        self._shown = self._start
        self._samples: list[tuple[float, int]] = [(self._start, 0)]
        self._fetched_bytes = 0
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._is_terminal and self._width:
                self._stream.write("\r" + " " * self._width + "\r")
            if kind is None:
                elapsed = self._clock() - self._start
                self._stream.write(
                    f"{self._title}: {self._total_items} items, {bytes_text(self._fetched_bytes)} "
                    f"in {duration_text(elapsed)}\n"
                )
            self._stream.flush()

    def skip(self, size_bytes: int) -> None:
        """Count bytes that were there already: they do not raise the rate."""
        with self._lock:
            self._done_bytes += size_bytes

    def add(self, size_bytes: int) -> None:
        """Count bytes that came; a negative number takes back what has to come again."""
        with self._lock:
            self._done_bytes += size_bytes
            self._fetched_bytes += max(size_bytes, 0)
            self._show()

    def finish_item(self) -> None:
        """Count an item that is whole."""
        with self._lock:
            self._done_items += 1
            self._show()

    def text(self) -> str:
        """Return the line as it would be shown now."""
        rate = self._rate()
        left_bytes = max(self._total_bytes - self._done_bytes, 0)
        left = f", {duration_text(left_bytes / rate)} left" if rate > 0 else ""
        return (
            f"{self._title}: {self._done_items}/{self._total_items} items, {bytes_text(self._done_bytes)} "
            f"of {bytes_text(self._total_bytes)}, {bytes_text(rate)}/s{left}"
        )

    def _rate(self) -> float:
        """Return the rate over the last seconds."""
        then, before = self._samples[0]
        elapsed = self._clock() - then
        return (self._fetched_bytes - before) / elapsed if elapsed > 0 else 0.0

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown < (_TERMINAL_PERIOD_S if self._is_terminal else _LINE_PERIOD_S):
            return
        self._shown = now
        self._samples.append((now, self._fetched_bytes))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_WINDOW_S:
            self._samples.pop(0)
        text = self.text()
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
