# SPDX-License-Identifier: Apache-2.0
"""Add the hosts of a list to the cluster, as the work of a job: each by its phases; one that fails stops no other."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace

from installer.base.errors import InstallerError, StoppedError
from installer.base.terminal import Told
from installer.config import bootstrap as config
from installer.config import facts, nodes
from installer.config.nodes import NodeEntry
from installer.engine import runner
from installer.engine.jobrun import Task
from installer.engine.journal import Journal
from installer.engine.runner import Outcome
from installer.engine.ssh import Connection
from installer.media import product
from installer.operations import cluster_state, installed, joining, node_add, probe
from installer.operations.cluster_state import Member
from installer.operations.joining import Joining, NodeContext
from installer.operations.probe import Material, Probe

IDENTITY_TIMEOUT_S = 30.0

Connected = Mapping[str, "Connection | InstallerError"]


def work(task: Task) -> str:
    """Add the hosts that the job names; return what to say of it in one line.

    Raises:
        InstallerError: one could not be added; with several, the error of the first, and all of them in the details.
    """
    entries = nodes.from_data(task.job.arguments["nodes"])
    base = _context(task)
    members = cluster_state.get_members(task.paths.admin_kubeconfig_file)
    with probe.connections(entries, paths=task.paths, terminal=Told(task.secrets)) as connected:
        beside = members_beside(members, entries, connected)
        material = probe.gather_material(task.tree_dir, base.config, beside)
        found = _look_at_all(entries, connected, material, task) if len(entries) > 1 else None
        added: dict[str, Sequence[Outcome]] = {}
        errors: dict[str, InstallerError] = {}
        for entry in entries:
            node = Joining(entry, connected[entry.title], material, found)
            try:
                added[entry.title] = _add(task, replace(base, joining=node))
            except StoppedError:
                raise
            except InstallerError as exc:
                errors[entry.title] = exc
                if len(entries) > 1:
                    task.ui.note(f"{entry.title}: {exc}")
    if errors:
        raise failure(errors, len(entries))
    return summary(added)


def _context(task: Task) -> NodeContext:
    """Return the bootstrap node's part of what the phases work with.

    Raises:
        OtherBundleError: this caisson is not of the bundle that the host is installed from.
    """
    paths, found = task.paths, product.load(task.tree_dir)
    installed.refuse_other(found, paths)
    addresses = facts.read_addresses()
    loaded = config.load(paths.config_file, host_addresses=[address.address for address in addresses])
    media_dir = paths.media_dir(found.full_version)
    return NodeContext(
        config=loaded,
        facts=facts.gather(loaded, addresses),
        product=found,
        media_dir=media_dir,
        ui=task.ui,
        journal=Journal(paths.journal_file, operation=node_add.NAME),
        source_dir=media_dir,
        config_file=paths.config_file,
        paths=paths,
    )


def members_beside(
    members: Sequence[Member], entries: Sequence[NodeEntry], connected: Connected
) -> list[Member]:
    """Return the members without those that are among the hosts: a node may be added again, by itself.

    Who it is says its machine id: another machine of the same name is found by the preflights.
    """
    own = {_identity(entry, connected[entry.title]) for entry in entries}
    return [
        member for member in members if not member.machine_id or (member.name, member.machine_id) not in own
    ]


def _identity(entry: NodeEntry, host: Connection | InstallerError) -> tuple[str, str]:
    """Return the name and the machine id of a host; empty where it does not say."""
    if isinstance(host, InstallerError):
        return "", ""
    try:
        name = entry.name or host.run(["uname", "-n"], timeout_s=IDENTITY_TIMEOUT_S).stdout.strip()
        machine = host.run(["cat", "/etc/machine-id"], timeout_s=IDENTITY_TIMEOUT_S, check=False)
    except InstallerError:  # the phase 'probe' says what is wrong
        return "", ""
    return name, machine.stdout.strip()


def _look_at_all(entries: Sequence[NodeEntry], connected: Connected, material: Material, task: Task) -> Probe:
    """Look at all hosts together, before one of them is touched: also at what is between them."""
    task.ui.note(f"looking at {len(entries)} hosts")
    found = probe.probe(entries, connected, material, say=task.ui.progress, paths=task.paths)
    task.ui.table(found.table())
    return found


def _add(task: Task, context: NodeContext) -> Sequence[Outcome]:
    """Carry out the phases for one host; the journal knows them by its address."""
    entry = joining.of(context).entry
    operation = replace(node_add.OPERATION, name=f"{node_add.NAME}/{entry.address}")
    journal = Journal(task.paths.journal_file, operation=operation.name, copy_file=task.job.journal_file)
    task.ui.note(f"{context.product.title}: adding {entry.title} as {entry.role.value}")
    try:
        return runner.run_phases(operation, operation.phases, replace(context, journal=journal))
    except InstallerError:
        raise
    except Exception:
        task.ui.note(traceback.format_exc())
        raise


def failure(errors: Mapping[str, InstallerError], total: int) -> InstallerError:
    """Return the error of a list: that of its only host, or of the first with one row for each. Pure."""
    first = next(iter(errors.values()))
    if total == 1:
        return first
    rows = [f"{title}: {error.code()} {error.message}" for title, error in errors.items()]
    return type(first)(
        f"{len(errors)} of {total} hosts could not be added",
        details="\n".join(rows),
        resolution="the others are nodes; fix what is named above and run the same command again",
    )


def summary(added: Mapping[str, Sequence[Outcome]]) -> str:
    """Return what is said of hosts that were added.

    >>> summary({"node2 (10.0.0.2)": [Outcome("connect", False, 0.5)]})
    'node2 (10.0.0.2): 1 phases in 0.5 s, 0 changes'
    """
    if len(added) == 1:
        ((title, outcomes),) = added.items()
        return f"{title}: {runner.describe(outcomes)}"
    changed = sum(any(outcome.has_changed for outcome in outcomes) for outcomes in added.values())
    return f"{len(added)} hosts are nodes; {changed} changed"
