# SPDX-License-Identifier: Apache-2.0
"""Ask a minion through its master: one question, one answer. No answer is no information about the minion."""

from __future__ import annotations

import json
from typing import Any

from installer.base.errors import CommandError
from installer.base.run import run
from installer.operations import containers

TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 60.0
"""Salt asks again after its timeout, for ten seconds each (``gather_job_timeout``)."""
NO_ANSWER = object()


def ask(minion_id: str, function: str, *arguments: str) -> Any:
    """Return what a function of the minion returned; :data:`NO_ANSWER` when nothing came back.

    The target is a list of one: a name is never a pattern.
    """
    command = ["crictl", "ps", "--quiet", "--state", "running", *containers.selection("salt-master")]
    options = ["--out=json", "--static", f"--timeout={TIMEOUT_S}", "--list", minion_id]
    try:
        found = run(command, timeout_s=30, check=False).stdout.split()
        if not found:
            return NO_ANSWER
        words = ["crictl", "exec", found[0], "/usr/bin/salt", *options, function, *arguments]
        said = run(words, timeout_s=COMMAND_TIMEOUT_S, check=False).stdout
    except CommandError:
        return NO_ANSWER
    return parse(said, minion_id)


def parse(said: str, minion_id: str) -> Any:
    r"""Return the minion's answer in what ``salt`` printed; warnings come before it.

    ``False`` is Salt's own word for a minion that did not answer.

    >>> parse('[WARNING ] x\n{"node2": {"a": 1}}', "node2"), parse('{"node2": false}', "node2") is NO_ANSWER
    ({'a': 1}, True)
    """
    start = said.find("{")
    try:
        answer = json.loads(said[start:])[minion_id] if start >= 0 else False
    except (ValueError, KeyError, TypeError):
        return NO_ANSWER
    is_answer = answer is not False and not (isinstance(answer, str) and answer.startswith("Minion did not"))
    return answer if is_answer else NO_ANSWER
