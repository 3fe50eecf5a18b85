# SPDX-License-Identifier: Apache-2.0
"""Let one salt-call carry out many functions: it starts once, and a start is most of what a short one takes.

The installer tells one request a line on stdin, ``{"function": .., "args": [..], "kwargs": {..}}``, and gets one
answer a line on stdout: ``{"return": ..}`` or ``{"error": ".."}``. When stdin ends, so does this.
"""

from __future__ import annotations

import json
import logging
import os
from typing import IO, TYPE_CHECKING, Any

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}


def serve() -> int:
    """Carry out requests until stdin ends; return how many there were.

    What any function starts gets an empty stdin, and what it prints goes to stderr: requests and answers have
    descriptors of their own, which no child inherits.
    """
    requests, answers = (
        os.fdopen(os.dup(0), "r", encoding="utf-8"),
        os.fdopen(os.dup(1), "w", encoding="utf-8"),
    )
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    count = 0
    for line in requests:
        count += 1
        if not _answer(answers, _carry_out(line)):
            break
    return count


def _carry_out(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        function = request["function"]
        if function not in __salt__:
            return {"error": f"there is no function {function}"}
        return {"return": __salt__[function](*request["args"], **request["kwargs"])}
    except Exception as exc:
        log.exception("caisson_worker: %s", line.strip())
        return {"error": f"{type(exc).__name__}: {exc}"}


def _answer(answers: IO[str], answer: dict[str, Any]) -> bool:
    """Write one answer; return whether anybody was there to hear it."""
    try:
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()
    except BrokenPipeError:
        return False
    return True
