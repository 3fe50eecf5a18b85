# SPDX-License-Identifier: Apache-2.0
"""Tell the nodes which control planes there are: etcd's firewall before one joins, the endpoint's name after.

The nodes that are there already are told over the bus: nothing in it is a secret, and the credentials for their SSH
servers are not kept. Each notes what it has acted upon, so only those are told whose note is another. One that is off
is named; the next addition tells it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from installer.base.errors import SaltError, elsewhere, from_json
from installer.config.nodes import Role
from installer.engine import controlplanes, nodepillar, pillartop, remotefiles, saltcall
from installer.engine.context import Context
from installer.engine.remotefiles import RemoteFile
from installer.operations import bus, joining, spreading

TOLD_FILE = "/var/lib/caisson/told"
"""As the states have it: ``cluster.noted``."""
STATES = ("cluster.told",)
LIMIT_S = 300.0
POLL_S = 2.0
"""A question costs two seconds of a processor here."""


def run_tell_peers(context: Context) -> bool:
    """Let the control planes let the new one in: each opens etcd to its address. A worker needs none of it."""
    node = joining.of(context)
    if node.entry.role is not Role.CONTROL_PLANE:
        return False
    return tell(context, node.name, limit_s=LIMIT_S, only_control_planes=True)


def run_tell_nodes(context: Context) -> bool:
    """Let every node find the new control plane behind the endpoint's name; DNS moves to it in part."""
    node = joining.of(context)
    if node.entry.role is not Role.CONTROL_PLANE:
        return False
    node.caisson = nodepillar.told_again(context, node.caisson, serves=True)
    changed = pillartop.write(context.paths, context.facts.node_name, node.caisson)
    told = [
        RemoteFile(path, text.encode(), 0o600) for path, text in nodepillar.local_files(node.caisson).items()
    ]
    missing = remotefiles.differing(node.host, told)
    if missing:
        remotefiles.put(node.host, missing)
    is_spread = spreading.spread_dns(context)
    if not node.caisson["node"].get("media"):
        context.ui.note(
            f"{node.name} serves no packages and images: 'caisson media replicate {node.name}' lets it, for when this "
            "node is off"
        )
    return tell(context, node.name, limit_s=LIMIT_S) or changed or bool(missing) or is_spread


def tell(context: Context, apart: str, *, limit_s: float, only_control_planes: bool = False) -> bool:
    """Tell this host and the nodes of before what is known now; return whether one did not know it.

    ``apart`` is the node that it is about.

    Raises:
        SaltError: a control plane cannot be told, or what it was told failed there.
    """
    wanted = _wanted(context, apart, only_control_planes=only_control_planes)
    known = bus.ask_each(sorted(wanted), "caisson_job.told") if wanted else {}
    stale = [
        name for name, caisson in sorted(wanted.items()) if known.get(name) != nodepillar.digest(caisson)
    ]
    job_id = f"cluster-told-{context.journal.run_id}-{'peers' if only_control_planes else 'nodes'}"
    started = bus.ask_each(stale, "caisson_job.follow", job_id) if stale else {}
    has_changed = _tell_this_host(context)
    # One that has not joined yet has no etcd that would keep the new one out.
    peers = {name for name in stale if wanted[name]["node"].get("serves")}
    for name, said in _await(context, started, job_id, must_answer=peers, limit_s=limit_s).items():
        _judge(name, said, job_id)
    return has_changed or bool(stale)


def _wanted(context: Context, apart: str, *, only_control_planes: bool) -> Mapping[str, dict[str, Any]]:
    """Return the pillars of the further nodes but the new one, as they are to be; they are written by then."""
    wanted = {}
    for caisson in pillartop.pillars(context.paths):
        role, name = caisson["node"]["role"], str(caisson["node"]["name"])
        is_left_out = only_control_planes and role == Role.WORKER.value
        if name != apart and not is_left_out and not controlplanes.is_leaving(caisson):
            wanted[name] = nodepillar.told_again(context, caisson)
            pillartop.write(context.paths, context.facts.node_name, wanted[name])
    return wanted


def _tell_this_host(context: Context) -> bool:
    """Act upon it on the bootstrap node, where it was not."""
    saltcall.write_configuration(context)
    try:
        noted = context.paths.at(TOLD_FILE).read_text(encoding="ascii").strip()
    except OSError:
        noted = ""
    if noted == nodepillar.digest(saltcall.pillar(context)):
        return False
    context.ui.progress("this host to know the control planes")
    context.salt.close()  # one that has read the pillar of before
    try:
        return bool(saltcall.apply(context, STATES, local=True).changed)
    finally:
        context.salt.close()


def _await(
    context: Context, started: Mapping[str, Any], job_id: str, *, must_answer: Collection[str], limit_s: float
) -> Mapping[str, Any]:
    """Wait for the job on every node; return what each said last. A worker that is silent is named and left out."""
    deadline, said = time.monotonic() + limit_s, dict(started)
    while True:
        silent = [name for name in said if said[name] is bus.NO_ANSWER and name not in must_answer]
        for name in silent:
            context.ui.note(f"note: {name} does not answer, and was not told of the control planes")
            del said[name]
        waiting = [name for name in said if not _is_over(said[name])]
        if not waiting or time.monotonic() > deadline:
            return said
        context.ui.progress(f"{', '.join(waiting)} to know the control planes")
        time.sleep(POLL_S)
        # Until it is known to be at work it is asked for: another job may be, and twice is once.
        begun = [name for name in waiting if said[name] == job_id or isinstance(said[name], dict)]
        others = [name for name in waiting if name not in begun]
        for verb, names in (("look", begun), ("follow", others)):
            said.update(bus.ask_each(names, f"caisson_job.{verb}", job_id) if names else {})


def _judge(name: str, said: Any, job_id: str) -> None:
    """Say why a node was not told.

    Raises:
        SaltError: nothing was heard of its end, or it is gone; or what failed there.
    """
    if not isinstance(said, dict) or said["state"] != "ended":
        last = (
            said["state"] if isinstance(said, dict) else "no answer" if said is bus.NO_ANSWER else str(said)
        )
        raise SaltError(
            f"{name} was not told of the control planes",
            details=f"the job {job_id} there: {last[-500:]}",
            resolution=f"check that {name} runs and its minion answers, then run the same command again",
        )
    if said["result"]["error"] is not None:
        raise elsewhere(from_json(said["result"]["error"]), name)


def _is_over(said: Any) -> bool:
    return isinstance(said, dict) and said.get("state") in ("ended", "lost")
