# SPDX-License-Identifier: Apache-2.0
"""One line when a long step begins, one at least every ten seconds while it lasts, one when it ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def step(label: str, *, every_s: float = 10.0, out: TextIO | None = None) -> Iterator[None]:
    """Tell on ``out`` (default: standard error) how the step ``label`` goes, in plain lines."""
    stream = out or sys.stderr
    began = time.monotonic()
    ended = threading.Event()

    def tell(text: str) -> None:
        print(f"lab: {label}: {text}", file=stream, flush=True)

    def tick() -> None:
        while not ended.wait(every_s):
            tell(f"still at it after {time.monotonic() - began:.0f} s")

    ticker = threading.Thread(target=tick, name=f"progress of {label}", daemon=True)
    tell("begins")
    ticker.start()
    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        ended.set()
        ticker.join()
        tell(f"{outcome} after {time.monotonic() - began:.1f} s")
