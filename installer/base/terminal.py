# SPDX-License-Identifier: Apache-2.0
"""Ask whoever sits at the terminal, whatever stdin and stdout are: a pipe gets no question, and answers none."""

from __future__ import annotations

import contextlib
import getpass
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

TERMINAL_FILE = Path("/dev/tty")
POLL_S = 0.1


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


@dataclass
class _Question:
    """What a thread wants to know, and waits for."""

    ask: Callable[[str], str]
    text: str
    answer: str = ""
    is_answered: threading.Event = field(default_factory=threading.Event)


class Asked(Terminal):
    """A terminal for several threads: the main one shows a question, and the next one when that is answered.

    Only there is Ctrl-C heard: a thread that reads from a terminal reads on, with the echo off.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._questions: queue.Queue[_Question] = queue.Queue()
        self._is_over = threading.Event()

    @property
    def is_there(self) -> bool:
        """Tell whether somebody can be asked."""
        return self._terminal.is_there

    def ask(self, question: str) -> str:
        """Return the line that is typed; empty when nobody answers any more."""
        return self._wait(_Question(self._terminal.ask, question))

    def ask_secret(self, question: str) -> str:
        """Return what is typed, which is not shown; empty when nobody answers any more."""
        return self._wait(_Question(self._terminal.ask_secret, question))

    def answer(self, is_done: Callable[[], bool]) -> None:
        """Put the questions of the other threads until that is so; after that, and after Ctrl-C, none is answered."""
        try:
            while not is_done():
                with contextlib.suppress(queue.Empty):
                    question = self._questions.get(timeout=POLL_S)
                    question.answer = question.ask(question.text)
                    question.is_answered.set()
        finally:
            self._is_over.set()

    def _wait(self, question: _Question) -> str:
        self._questions.put(question)
        while not question.is_answered.wait(POLL_S):
            if self._is_over.is_set():
                return ""
        return question.answer


class Remembering(Terminal):
    """A terminal that keeps the secrets that were typed, by their questions: a job is told them (:class:`Told`)."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.secrets: dict[str, str] = {}

    @property
    def is_there(self) -> bool:
        """Tell whether somebody can be asked."""
        return self._terminal.is_there

    def ask(self, question: str) -> str:
        """Return the line that is typed."""
        return self._terminal.ask(question)

    def ask_secret(self, question: str) -> str:
        """Return what is typed, which is not shown, and keep it."""
        answer = self._terminal.ask_secret(question)
        if answer:
            self.secrets[question] = answer
        return answer

    def forget(self, whose: str) -> None:
        """Forget the secrets whose questions end like this: they were refused, and refused twice an account locks."""
        self.secrets = {
            question: secret for question, secret in self.secrets.items() if not question.endswith(whose)
        }


class Told(Terminal):
    """Answers that were given before, where nobody sits any more; every other question gets none."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets

    @property
    def is_there(self) -> bool:
        """Tell that nobody can be asked."""
        return False

    def ask(self, question: str) -> str:  # noqa: ARG002  the same for all terminals
        """Return nothing."""
        return ""

    def ask_secret(self, question: str) -> str:
        """Return what was typed before to this very question; empty when nothing was."""
        return self._secrets.get(question, "")
