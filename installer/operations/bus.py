# SPDX-License-Identifier: Apache-2.0
"""Ask minions through their master: the one place that does. No answer is no information about a minion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer.base.errors import CommandError, HostError, elsewhere, from_json
from installer.base.run import run
from installer.operations import containers
from installer.operations.asking import Deadline

TIMEOUT_S = 5
FIND_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 60.0
"""Salt asks again after its timeout, for ten seconds each (``gather_job_timeout``)."""
NO_ANSWER = object()
NO_MASTER = "no container salt-master is running"
#: One question to many, which ends soon when some do not answer: Salt's command line waits ten seconds more for them.
#: Source: Salt 3008.3, salt/client/__init__.py, LocalClient.get_cli_event_returns, gather_job_timeout.
PYTHON = "/opt/saltstack/salt/bin/python3"
ASK_ALL = """\
import json, sys, salt.client, salt.config
said = json.loads(sys.argv[1])
options = salt.config.client_config("/etc/salt/master")
options["gather_job_timeout"] = 1
client = salt.client.LocalClient(mopts=options)
found = client.cmd(said["minions"], said["function"], said["arguments"], tgt_type="list", timeout=said["timeout_s"])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Answer:
    """What a minion returned, or :data:`NO_ANSWER` and what was said in its place."""

    value: Any
    why: str = ""


def master(*, timeout_s: float = FIND_TIMEOUT_S) -> str:
    """Return the container of the salt-master; empty when none runs.

    Raises:
        CommandError: containerd does not answer.
        HostError: there is no crictl.
    """
    listed = ["crictl", "ps", "--quiet", "--state", "running", *containers.selection("salt-master")]
    return " ".join(run(listed, timeout_s=timeout_s, check=False).stdout.split()[:1])


def ask(minion_id: str, function: str, *arguments: str) -> Any:
    """Return what a function of the minion returned; :data:`NO_ANSWER` when nothing came back."""
    return ask_why(minion_id, function, *arguments).value


def ask_why(minion_id: str, function: str, *arguments: str, limit_s: float = COMMAND_TIMEOUT_S) -> Answer:
    """Return what a function of the minion returned, else why nothing came back; one that is at work is waited for.

    The target is a list of one: a name is never a pattern.
    """
    options = ["--out=json", "--static", f"--timeout={TIMEOUT_S}", "--list", minion_id]
    try:
        container = master()
        if not container:
            return Answer(NO_ANSWER, NO_MASTER)
        words = ["crictl", "exec", container, "/usr/bin/salt", *options, function, *arguments]
        said = run(words, timeout_s=limit_s, check=False)
    except CommandError as exc:
        return Answer(NO_ANSWER, exc.message)
    value = parse(said.stdout, minion_id)
    return Answer(value, "" if value is not NO_ANSWER else (said.stderr or said.stdout).strip()[-500:])


def ask_to_do(
    minion_id: str, function: str, given: Mapping[str, Any], *, limit_s: float = COMMAND_TIMEOUT_S
) -> Any:
    """Let a minion do something; return the ``result`` of what it answers, which has an ``error`` beside it.

    ``given`` goes as JSON, of which Salt's command line makes the same data again, whatever the words in it are.

    Raises:
        InstallerError: what it failed for there.
        HostError: it does not answer, or does not know how.
    """
    answer = ask_why(minion_id, function, json.dumps(given), limit_s=limit_s)
    said = answer.value
    if isinstance(said, dict) and "error" in said:
        if said["error"] is not None:
            raise elsewhere(from_json(said["error"]), minion_id)
        return said.get("result")
    words = (answer.why if said is NO_ANSWER else str(said)).strip().splitlines()
    raise HostError(
        f"{minion_id} does not answer, or does not know how",
        details=words[-1] if words else "nothing was said",
        resolution=f"does it run, and its minion? See 'caisson status {minion_id}'; one whose installer is older gets "
        "this one by 'caisson node add' again",
    )


def ask_all(
    minions: Sequence[str], function: str, *arguments: Any, timeout_s: int, limit_s: float
) -> dict[str, Any] | None:
    """Return what the function returned on each minion that answered; None when no salt-master runs.

    Who has not answered after ``timeout_s`` is asked once more and then left out; all of it ends after ``limit_s``.

    Raises:
        CommandError: the master, or containerd, does not answer in time.
        HostError: there is no crictl.
    """
    deadline = Deadline(limit_s)
    container = master(timeout_s=deadline.left_s)
    if not container:
        return None
    said = {
        "minions": list(minions),
        "function": function,
        "arguments": list(arguments),
        "timeout_s": timeout_s,
    }
    words = ["crictl", "exec", container, PYTHON, "-I", "-c", ASK_ALL, json.dumps(said)]
    return answers(run(words, timeout_s=deadline.left_s, check=False).stdout, minions)


def ask_each(minions: Sequence[str], function: str, *arguments: str) -> dict[str, Any]:
    """Return what the function returned on each minion; :data:`NO_ANSWER` for one from which nothing came back."""
    try:
        found = ask_all(minions, function, *arguments, timeout_s=TIMEOUT_S, limit_s=COMMAND_TIMEOUT_S) or {}
    except (CommandError, HostError):
        found = {}
    return {name: found.get(name, NO_ANSWER) for name in minions}


def answers(said: str, minions: Sequence[str]) -> dict[str, Any]:
    """Return the answers in what :data:`ASK_ALL` printed, of the minions that were asked.

    A function that raised is its traceback as text, which no function of ours returns: no answer either.

    >>> answers('{"node2": true, "node3": false, "x": 1}', ["node2", "node3"]), answers("", ["node2"])
    ({'node2': True}, {})
    """
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    is_map = isinstance(found, dict)
    return {name: found[name] for name in minions if is_map and found.get(name) not in (None, False)}


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
