# SPDX-License-Identifier: Apache-2.0
"""Start jobs, go on with them, end them, for whoever Kubernetes lets do so; each is a job as the command line's are.

What a command asks at its terminal stands in the request: a fingerprint that somebody has confirmed, and secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from installer.base.document import Document
from installer.base.errors import AccessError, UsageError
from installer.base.paths import Paths
from installer.config import bootstrap as config
from installer.config import nodes, schema
from installer.config.ports import PORTS_FILE, read_ports
from installer.engine import following, jobkeys, jobrun, jobs
from installer.engine.jobrecord import Request
from installer.engine.jobs import Job, State
from installer.operations import (
    cluster_state,
    etcd_gate,
    etcd_leave,
    leaving,
    node_add,
    node_remove,
    own_state,
    probing,
    removing,
    reporting,
    schemas,
)
from installer.operations.door import codes, reads, rights, wire
from installer.operations.door.rights import Right, User
from installer.operations.door.wire import CONFLICT, FORBIDDEN, RefusalError

RIGHTS: Mapping[str, Right] = {
    probing.NAME: Right("create", "hosts"),
    node_add.NAME: Right("create", "hosts"),
    node_remove.NAME: Right("delete", "hosts"),
    reporting.NAME: Right("create", "reports"),
}
"""What each operation needs; one that is not here is the command line's alone."""
CANCEL = Right("delete", "jobs")
OPERATIONS = {
    "probe": probing.NAME,
    "add-host": node_add.NAME,
    "remove-node": node_remove.NAME,
    "report": reporting.NAME,
}
"""How the console calls an operation -> how its jobs are called."""
OPTIONS = {key: option for key, option in nodes.OPTIONS.items() if option.startswith("--")}


@dataclass(frozen=True)
class Act:
    """What an act is carried out with; ``program`` is the command line of this installer."""

    request: wire.Request
    paths: Paths
    tree_dir: Path
    program: Sequence[str]

    @property
    def secrets(self) -> Mapping[str, str]:
        """What was typed that nobody else may see."""
        return {str(name): str(text) for name, text in self.request.arguments.get("secrets", {}).items()}


def user_of(act: Act, right: Right | None) -> User:
    """Return who asks, once Kubernetes has said that this user may; ``right`` None: nobody may.

    Raises:
        RefusalError: it is nobody, or may not.
        ClusterError: the API does not answer.
    """
    request = act.request
    if request.grant and not request.token:
        entry = codes.granted(act.paths, request.grant)
        if right != RIGHTS[reporting.NAME]:
            raise _only_report()
        return User(f"{codes.LOCAL_USER}:{entry.maker}")
    user = rights.who(act.paths, request.token)
    if right is None:
        raise _only_typed()
    rights.need(act.paths, user, right)
    return user


def right_of(act: Act) -> Right | None:
    """Return what an act needs; None where no right is enough.

    Raises:
        RefusalError: there is no such job.
    """
    given = act.request.arguments
    if act.request.verb == "start":
        return RIGHTS[OPERATIONS[str(given["operation"])]]
    if act.request.verb == "cancel":
        return CANCEL
    return RIGHTS.get(reads.find(act.paths, str(given["id"])).operation)


def carry_out(act: Act, user: User) -> Mapping[str, Any]:
    """Carry the act out for a user who may.

    Raises:
        RefusalError: it cannot be, and why.
        InstallerError: the same, in the words of the command line.
    """
    own_state.refuse_here(act.paths, "jobs are started and ended")
    return ACTS[act.request.verb](act, user)


# ---- start and again -----------------------------------------------------------------------------------------


def _start(act: Act, user: User) -> Mapping[str, Any]:
    given = act.request.arguments
    name, key = str(given["operation"]), str(given["key"])
    same = jobs.with_key(act.paths, key)
    if same is not None:  # sent twice: what was good then need not be now
        return _told(same)
    parameters = given.get("parameters") or {}
    found = schemas.load("door")
    wanted = {**found["definitions"]["parameters"][name], "definitions": found["definitions"]}
    faults = [
        f"{fault.path}: {fault.message}" for fault in schema.find_faults(Document(parameters, [], {}), wanted)
    ]
    if faults:
        raise UsageError(
            f"what was said for '{name}' has faults",
            details="\n".join(faults),
            resolution="correct all of them",
        )
    jobkeys.check(act.secrets)
    arguments, command = PREPARED[name](act, parameters)
    return _ask(act, user, OPERATIONS[name], arguments, ("caisson", *command))


def _ask(
    act: Act, user: User, operation: str, arguments: Mapping[str, Any], command: Sequence[str]
) -> Mapping[str, Any]:
    asker = {"user": user.name, "client": act.request.client}
    request = Request(operation, arguments, command, key=str(act.request.arguments["key"]), asker=asker)
    return _told(jobrun.ask(act.paths, request, act.program, secrets=act.secrets))


def _told(job: Job) -> Mapping[str, Any]:
    return {"job": job.id}


def _again(act: Act, user: User) -> Mapping[str, Any]:
    same = jobs.with_key(act.paths, str(act.request.arguments["key"]))
    if same is not None:
        return _told(same)
    job = reads.find(act.paths, str(act.request.arguments["id"]))
    state = job.state()
    if state not in (State.FAILED, State.INTERRUPTED):
        raise RefusalError(
            CONFLICT,
            UsageError(
                f"job {job.id} is {state.value}",
                details="only a job that has failed or was interrupted is started again",
                resolution=following.ways(job)[0] if state is State.RUNNING else "start a new one",
            ),
        )
    jobkeys.check(act.secrets)
    return _ask(act, user, job.operation, job.arguments, job.command)


# ---- what the commands do before they ask for a job ----------------------------------------------------------

Prepared = Callable[[Act, Mapping[str, Any]], "tuple[Mapping[str, Any], Sequence[str]]"]


def _host(act: Act, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
    """Return a host as a list of nodes has it, and as it would be typed."""
    loaded = config.load(act.paths.config_file)
    members = cluster_state.get_members(act.paths.admin_kubeconfig_file)
    control_planes = sum(member.is_control_plane for member in members)
    (entry,) = nodes.from_options(parameters, config=loaded, control_planes=control_planes).nodes
    data = nodes.to_data(entry)
    words = [entry.address]
    for key, option in OPTIONS.items():
        if key in parameters and key in data:
            words += [option, _typed(data[key])]
    words += ["--identity", "FILE"] if jobkeys.KEY in act.secrets else []
    return data, words


def _typed(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={text}" for key, text in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _prepare_probe(act: Act, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    data, words = _host(act, parameters)
    return {"host": data}, ("node", "check", *words)


def _prepare_addition(act: Act, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    data, words = _host(act, parameters)
    return {"nodes": [data]}, ("node", "add", *words)


def _prepare_removal(act: Act, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    port = next(
        port.port for port in read_ports(act.tree_dir / PORTS_FILE) if port.name == etcd_gate.CLIENT_PORT
    )
    loaded = config.load(act.paths.config_file)
    etcd_leave.refuse_without_quorum(act.paths, port)
    name, is_dead, is_forced = (parameters.get(key) for key in ("name", "dead", "force"))
    address = parameters.get("address") or removing.address_of(act.paths, str(name))
    removing.refuse(act.paths, str(name), is_dead=bool(is_dead), is_forced=bool(is_forced))
    login = {key: parameters[key] for key in ("user", "port", "hostKey") if key in parameters}
    (entry,) = nodes.from_options({**login, "address": address, "name": name}, config=loaded).nodes
    limit_s = int(parameters.get("drainTimeout", leaving.DRAIN_TIMEOUT_S))
    arguments = {"host": nodes.to_data(entry), "dead": bool(is_dead), "force": bool(is_forced)}
    words = [
        "node",
        "remove",
        str(name),
        *(["--dead"] if is_dead else []),
        *(["--force"] if is_forced else []),
    ]
    words += [] if limit_s == leaving.DRAIN_TIMEOUT_S else ["--drain-timeout", str(limit_s)]
    words += ["--address", str(address)] if "address" in parameters else []
    for key, text in login.items():
        words += [OPTIONS[key], str(text)]
    return {**arguments, "drain_timeout_s": limit_s}, words


def _prepare_report(act: Act, parameters: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    del act, parameters
    return {}, ("report",)


PREPARED: Mapping[str, Prepared] = {
    "probe": _prepare_probe,
    "add-host": _prepare_addition,
    "remove-node": _prepare_removal,
    "report": _prepare_report,
}


# ---- cancel --------------------------------------------------------------------------------------------------


def _cancel(act: Act, user: User) -> Mapping[str, Any]:
    """Tell a running job to end, without waiting for it; give an interrupted one up."""
    del user
    job = reads.find(act.paths, str(act.request.arguments["id"]))
    state = job.state()
    if state is State.RUNNING:
        following.tell_to_end(job)
    elif state is State.INTERRUPTED:
        following.give_up(act.paths, job)
    return {"job": job.id, "state": jobs.read(job.directory).state().value}


ACTS: Mapping[str, Callable[[Act, User], Mapping[str, Any]]] = {
    "start": _start,
    "again": _again,
    "cancel": _cancel,
}


def _only_report() -> RefusalError:
    error = AccessError(
        "a session that was let in without the Kubernetes API may only look, and make a report",
        resolution="log in again when the API answers; as root the command 'caisson' does all of it",
    )
    return RefusalError(FORBIDDEN, error)


def _only_typed() -> RefusalError:
    error = AccessError(
        "this job is not the console's to start",
        resolution="start it at the command line: 'caisson job ID' shows its command",
    )
    return RefusalError(FORBIDDEN, error)
