# SPDX-License-Identifier: Apache-2.0
"""Remove a node from the cluster, as the work of a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from installer.base.errors import InstallerError
from installer.base.paths import Paths
from installer.base.terminal import Told
from installer.config import changes, nodes
from installer.config.nodes import NodeEntry
from installer.engine import jobkeys, pillartop, runner
from installer.engine.context import Context
from installer.engine.jobrun import Task
from installer.engine.journal import Journal
from installer.engine.ssh import Connection
from installer.operations import adding, cluster_state, leaving, node_remove, probe
from installer.operations.leaving import Leaving, LeavingContext


def work(task: Task) -> str:
    """Remove the node that the job names; return what to say of it in one line.

    Raises:
        InstallerError: it could not be removed.
    """
    said = nodes.from_data([task.job.arguments["host"]])
    with jobkeys.applied(task.paths, task.job.id, task.secrets, said) as (entries, secrets):
        return _remove(replace(task, secrets=secrets), entries[0])


def _remove(task: Task, entry: NodeEntry) -> str:
    said = task.job.arguments
    with _connected(task, entry, is_dead=bool(said["dead"])) as connected:
        node = Leaving(
            entry,
            connected,
            is_dead=bool(said["dead"]),
            is_forced=bool(said["force"]),
            drain_timeout_s=int(said["drain_timeout_s"]),
        )
        context = _context(task, node)
        task.ui.note(f"{context.product.title}: removing {entry.title}")
        outcomes = runner.run_phases(node_remove.OPERATION, node_remove.PHASES, context)
    return f"{entry.title}: {runner.describe(outcomes)}"


@contextlib.contextmanager
def _connected(
    task: Task, entry: NodeEntry, *, is_dead: bool
) -> Iterator[Connection | InstallerError | None]:
    if is_dead:
        yield None
        return
    with probe.connections([entry], paths=task.paths, terminal=Told(task.secrets)) as connected:
        found = connected[entry.title]
        if not isinstance(found, InstallerError):
            leaving.refuse_other_host(found, entry.name)
        yield found


def _context(task: Task, node: Leaving) -> LeavingContext:
    base = adding.context_of(task)
    same: dict[str, Any] = {field.name: getattr(base, field.name) for field in fields(Context)}
    journal = Journal(task.paths.journal_file, operation=node_remove.NAME, copy_file=task.job.journal_file)
    return LeavingContext(**{**same, "journal": journal}, leaving=node)


def refuse(paths: Paths, name: str, *, is_dead: bool, is_forced: bool) -> None:
    """Refuse who may not be removed, before anybody is asked anything; the job looks again.

    Raises:
        InstallerError: why not.
    """
    node = Leaving(NodeEntry("", name=name), is_dead=is_dead, is_forced=is_forced)
    nodes_there = cluster_state.get_nodes(paths.admin_kubeconfig_file)
    own_name = str(((changes.recorded(paths) or {}).get("node") or {}).get("name", ""))
    error = node_remove.refusal(node, nodes_there, pillartop.known(paths), own_name=own_name)
    if error is not None:
        raise error


def address_of(paths: Paths, name: str) -> str:
    """Return the address of a node, as it was told when it was added, or as the cluster has it; empty when neither is.

    The cluster has it from the node itself, which may have been broken into since.

    Raises:
        ClusterError: the API does not answer.
    """
    caisson = changes.read_pillar(pillartop.file_of(paths, name)) or {}
    told = str((caisson.get("node") or {}).get("control_plane_address", ""))
    if told:
        return told
    found = [
        node.address for node in cluster_state.get_nodes(paths.admin_kubeconfig_file) if node.name == name
    ]
    return found[0].split(",")[0] if found else ""
