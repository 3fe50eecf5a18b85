# SPDX-License-Identifier: Apache-2.0
"""Speak to the user: numbered phases, elapsed time, what is waited for; all of it also to the log.

On a terminal one line at the bottom is renewed every second; elsewhere there are plain lines only, and never
more than ten seconds of silence. A terminal that has gone away (a dropped SSH session) stops nothing: the log
goes on. What is said may be copied to a file, for those who follow from elsewhere. Of several hosts side by side each
has a voice of its own in it: its lines begin with its name, and none is silent because another speaks.
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
    """One voice for the whole run, or (:meth:`of`) for one of several hosts in it; safe to use from several threads."""

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
        self._out = _Out(
            stream,
            log_file=log_file,
            copy_file=copy_file,
            is_terminal=is_terminal,
            interval_s=interval_s,
            clock=clock,
        )
        self._name = ""
        self._begin()

    def _begin(self) -> None:
        self._waiting_for = ""
        self._phase_started: float | None = None
        self._last_said = self._last_copied = self._out.clock()

    def of(self, name: str, *, width: int = 0) -> Ui:
        """Return the voice of one of several that work side by side: each of its lines begins with its name.

        Its phases are its own; the log, the copy and the terminal are those of all. Names of less than ``width``
        letters are filled up, so that what they say is one below the other.
        """
        part = Ui.__new__(Ui)
        part._out = self._out
        part._name = name.ljust(width)
        part._begin()
        return part

    def phase(self, name: str, title: str, *, number: int = 0, total: int = 0) -> None:
        """Announce a phase and begin to tell, from time to time, what it waits for."""
        with self._out.mutex:
            self._waiting_for = title
            self._phase_started = self._out.clock()
            self._say(f"[{number:2}/{total}] {name}: {title}" if total else f"{name}: {title}")
        self._out.begin(self)

    def phase_end(self, text: str) -> None:
        """Close the phase with one line that says how it went."""
        self._out.end(self)
        with self._out.mutex:
            self._phase_started = None
            self._waiting_for = ""
            self._say(f"        {text}")

    def progress(self, text: str) -> None:
        """Say what is being waited for ("etcd to answer"); shown at the next tick, logged at once if new."""
        with self._out.mutex:
            if text == self._waiting_for:
                return
            self._waiting_for = text
            line = self._named(f"        .. {text}")
            self._out.log(line)
            self._copy(line)
            if self._out.is_terminal and self._phase_started is not None:
                self._out.show_live_line()

    def note(self, text: str) -> None:
        """Say something the user should read, in any number of lines."""
        with self._out.mutex:
            for line in text.splitlines() or [""]:
                self._say(line)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Show rows in columns; the first row is the heading."""
        with self._out.mutex:
            for line in format_table(rows):
                self._say(line)

    def detail(self, text: str) -> None:
        """Write to the log only."""
        with self._out.mutex:
            for line in text.splitlines():
                self._out.log(self._named(line))

    def close(self) -> None:
        """Stop the ticker and take away what is left on the terminal's last line."""
        self._out.close()

    def tick(self) -> None:
        """Tell what is being waited for, if nothing was said for a while."""
        with self._out.mutex:
            if self._phase_started is None:
                return
            if self._out.is_terminal:
                self._out.show_live_line()
                if self._out.clock() - self._last_copied >= PLAIN_INTERVAL_S:
                    self._copy(self.waiting)
            elif self._out.clock() - self._last_said >= self._out.interval_s * 0.9:
                self._say(self._waiting_line())

    @property
    def waiting(self) -> str:
        """The line that says what is waited for, and for how long by now."""
        return self._named(self._waiting_line())

    @property
    def live(self) -> str:
        """What the renewed line of a terminal says of this one, when it is one of several at work."""
        return visible(f"{self._name.strip()} {self._elapsed_s:.0f} s {self._waiting_for}")

    @property
    def _elapsed_s(self) -> float:
        return 0.0 if self._phase_started is None else self._out.clock() - self._phase_started

    def _waiting_line(self) -> str:
        return f"        {self._elapsed_s:4.0f} s  waiting for: {self._waiting_for}"

    def _named(self, line: str) -> str:
        """Return the line with the name; other hosts' words are among it, and are no orders to a terminal."""
        return visible(f"{self._name} | {line}".rstrip() if self._name else line)

    def _say(self, line: str) -> None:
        self._last_said = self._out.clock()
        self._out.clear_live_line()
        self._out.write(self._named(line) + "\n")
        self._out.log(self._named(line))
        self._copy(self._named(line))

    def _copy(self, line: str) -> None:
        self._last_copied = self._out.clock()
        self._out.copy(line)


class _Out:
    """Where all voices of a run speak: the stream, the log, the copy, one line that is renewed, one ticker."""

    def __init__(
        self,
        stream: TextIO,
        *,
        log_file: Path | None,
        copy_file: Path | None,
        is_terminal: bool | None,
        interval_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._log_file = log_file
        self._copy_file = copy_file
        self.is_terminal = stream.isatty() if is_terminal is None else is_terminal
        self.interval_s = interval_s or (TERMINAL_INTERVAL_S if self.is_terminal else PLAIN_INTERVAL_S)
        self.clock = clock
        self.mutex = threading.RLock()
        self._at_work: list[Ui] = []
        self._has_live_line = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def begin(self, voice: Ui) -> None:
        """Tell from now on what this one waits for."""
        with self.mutex:
            if voice not in self._at_work:
                self._at_work.append(voice)
            if self._ticker is None:
                self._stop = threading.Event()
                self._ticker = threading.Thread(
                    target=self._tick_until, args=(self._stop,), name="caisson-ticker", daemon=True
                )
                self._ticker.start()

    def end(self, voice: Ui) -> None:
        """Tell no longer what this one waits for; without any other nobody ticks."""
        with self.mutex:
            self._at_work = [other for other in self._at_work if other is not voice]
            ticker = None if self._at_work else self._ticker
            if ticker is not None:
                self._stop.set()
                self._ticker = None
        if ticker is not None and ticker is not threading.current_thread():
            ticker.join(timeout=5)

    def close(self) -> None:
        """End the ticker and the renewed line."""
        for voice in list(self._at_work):
            self.end(voice)
        with self.mutex:
            self.clear_live_line()

    def _tick_until(self, stop: threading.Event) -> None:
        while not stop.wait(self.interval_s):
            for voice in list(self._at_work):
                voice.tick()

    def show_live_line(self) -> None:
        """Renew the terminal's last line: what all of them wait for."""
        columns = shutil.get_terminal_size().columns
        is_alone = len(self._at_work) == 1
        shown = " | ".join(voice.waiting if is_alone else voice.live for voice in self._at_work)
        if shown:
            self.write(CLEAR_LINE + shown[: columns - 1])
            self._has_live_line = True

    def clear_live_line(self) -> None:
        """Take away the renewed line, if it is shown."""
        if self._has_live_line:
            self.write(CLEAR_LINE)
            self._has_live_line = False

    def write(self, text: str) -> None:
        """Write to the stream; one that has gone away is no fault."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return

    def log(self, line: str) -> None:
        """Append to the log, with the time."""
        if self._log_file is not None:
            append_private(self._log_file, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")

    def copy(self, line: str) -> None:
        """Append to the copy."""
        if self._copy_file is not None:
            append_private(self._copy_file, f"{line}\n")


def visible(line: str) -> str:
    r"""Return a line with no character in it that is not to be seen: a terminal takes some for orders.

    >>> visible("done\x1b[2J\tall is well \u202eX")
    'done?[2J    all is well ?X'
    """
    return printable(line.replace("\t", "    "))


def printable(text: str) -> str:
    r"""Return a text in which ``?`` stands for each character that is not to be seen.

    A byte of a file's name that is no UTF-8 is shown by its code (PEP 383): the name can be told by it.

    >>> printable("a\tb")
    'a?b'
    >>> printable(b"caf\xe9".decode("utf-8", "surrogateescape"))
    'caf\\udce9'
    """
    return "".join(_shown(letter) for letter in text)


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):x}" if "\udc80" <= letter <= "\udcff" else "?"


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
