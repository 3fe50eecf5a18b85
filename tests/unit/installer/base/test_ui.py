# SPDX-License-Identifier: Apache-2.0
"""The voice: plain lines where there is no terminal, never silent for long, all of it in the log."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

from installer.base.ui import Ui, format_table


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(stream: io.StringIO, clock: Clock, log_file: Path | None = None) -> Ui:
    return Ui(stream, log_file=log_file, is_terminal=False, interval_s=9, clock=clock)


def test_plain_lines_and_the_log(tmp_path: Path) -> None:
    stream, clock, log_file = io.StringIO(), Clock(), tmp_path / "log"
    ui = plain(stream, clock, log_file)
    ui.phase("one", "do one", number=1, total=20)
    ui.progress("etcd to answer")
    ui.progress("etcd to answer")
    clock.now = 5
    ui.tick()
    clock.now = 9
    ui.tick()
    ui.tick()
    ui.phase_end("changed, 9 s")
    ui.tick()
    ui.note("a\nb")
    ui.table([("A", "B"), ("long", "x")])
    ui.detail("only here")
    ui.close()
    shown = [
        "[ 1/20] one: do one",
        "           9 s  waiting for: etcd to answer",
        "        changed, 9 s",
        "a",
        "b",
        "A     B",
        "long  x",
    ]
    assert stream.getvalue().splitlines() == shown
    logged = [re.sub(r"^\S+Z ", "", line) for line in log_file.read_text().splitlines()]
    assert logged == [shown[0], "        .. etcd to answer", *shown[1:], "only here"]
    assert log_file.stat().st_mode & 0o777 == 0o600


def test_the_ticker_speaks_by_itself() -> None:
    stream = io.StringIO()
    ui = Ui(stream, is_terminal=False, interval_s=0.02)
    ui.phase("one", "do one")
    deadline = time.monotonic() + 5
    while "waiting for" not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    ui.phase_end("ok")
    said = stream.getvalue()
    assert "waiting for: do one" in said
    time.sleep(0.06)
    assert stream.getvalue() == said


def test_a_terminal_has_one_line_that_is_renewed() -> None:
    stream, clock = io.StringIO(), Clock()
    ui = Ui(stream, is_terminal=True, interval_s=3600, clock=clock)
    ui.phase("one", "do one")
    ui.progress("a very long text " * 50)
    clock.now = 3
    ui.tick()
    ui.phase_end("ok")
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert text.endswith("\r\x1b[K        ok\n")


def test_a_terminal_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    ui = Ui(Gone(), log_file=tmp_path / "log", is_terminal=False)
    ui.note("still here")
    assert "still here" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    Ui(stream, log_file=tmp_path / "none/log", is_terminal=False).note("said")
    assert stream.getvalue() == "said\n"


def test_a_table_with_short_rows() -> None:
    assert format_table([("a", "b"), ("c",)]) == ["a  b", "c"]
    assert format_table([]) == []


def test_what_is_said_is_copied_for_those_who_follow(tmp_path: Path) -> None:
    """On a terminal, what is waited for is renewed in place; a copy has a line for each, and one every nine seconds."""
    file, clock = tmp_path / "output.log", Clock()
    ui = Ui(io.StringIO(), copy_file=file, is_terminal=True, interval_s=3600, clock=clock)
    ui.phase("one", "do one")
    ui.progress("etcd to answer")
    for clock.now in (1, 9, 10):
        ui.tick()
    ui.detail("only in the log")
    ui.phase_end("ok")
    ui.close()
    assert file.read_text().splitlines() == [
        "one: do one",
        "        .. etcd to answer",
        "           9 s  waiting for: etcd to answer",
        "        ok",
    ]
    assert file.stat().st_mode & 0o777 == 0o600


def test_several_hosts_each_have_a_voice_that_is_never_silent(tmp_path: Path) -> None:
    """Each line begins with its host; that one speaks does not keep another silent; without any, nobody ticks."""
    stream, clock, log_file, copy_file = io.StringIO(), Clock(), tmp_path / "log", tmp_path / "copy"
    ui = Ui(stream, log_file=log_file, copy_file=copy_file, is_terminal=False, interval_s=9, clock=clock)
    one, two = ui.of("node2", width=6), ui.of("node10", width=6)
    one.phase("CSP404 install", "install", number=4, total=11)
    two.phase("CSP406 hello", "hello", number=6, total=11)
    two.progress("the minion")
    for clock.now in (5, 9):
        one.note("still here")
        one.tick()
        two.tick()
    two.detail("only in the log")
    one.phase_end("ok")
    two.phase_end("ok")
    assert stream.getvalue().splitlines() == [
        "node2  | [ 4/11] CSP404 install: install",
        "node10 | [ 6/11] CSP406 hello: hello",
        "node2  | still here",
        "node2  | still here",
        "node10 |            9 s  waiting for: the minion",
        "node2  |         ok",
        "node10 |         ok",
    ]
    assert "node10 | only in the log" in log_file.read_text()
    assert "node10 |         .. the minion" in copy_file.read_text().splitlines()
    assert [thread.name for thread in threading.enumerate() if thread.name == "caisson-ticker"] == []


def test_a_terminal_renews_one_line_for_all_hosts() -> None:
    stream, clock = io.StringIO(), Clock()
    ui = Ui(stream, is_terminal=True, interval_s=3600, clock=clock)
    one, two = ui.of("node2"), ui.of("node3")
    one.phase("a", "install")
    two.phase("b", "join")
    clock.now = 3
    one.tick()
    assert stream.getvalue().endswith("\r\x1b[Knode2 3 s install | node3 3 s join")
    one.phase_end("ok")
    two.tick()
    assert stream.getvalue().endswith("\r\x1b[Knode3 |            3 s  waiting for: join")
    ui.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_the_ticker_goes_on_as_long_as_one_host_is_in_a_phase() -> None:
    stream = io.StringIO()
    ui = Ui(stream, is_terminal=False, interval_s=0.02)
    one, two = ui.of("node2"), ui.of("node3")
    one.phase("a", "first")
    two.phase("b", "second")
    one.phase_end("ok")
    deadline = time.monotonic() + 5
    while "node3 |" not in stream.getvalue().partition("ok")[2] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "waiting for: second" in stream.getvalue().partition("ok")[2]
    ui.close()


def test_what_another_host_says_is_no_order_to_the_terminal(tmp_path: Path) -> None:
    """Its errors and findings are among the lines: they could clear the screen, and write another end on it."""
    stream = io.StringIO()
    files = tmp_path / "log", tmp_path / "copy"
    ui = Ui(stream, is_terminal=False, interval_s=3600, log_file=files[0], copy_file=files[1])
    hostile = "x\x1b[2J\x1b]52;c;cm0=\x07 all is well"
    voice = ui.of(hostile)
    voice.phase("probe", hostile)
    voice.progress(hostile)
    voice.note(hostile)
    voice.detail(hostile)
    voice.table([(hostile, hostile)])
    voice.phase_end(hostile)
    ui.close()
    said = stream.getvalue() + voice.live + voice.waiting + "".join(file.read_text() for file in files)
    assert "all is well" in said
    assert [letter for letter in said if not letter.isprintable() and letter != "\n"] == []
