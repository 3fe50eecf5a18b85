# SPDX-License-Identifier: Apache-2.0
"""Have states applied on the other host by a job of its own, and wait for what came of it.

It is started, and asked how it is, over the SSH connection that is open already: over the bus each takes two seconds
of a processor. Where SSH misses, the bus does it. A question without an answer is no information: only a result, or a
job that is gone without one, says how it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from installer.base.errors import InstallerError, ReachError, SaltError, elsewhere, from_json
from installer.base.ui import Ui
from installer.engine import detached
from installer.engine.context import Context
from installer.operations import bus, joining
from installer.operations.joining import Joining

COMMAND_FILE = "/usr/bin/caisson"
POLL_S = 0.5
MISSES = 3
"""So many questions that neither leaves an answer to, one after the other, and the host is lost."""
LIMIT_S = 1800.0
OTHERS = 5
"""So many jobs of earlier runs are waited for: one at a time is at work, and a host may say anything."""
SSH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Detached:
    """Salt's states, applied on the other host in the order of their names, by a job of its own."""

    sls: tuple[str, ...]

    def __call__(self, context: Context) -> bool:
        """Apply them; return whether that changed anything.

        Raises:
            SaltError: a state failed, or the job is gone without a result.
            ReachError: neither the bus nor SSH reach the host.
        """
        node = joining.of(context)
        applied = carry_out(node, self.sls, context.journal.run_id, context.ui)
        for name in applied["changed"]:
            context.ui.detail(f"changed on {node.name}: {name}")
        return bool(applied["changed"])

    def __str__(self) -> str:
        """Return the names and where, as they are shown.

        >>> str(Detached(("host", "containerd")))
        'Salt, by a job on the node: host, containerd'
        """
        return f"Salt, by a job on the node: {', '.join(self.sls)}"


def carry_out(node: Joining, sls: tuple[str, ...], run_id: str, ui: Ui) -> Mapping[str, Any]:
    """Start a job for these states, after one that still runs there, and return its result.

    Raises:
        SaltError: see :class:`Detached`.
    """
    job_id = f"{sls[0].replace('.', '-').replace('_', '-')}-{run_id}"
    at_work = ""
    for _ in range(OTHERS):
        at_work = _start(node, job_id, sls)
        if at_work == job_id:
            break
        ui.note(f"on {node.name} the job {at_work} of an earlier run is at work: waiting for it")
        _wait(node, at_work, ui)
    else:
        raise SaltError(
            f"{node.name} names one other job after the other, and does not begin this one",
            details=f"the last: {at_work}",
            resolution="look there: systemctl list-units 'caisson-detached@*'; it does not answer as Caisson does",
        )
    said = _wait(node, job_id, ui)
    if said["state"] == "lost":
        raise SaltError(
            f"the job {job_id} on {node.name} is gone without a result",
            details="the host was reset, or the job was killed",
            resolution=f"run the same command again; on that host: journalctl -u 'caisson-detached@{job_id}'",
        )
    result: Mapping[str, Any] = said["result"]
    if result["error"] is not None:
        raise elsewhere(from_json(result["error"]), node.name)
    return result


def _start(node: Joining, job_id: str, sls: tuple[str, ...]) -> str:
    try:
        return str(by_ssh(node, "start", job_id, *sls))
    except ReachError:
        answer = bus.ask(node.name, "caisson_job.start", job_id, *sls)
        if isinstance(answer, str) and detached.ID.fullmatch(answer):
            return answer
        raise


def _wait(node: Joining, job_id: str, ui: Ui) -> dict[str, Any]:
    """Ask until the job has ended or is gone; return what is known of it then.

    Raises:
        SaltError: it still runs after :data:`LIMIT_S`.
        ReachError: neither SSH nor the bus reach the host, MISSES times.
    """
    misses, started = 0, time.monotonic()
    while True:
        try:
            answer = by_ssh(node, "look", job_id)
        except InstallerError:
            misses += 1
            answer = bus.ask(node.name, "caisson_job.look", job_id)
            if misses >= MISSES and not _is_look(answer):
                raise
        if _is_look(answer):
            misses = 0
            if answer["state"] != "running":
                return dict(answer)
            ui.progress(f"{node.name}: {answer['progress'] or 'Salt to start'}")
        if time.monotonic() - started > LIMIT_S:
            raise SaltError(
                f"the job {job_id} on {node.name} still runs after {LIMIT_S / 60:.0f} minutes",
                details=f"last heard of: {answer['progress']}" if _is_look(answer) else "it does not answer",
                resolution="look there: /var/log/caisson/salt.log; the same command waits for it again",
            )
        time.sleep(POLL_S)


def _is_look(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.get("state") in ("running", "ended", "lost")


def by_ssh(node: Joining, verb: str, *words: str) -> Any:
    """Return what a verb of ``caisson on-node`` answers there.

    Raises:
        InstallerError: what it failed for.
    """
    command = [COMMAND_FILE, "on-node", verb, *words, "--json"]
    return answer_of(node.host.run(command, timeout_s=SSH_TIMEOUT_S, check=False).stdout, node, verb)


def answer_of(said: str, node: Joining, verb: str) -> Any:
    """Return the answer in what ``caisson on-node`` printed.

    Raises:
        InstallerError: what it failed for; SaltError when it said nothing that can be read.
    """
    try:
        answer = json.loads(said)
    except ValueError as exc:
        raise SaltError(
            f"caisson gave no answer to '{verb}' on {node.entry.title}",
            details="\n".join(f"| {line}" for line in said.splitlines()[-12:]),
            resolution=f"start it there to see more: {COMMAND_FILE} on-node {verb}",
        ) from exc
    if isinstance(answer, dict) and "error" in answer and "exit_code" in (answer["error"] or {}):
        raise elsewhere(from_json(answer["error"]), node.entry.title)
    return answer
