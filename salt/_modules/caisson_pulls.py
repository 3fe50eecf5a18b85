# SPDX-License-Identifier: Apache-2.0
"""Pull images beside other work, in threads of the salt-call that stays for the run.

Nothing depends on it: what it has not pulled is pulled by the state that needs the image, which waits for these threads
first. They end with their process, and so do the crictl that they started: a pull that was cut is repeated.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

THREAD_NAME = "caisson-pulls"
SERVER_TIMEOUT_S = 120.0
POLL_S = 0.25
# A media server with which a pull has taken its whole time is left to the states, which say so.
GIVE_UP_S = 120.0


class Puller(threading.Thread):
    """Gives one image after the other of ``waiting``, which others take from too, to ``pull``.

    It begins once ``probe`` finds no fault. ``pending`` is what is not done yet. A daemon: the process does not wait
    for it.
    """

    def __init__(
        self,
        waiting: collections.deque[str],
        pending: set[str],
        probe: Callable[[], str],
        pull: Callable[[str], str],
    ) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self.pending = pending
        self._waiting = waiting
        self._probe = probe
        self._pull = pull

    def run(self) -> None:
        """Wait for the server, then pull until nothing waits."""
        gives_up_at = time.monotonic() + SERVER_TIMEOUT_S
        while self._probe():
            if time.monotonic() > gives_up_at:
                self.pending.clear()
                return
            time.sleep(POLL_S)
        while self._waiting:
            try:
                reference = self._waiting.popleft()
            except IndexError:
                return
            started = time.monotonic()
            fault = self._pull(reference)
            if fault:
                log.warning("caisson: %s in the background: %s", reference, fault)
            self.pending.discard(reference)
            if fault and time.monotonic() - started > GIVE_UP_S:
                self._give_up()

    def _give_up(self) -> None:
        while self._waiting:
            with contextlib.suppress(IndexError):
                self.pending.discard(self._waiting.popleft())


def start(references: list[str], url: str, ca_file: str, parallel: int = 2) -> bool:
    """Begin to pull ``references``, in this order, once ``url`` answers; return False where that is done already."""
    if _threads():
        return False
    probe, pull = _plain("caisson_wait.probe_url"), _plain("caisson_image.pull_one")
    waiting, pending_now = collections.deque(references), set(references)
    for _ in range(parallel):
        Puller(waiting, pending_now, lambda: str(probe(url, ca_file)), pull).start()
    return True


def _plain(name: str) -> Callable[..., str]:
    """Return a function of another module without Salt's wrapper, which has one context for all threads.

    Two calls of it at a time may end as "cannot enter context". Source: Salt 3008, salt/loader/lazy.py, LazyLoader.run.
    """
    function = __salt__[name]
    plain: Callable[..., str] = getattr(function, "func", function)
    return plain


def pending(references: list[str]) -> list[str]:
    """Return those of ``references`` that are about to be pulled, or are being pulled, in the background."""
    left = set().union(*(thread.pending for thread in _threads()))
    return [reference for reference in references if reference in left]


def _threads() -> list[Any]:
    """Return the threads that pull; found by their name, as Salt loads this module again for each run of states."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
