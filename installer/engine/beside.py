# SPDX-License-Identifier: Apache-2.0
"""Let what only looks go on beside later phases, and wait for it where the run needs it."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass, field
from typing import Callable

from installer.base.session import Looker, only_looking

POLL_S = 0.1


@dataclass(frozen=True)
class Signs:
    """What a work is told: that nobody wants it any more, and that the run has come to wait for it."""

    stop: threading.Event = field(default_factory=threading.Event)
    awaited: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Work:
    looker: Looker = field(default_factory=Looker)
    signs: Signs = field(default_factory=Signs)
    thread: threading.Thread = field(init=False)
    error: BaseException | None = None


class Beside:
    """The works of one run that go on in the background: they look, and change nothing."""

    def __init__(self) -> None:
        """Begin with none."""
        self._works: dict[str, _Work] = {}

    def begin(self, name: str, work: Callable[[Signs], None]) -> None:
        """Begin a work, unless it has begun; ``name`` says what it waits for, like 'the minion to answer its master'.

        It should return soon once ``stop`` is set. How long it may take counts from ``awaited``: until then the host
        is busy with the phases.
        """
        if name in self._works:
            return
        begun = _Work()

        def carry_out() -> None:
            try:
                with only_looking(begun.looker):
                    work(begun.signs)
            except BaseException as exc:  # noqa: BLE001  raised again by who waits for it
                begun.error = exc

        begun.thread = threading.Thread(
            target=contextvars.copy_context().run, args=(carry_out,), name=name, daemon=True
        )
        self._works[name] = begun
        begun.thread.start()

    def wait(self, progress: Callable[[str], None]) -> None:
        """Wait until all that was begun has ended; ``progress`` is told what is waited for.

        Raises:
            InstallerError: what the first work that failed has raised.
        """
        for work in self._works.values():
            work.signs.awaited.set()
        for name in list(self._works):
            work = self._works[name]
            while work.thread.is_alive():
                progress(name)
                work.thread.join(POLL_S)
            del self._works[name]
            if work.error is not None:
                raise work.error

    def close(self) -> None:
        """End what still runs."""
        for work in self._works.values():
            work.signs.stop.set()
            work.looker.end()
        self._works.clear()
