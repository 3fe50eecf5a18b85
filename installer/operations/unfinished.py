# SPDX-License-Identifier: Apache-2.0
"""Tell with which further nodes something was begun and not ended, so that what is advised goes on with that.

A removal that failed when it reset the host leaves what an addition leaves that failed: a node that was told something
and whose key the master does not know. The jobs tell them apart, and the names of which the cluster makes no Node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.engine import jobs
from installer.engine.jobs import Job, State
from installer.operations import fencing
from installer.operations.asking import COMMAND_LIMIT_S, Question

ADDITION, REMOVAL = "node-add", "node-remove"
REMOVE_FIX = "its removal was not finished: caisson node remove {name}"
WAIT_FIX = "its {what} is at work: caisson job {job} --follow"
WORDS = {ADDITION: "addition", REMOVAL: "removal"}


def fixes(
    paths: Paths, nodes: Sequence[tuple[str, str]], *, limit_s: float = COMMAND_LIMIT_S
) -> Mapping[str, str]:
    """Return what to do about those of the nodes (name, address) with which something was begun and not ended."""
    if not nodes:
        return {}
    removed = _removed(paths, limit_s)
    found, _ = jobs.read_all(paths)
    found.sort(key=_last_begun, reverse=True)
    told = {
        name: _fix(name, [job for job in found if _is_about(job, name, address)], is_fenced=name in removed)
        for name, address in nodes
    }
    return {name: fix for name, fix in told.items() if fix}


def _removed(paths: Paths, limit_s: float) -> Sequence[str]:
    """Return the names of which no Node may be made; none where the API does not say."""
    if not paths.admin_kubeconfig_file.is_file():
        return ()
    return Question("the removed nodes", partial(fencing.fenced, paths), limit_s=limit_s).answer([], [])


def _last_begun(job: Job) -> str:
    """Return when it was begun last: one that was interrupted is gone on with under the name that it has."""
    return job.starts[-1].time if job.starts else job.time


def _is_about(job: Job, name: str, address: str) -> bool:
    """Say whether a job adds or removes a node; an addition may know its host by the address alone."""
    said = job.arguments
    hosts = {ADDITION: said.get("nodes"), REMOVAL: [said.get("host")]}.get(job.operation)
    entries = [host for host in hosts if isinstance(host, dict)] if isinstance(hosts, list) else []
    return any(
        host["name"] == name if host.get("name") else host.get("address") == address for host in entries
    )


def _fix(name: str, about: Sequence[Job], *, is_fenced: bool) -> str:
    """Return what to do about a node by the jobs about it, the newest first; empty when it is to be added again.

    An addition lets a Node be made again before it makes one: as long as none may be, the removal before it counts.
    """
    for job in about:
        state = _state(job)
        if state is State.RUNNING:
            return WAIT_FIX.format(what=WORDS[job.operation], job=job.id)
        if job.operation == REMOVAL:
            return "" if state is State.SUCCEEDED else REMOVE_FIX.format(name=name)
        if not is_fenced:
            return ""
    return REMOVE_FIX.format(name=name) if is_fenced else ""


def _state(job: Job) -> State:
    try:
        return job.state()
    except (CommandError, HostError):  # systemd does not answer, which is told elsewhere
        return State.INTERRUPTED
