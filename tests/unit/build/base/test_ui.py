# SPDX-License-Identifier: Apache-2.0
"""The line of progress, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from typing_extensions import override

from build.base.ui import Progress, bytes_text, duration_text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    @override
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1000, "1.0 kB"), (527_695_872, "527.7 MB"), (5e12, "5000.0 GB")]
)
def test_sizes(size: float, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (61, "1 min 01 s"), (7200, "2 h 00 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_lines_come_every_five_seconds_without_a_terminal() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("fetch", 10_000_000, 4, stream=stream, clock=clock) as progress:
        progress.skip(2_000_000)
        for _ in range(12):
            clock.now += 0.5
            progress.add(500_000)
        progress.finish_item()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "fetch: 0/4 items, 7.0 MB of 10.0 MB, 1.0 MB/s, 3 s left",
        "fetch: 4 items, 6.0 MB in 6 s",
    ]
    assert "\r" not in stream.getvalue()


def test_one_line_on_a_terminal() -> None:
    stream, clock = Terminal(), Clock()
    with Progress("fetch", 1000, 1, stream=stream, clock=clock) as progress:
        for _ in range(10):
            clock.now += 0.3
            progress.add(100)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r") >= 10


def test_the_rate_is_that_of_the_last_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress("fetch", 1_000_000_000, 1, stream=stream, clock=clock)
    for _ in range(10):
        clock.now += 5
        progress.add(50_000_000)
    for _ in range(10):
        clock.now += 5
        progress.add(5_000_000)
    assert "1.0 MB/s" in progress.text()
    progress.add(-5_000_000)
    assert "550.0 MB" in progress.text() or "545.0 MB" in progress.text()


def test_an_error_leaves_no_summary() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress("fetch", 1, 1, stream=stream):
        raise KeyError
    assert not stream.getvalue()
