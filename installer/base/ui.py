# SPDX-License-Identifier: Apache-2.0
"""Speak to the user: numbered phases, elapsed time, what is waited for; all of it also to the log.

On a terminal one line at the bottom is renewed every second; elsewhere there are plain lines only, and never
more than ten seconds of silence. A terminal that has gone away (a dropped SSH session) stops nothing: the log
goes on. What is said may be copied to a file, for those who follow from elsewhere.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, TextIO

from installer.base.files import append_private

TERMINAL_INTERVAL_S = 1.0
PLAIN_INTERVAL_S = 9.0
CLEAR_LINE = "\r\x1b[K"


class Ui:
    """One voice for the whole run; safe to use from several threads."""

    def __init__(
        self,
        stream: TextIO,
        *,
        log_file: Path | None = None,
        copy_file: Path | None = None,
        is_terminal: bool | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._log_file = log_file
        self._copy_file = copy_file
        self._is_terminal = stream.isatty() if is_terminal is None else is_terminal
        self._interval_s = interval_s or (TERMINAL_INTERVAL_S if self._is_terminal else PLAIN_INTERVAL_S)
        self._clock = clock
        self._mutex = threading.RLock()
        self._waiting_for = ""
        self._phase_started: float | None = None
        self._last_said = self._last_copied = clock()
        self._has_live_line = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def phase(self, name: str, title: str, *, number: int = 0, total: int = 0) -> None:
        """Announce a phase and begin to tell, from time to time, what it waits for."""
        with self._mutex:
            self._waiting_for = title
            self._phase_started = self._clock()
            self._say(f"[{number:2}/{total}] {name}: {title}" if total else f"{name}: {title}")
        self._start_ticker()

    def phase_end(self, text: str) -> None:
        """Close the phase with one line that says how it went."""
        self._stop_ticker()
        with self._mutex:
            self._phase_started = None
            self._waiting_for = ""
            self._say(f"        {text}")

    def progress(self, text: str) -> None:
        """Say what is being waited for ("etcd to answer"); shown at the next tick, logged at once if new."""
        with self._mutex:
            if text == self._waiting_for:
                return
            self._waiting_for = text
            self._log(f"        .. {text}")
            self._copy(f"        .. {text}")
            if self._is_terminal and self._phase_started is not None:
                self._show_live_line()

    def note(self, text: str) -> None:
        """Say something the user should read, in any number of lines."""
        with self._mutex:
            for line in text.splitlines() or [""]:
                self._say(line)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show rows in columns; the first row is the heading."""
        with self._mutex:
            for line in format_table(rows):
                self._say(line)

    def detail(self, text: str) -> None:
        """Write to the log only."""
        with self._mutex:
            for line in text.splitlines():
                self._log(line)

    def close(self) -> None:
        """Stop the ticker and take away what is left on the terminal's last line."""
        self._stop_ticker()
        with self._mutex:
            self._clear_live_line()

    def tick(self) -> None:
        """Tell what is being waited for, if nothing was said for a while."""
        with self._mutex:
            if self._phase_started is None:
                return
            if self._is_terminal:
                self._show_live_line()
                if self._clock() - self._last_copied >= PLAIN_INTERVAL_S:
                    self._copy(self._waiting_line())
            elif self._clock() - self._last_said >= self._interval_s * 0.9:
                self._say(self._waiting_line())

    def _waiting_line(self) -> str:
        elapsed = 0.0 if self._phase_started is None else self._clock() - self._phase_started
        return f"        {elapsed:4.0f} s  waiting for: {self._waiting_for}"

    def _start_ticker(self) -> None:
        self._stop_ticker()
        self._stop = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick_until, args=(self._stop,), name="caisson-ticker", daemon=True
        )
        self._ticker.start()

    def _tick_until(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval_s):
            self.tick()

    def _stop_ticker(self) -> None:
        self._stop.set()
        if self._ticker is not None and self._ticker is not threading.current_thread():
            self._ticker.join(timeout=5)
        self._ticker = None

    def _say(self, line: str) -> None:
        self._clear_live_line()
        self._last_said = self._clock()
        self._write(line + "\n")
        self._log(line)
        self._copy(line)

    def _show_live_line(self) -> None:
        columns = shutil.get_terminal_size().columns
        self._write(CLEAR_LINE + self._waiting_line()[: columns - 1])
        self._has_live_line = True

    def _clear_live_line(self) -> None:
        if self._has_live_line:
            self._write(CLEAR_LINE)
            self._has_live_line = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return

    def _log(self, line: str) -> None:
        if self._log_file is not None:
            append_private(self._log_file, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")

    def _copy(self, line: str) -> None:
        if self._copy_file is not None:
            self._last_copied = self._clock()
            append_private(self._copy_file, f"{line}\n")


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, columns as wide as their widest cell, the last one as it is.

    >>> format_table([("NAME", "STATE"), ("etcd", "Running")])
    ['NAME  STATE', 'etcd  Running']
    """
    count = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[column]) for row in rows if column < len(row)), default=0) for column in range(count)
    ]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def format_seconds(seconds: float) -> str:
    """Return a duration as people read it.

    >>> format_seconds(0.42), format_seconds(75.2)
    ('0.4 s', '1 min 15 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def format_bytes(size_bytes: float) -> str:
    """Return a size in the unit that fits.

    >>> format_bytes(512), format_bytes(1536 * 1024**2)
    ('512 B', '1.5 GiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
