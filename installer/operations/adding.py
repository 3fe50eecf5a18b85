# SPDX-License-Identifier: Apache-2.0
"""Add the hosts of a list to the cluster, as the work of a job: each by its phases; one that fails stops no other.

Control planes come first and one by one, for etcd takes one new member at a time, and the workers are told of them;
then the workers, three side by side. A thread a host only waits: for ssh, and for the host.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from installer.base.errors import (
    HostKeyError,
    InstallerError,
    LoginError,
    ReachError,
    StoppedError,
    from_exception,
)
from installer.base.interruption import Interruption, heard
from installer.base.terminal import Told
from installer.base.ui import Ui
from installer.config import bootstrap as config
from installer.config import facts, nodes
from installer.config.nodes import NodeEntry, Role
from installer.engine import jobkeys, runner, saltssh, ssh, torn
from installer.engine.beside import Beside
from installer.engine.jobrun import Task
from installer.engine.journal import Journal
from installer.engine.phase import Operation
from installer.engine.ssh import Connection
from installer.media import product
from installer.operations import (
    cluster_state,
    host_results,
    installed,
    node_add,
    other_nodes,
    probe,
)
from installer.operations.cluster_state import Member
from installer.operations.host_results import HostResults
from installer.operations.joining import Joining, NodeContext
from installer.operations.probe import Material, Probe

IDENTITY_TIMEOUT_S = 30.0
WORKERS_AT_ONCE = 3
IDENTITIES_AT_ONCE = 8
KEEP_OPEN_S = ssh.IDLE_S / 4

Connected = Mapping[str, "Connection | InstallerError"]
Wave = tuple[Sequence[NodeEntry], int]


@dataclass(frozen=True)
class _Addition:
    """What the threads of an addition share; ``run_id`` is that of all its journals."""

    task: Task
    context: NodeContext
    connected: Connected
    material: Material
    found: Probe | None
    results: HostResults
    errors: dict[str, InstallerError]
    interruption: Interruption
    run_id: str


def work(task: Task) -> str:
    """Add the hosts that the job names; return what to say of it in one line. One table tells how each has ended.

    Raises:
        InstallerError: one could not be added; with several, an error of the class that weighs most.
        StoppedError: the job was to end; each host says in which phase it was.
    """
    said = nodes.from_data(task.job.arguments["nodes"])
    with jobkeys.applied(task.paths, task.job.id, task.secrets, said) as (entries, secrets):
        return _add_all(replace(task, secrets=secrets), entries)


def _add_all(task: Task, entries: Sequence[NodeEntry]) -> str:
    base = context_of(task)
    results = HostResults(task.job.directory, entries)
    members = cluster_state.get_members(task.paths.admin_kubeconfig_file)
    with contextlib.ExitStack() as stack:
        with _looking(task.ui, len(entries)):
            opened = probe.connections(entries, paths=task.paths, terminal=Told(task.secrets))
            connected = stack.enter_context(opened)
            told = {name: address for name, address, _ in other_nodes.known(task.paths)}
            beside = members_beside(members, entries, connected, told=told)
            material = probe.gather_material(task.tree_dir, base.config, beside)
            found = _look_at_all(entries, connected, material, task) if len(entries) > 1 else None
        addition = _Addition(
            task, base, connected, material, found, results, {}, Interruption(), os.urandom(6).hex()
        )
        _clear_cut(addition, entries)
        stack.enter_context(_kept_open(addition))
        for wave, at_once in waves(entries):
            _add_side_by_side(addition, wave, at_once)
    task.ui.table(host_results.table(results.all))
    if addition.interruption.is_sent:
        raise stopped(results)
    if addition.errors:
        raise failure(
            {
                entry.title: addition.errors[entry.title]
                for entry in entries
                if entry.title in addition.errors
            },
            len(entries),
        )
    return summary(results)


@contextlib.contextmanager
def _looking(ui: Ui, count: int) -> Iterator[None]:
    """Tell what is waited for before the first host is touched: of several that takes longer than a moment."""
    ui.phase(
        "look", "connect to the host" if count == 1 else f"look at {count} hosts, and at what is between them"
    )
    try:
        yield
    except BaseException:
        ui.phase_end("FAILED")
        raise
    ui.phase_end("looked; nothing was changed there")


def waves(entries: Sequence[NodeEntry]) -> tuple[Wave, ...]:
    """Return who is added after whom, and how many of them at once. Pure."""
    control_planes = [entry for entry in entries if entry.role is Role.CONTROL_PLANE]
    workers = [entry for entry in entries if entry.role is not Role.CONTROL_PLANE]
    return (control_planes, 1), (workers, WORKERS_AT_ONCE)


def context_of(task: Task) -> NodeContext:
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
    members: Sequence[Member],
    entries: Sequence[NodeEntry],
    connected: Connected,
    *,
    told: Mapping[str, str],
) -> list[Member]:
    """Return the members without those that are among the hosts: a node may be added again, by itself.

    Who it is says its machine id: another machine of the same name is found by the preflights. A host can say the id of
    any node, which all nodes can read: so somebody must have named it, or it is at the address that was ``told`` to the
    node of this name. Of a member whose kubelet never said its id (an addition failed then) the address alone tells.
    """
    with ThreadPoolExecutor(IDENTITIES_AT_ONCE) as pool:
        found = list(pool.map(lambda entry: _identity(entry, connected[entry.title]), entries))
    own = {
        identity
        for entry, identity in zip(entries, found)
        if entry.name or told.get(identity[0]) == entry.address
    }
    begun = {name for entry, (name, _) in zip(entries, found) if name and told.get(name) == entry.address}
    return [
        member
        for member in members
        if not ((member.name, member.machine_id) in own if member.machine_id else member.name in begun)
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
    saltssh.begin_archive(task.paths)
    found = probe.probe(entries, connected, material, say=task.ui.progress, paths=task.paths)
    task.ui.table(found.table())
    return found


# ---- the hosts, side by side ---------------------------------------------------------------------------------


def _operation(entry: NodeEntry) -> Operation:
    """Return the addition of one host; the journal knows it by its address."""
    return replace(node_add.OPERATION, name=f"{node_add.NAME}/{entry.address}")


def _clear_cut(addition: _Addition, entries: Sequence[NodeEntry]) -> None:
    """Remove once what an interrupted run left half-written on this host: beside another's work it would be at work."""
    task = addition.task
    journals = {
        entry.title: Journal(task.paths.journal_file, operation=_operation(entry).name) for entry in entries
    }
    cut = {
        title: phase for title, journal in journals.items() if (phase := journal.interrupted()) is not None
    }
    for title, phase in cut.items():
        task.ui.note(f"{title}: the last run was interrupted in the phase '{phase}': going on")
    for file in torn.remove(task.paths, task.ui.note) if cut else ():
        task.ui.detail(f"removed what it left half-written: {file}")


@contextlib.contextmanager
def _kept_open(addition: _Addition) -> Iterator[None]:
    """Keep the connections of hosts open that wait for their turn: an idle one ends by itself (``ssh.IDLE_S``)."""
    is_over = threading.Event()

    def keep() -> None:
        while not is_over.wait(KEEP_OPEN_S):
            waiting = [
                result.address for result in addition.results.all if result.result == host_results.WAITING
            ]
            for host in addition.connected.values():
                if isinstance(host, Connection) and host.entry.address in waiting and not is_over.is_set():
                    with contextlib.suppress(InstallerError):  # its own phases say what is wrong
                        host.run(["true"], timeout_s=IDENTITY_TIMEOUT_S, as_root=False)

    thread = threading.Thread(target=keep, name="caisson-keep-open", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=IDENTITY_TIMEOUT_S)


def _add_side_by_side(addition: _Addition, entries: Sequence[NodeEntry], at_once: int) -> None:
    """Add hosts, so many at once. Ctrl-C, or the end of the job, is heard by each: it ends in order, none begins."""
    if not entries or addition.interruption.is_sent:
        return
    width = max(len(_short(entry)) for entry in entries)
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(min(at_once, len(entries)), thread_name_prefix="caisson-host") as pool:
        try:
            for entry in entries:
                own = contextvars.copy_context()
                futures.append(pool.submit(own.run, _add_one, addition, entry, width))
            wait(futures)
        except KeyboardInterrupt:
            _stop(addition, futures)
    for future in futures:
        if not future.cancelled():
            future.result()


def _stop(addition: _Addition, futures: Sequence[Future[None]]) -> None:
    """Let each host end in order, and wait for that, however often it is asked for."""
    addition.interruption.send()
    addition.task.ui.note("stopping: what runs here is ended in order; a job of a host itself goes on there")
    while True:
        try:
            for future in futures:
                future.cancel()
            wait(futures)
        except KeyboardInterrupt:
            continue
        return


def _short(entry: NodeEntry) -> str:
    return entry.name or entry.address


def _add_one(addition: _Addition, entry: NodeEntry, width: int) -> None:
    """Add one host, and write down how that has ended; what it fails for stops no other.

    Raises:
        HostError: it cannot be written down.
    """
    task, results, title = addition.task, addition.results, entry.title
    is_alone = len(results.all) == 1
    ui = task.ui if is_alone else task.ui.of(_short(entry), width=width)
    journal = Journal(
        task.paths.journal_file,
        operation=_operation(entry).name,
        run_id=addition.run_id,
        copy_file=task.job.journal_file,
    )
    node = Joining(entry, addition.connected[title], addition.material, addition.found)
    context = replace(addition.context, ui=ui, journal=journal, joining=node, beside=Beside())
    started = time.monotonic()
    try:
        with heard(addition.interruption):
            results.begin(title)
            ui.note(f"{context.product.title}: adding {title} as {entry.role.value}")
            outcomes = runner.run_phases(_operation(entry), node_add.OPERATION.phases, context, clears=False)
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001  a fault of ours with one host stops no other
        error = _error_of(exc, ui)
        addition.errors[title] = error
        phase = _open_phase(journal, addition.run_id)
        seconds = time.monotonic() - started
        results.failed(title, error, seconds=seconds, name=node.known_name, phase=phase)
        (ui.detail if is_alone else ui.note)(f"{error.code()} {error}")
    else:
        seconds = time.monotonic() - started
        results.ready(title, name=node.known_name, seconds=seconds, why=runner.describe(outcomes))
        ui.note(runner.describe(outcomes))
    finally:
        context.beside.close()


def _error_of(exc: BaseException, ui: Ui) -> InstallerError:
    if isinstance(exc, KeyboardInterrupt):
        return StoppedError("stopped before it was begun")
    if not isinstance(exc, InstallerError):
        ui.note(traceback.format_exc())
    return from_exception(exc)


def _open_phase(journal: Journal, run_id: str) -> str:
    """Return the code and name of the phase in which this run has ended; empty when it was in none."""
    entries = [entry for entry in journal.entries if entry.run_id == run_id]
    labels = {phase.name: phase.label for phase in node_add.OPERATION.phases}
    return labels[entries[-1].phase] if entries else ""


# ---- how it ended --------------------------------------------------------------------------------------------


def failure(errors: Mapping[str, InstallerError], total: int) -> InstallerError:
    """Return the error of a list: that of its only host, or of the class that weighs most. Pure.

    A key that nobody confirmed weighs most, then a login, then a way; of other classes the first in the list.
    """
    found = list(errors.values())
    if total == 1:
        return found[0]
    heaviest = (
        error for kind in (HostKeyError, LoginError, ReachError) for error in found if isinstance(error, kind)
    )
    rows = [f"{title}: {error.code()} {error.message}" for title, error in errors.items()]
    rest = "the others are nodes" if len(errors) < total else "none is a node"
    return type(next(heaviest, found[0]))(
        f"{len(errors)} of {total} hosts could not be added",
        details="\n".join(rows),
        resolution=f"{rest}; fix what is named above and run the same command again",
    )


def stopped(results: HostResults) -> StoppedError:
    """Return the error of a list that was not brought to its end."""
    ready = sum(result.result == host_results.READY for result in results.all)
    return StoppedError(
        f"stopped: {ready} of {len(results.all)} hosts are Ready",
        details="\n".join(
            f"{result.name or result.address}: {result.result}{f', {result.phase}' if result.phase else ''}"
            for result in results.all
            if result.result != host_results.READY
        ),
        resolution="run the same command again: it goes on with each",
    )


def summary(results: HostResults) -> str:
    """Return what is said in one line when all of them are nodes."""
    found = results.all
    if len(found) == 1:
        (one,) = found
        title = f"{one.name} ({one.address})" if one.name else one.address
        return f"{title}: {one.why}"
    changed = sum(not result.why.endswith(", 0 changes") for result in found)
    return f"{len(found)} hosts are nodes; {changed} changed"
