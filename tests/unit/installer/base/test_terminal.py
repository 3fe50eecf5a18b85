# SPDX-License-Identifier: Apache-2.0
"""Questions go to the terminal, whatever stdin and stdout are: a real one, in a session of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from installer.base.terminal import Terminal

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
