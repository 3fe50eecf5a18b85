# SPDX-License-Identifier: Apache-2.0
"""Ask whoever sits at the terminal, whatever stdin and stdout are: a pipe gets no question, and answers none."""

from __future__ import annotations

import getpass
from pathlib import Path

TERMINAL_FILE = Path("/dev/tty")


class Terminal:
    """The terminal that this process was started from, if there is one."""

    @property
    def is_there(self) -> bool:
        """Tell whether somebody can be asked."""
        try:
            with TERMINAL_FILE.open("r+b", buffering=0):
                return True
        except OSError:
            return False

    def ask(self, question: str) -> str:
        """Show a question and return the line that is typed; empty when the terminal has gone away."""
        try:
            with TERMINAL_FILE.open("r+b", buffering=0) as terminal:
                terminal.write(question.encode("utf-8"))
                return terminal.readline().decode("utf-8", errors="replace").strip()
        except OSError:
            return ""

    def ask_secret(self, question: str) -> str:
        """Show a question and return what is typed, which is not shown; empty when the terminal has gone away."""
        if not self.is_there:
            return ""
        try:
            return getpass.getpass(question)
        except (EOFError, OSError):
            return ""
