# SPDX-License-Identifier: Apache-2.0
"""Questions go to the terminal, whatever stdin and stdout are: a real one, in a session of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from installer.base.terminal import Asked, Remembering, Terminal, Told

pytestmark = pytest.mark.subprocess
SCRIPT = (
    "from installer.base.terminal import Terminal; t = Terminal(); "
    "print([t.is_there, t.ask('sure? '), t.ask_secret('secret: ')])"
)


def test_a_terminal_is_asked_and_a_secret_is_not_shown(tmp_path: Path) -> None:
    out = tmp_path / "out"
    child, terminal = pty.fork()
    if child == 0:
        words = [sys.executable, "-c", f"import sys; sys.stdout = open({str(out)!r}, 'w'); {SCRIPT}"]
        os.execv(words[0], words)  # noqa: S606
    shown = b""
    for question, answer in ((b"sure? ", b" yes \n"), (b"secret: ", b"hunter2\n")):
        while question not in shown:
            shown += os.read(terminal, 1024)
        time.sleep(0.2)  # getpass turns the echo off just before it reads
        os.write(terminal, answer)
    _, status = os.waitpid(child, 0)
    try:
        shown += os.read(terminal, 1024)
    except OSError:
        shown += b""
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert out.read_text() == "[True, 'yes', 'hunter2']\n"
    assert b"hunter2" not in shown


def test_without_a_terminal_nobody_is_asked() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        input="y\ny\n",
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert said.stdout == "[False, '', '']\n", said.stderr


def test_it_is_looked_for_at_each_question(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("installer.base.terminal.TERMINAL_FILE", tmp_path / "none")
    assert not Terminal().is_there


class Slow(Terminal):
    """Somebody who takes time to answer, or leaves."""

    is_there = True

    def __init__(self, *, leaves_at: int = 99) -> None:
        self.said: list[str] = []
        self.leaves_at = leaves_at

    def ask(self, question: str) -> str:
        assert threading.current_thread() is threading.main_thread()
        if len(self.said) // 2 == self.leaves_at:
            raise KeyboardInterrupt
        self.said.append(f"begin {question}")
        time.sleep(0.05)
        self.said.append(f"end {question}")
        return f"{question}!"

    ask_secret = ask


def test_the_main_thread_puts_one_question_after_the_other() -> None:
    slow = Slow()
    asked = Asked(slow)
    assert asked.is_there
    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(asked.ask if name < "c" else asked.ask_secret, name) for name in "abcd"]
        asked.answer(lambda: all(future.done() for future in told))
    assert [future.result() for future in told] == ["a!", "b!", "c!", "d!"]
    for begin, end in zip(slow.said[::2], slow.said[1::2], strict=True):
        assert begin.replace("begin", "end") == end


def test_after_ctrl_c_nobody_waits_for_an_answer() -> None:
    asked = Asked(Slow(leaves_at=1))
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        told = [pool.submit(asked.ask, name) for name in "abc"]
        with pytest.raises(KeyboardInterrupt):
            asked.answer(lambda: all(future.done() for future in told))
    assert sorted(future.result() for future in told)[:2] == ["", ""]
    assert asked.ask("late") == ""
    assert time.monotonic() - started < 5


def test_what_was_typed_is_told_to_who_asks_the_same_question() -> None:
    class Typed(Terminal):
        is_there = True

        def ask_secret(self, question: str) -> str:
            return "secret" if question == "password of a: " else ""

        def ask(self, question: str) -> str:
            return f"answer to {question}"

    remembering = Remembering(Typed())
    assert remembering.is_there
    assert remembering.ask("key?") == "answer to key?"
    assert remembering.ask_secret("password of a: ") == "secret"
    assert remembering.ask_secret("password of b: ") == ""
    assert remembering.secrets == {"password of a: ": "secret"}
    told = Told(remembering.secrets)
    assert not told.is_there
    assert told.ask("key?") == ""
    assert (told.ask_secret("password of a: "), told.ask_secret("password of b: ")) == ("secret", "")
