# SPDX-License-Identifier: Apache-2.0
"""Explain codes and configuration keys, offline; the reference pages are made of the same texts."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from installer.base import errors
from installer.base.errors import InstallerError, UsageError
from installer.base.ui import format_table
from installer.checks import CHECKS
from installer.checks.between import FLEET_CHECKS, FleetCheck
from installer.checks.preflight import Check
from installer.config import bootstrap as config
from installer.engine.phase import Phase
from installer.operations import OPERATIONS

TABLE_LINE = re.compile(r"^(\d+)\s+(\w+)\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """One key of the configuration, as the schema describes it."""

    path: str
    kind: str
    is_required: bool
    default: str
    description: str


# ---- codes -----------------------------------------------------------------------------------------------


AnyCheck = Union[Check, FleetCheck]
ALL_CHECKS: Sequence[AnyCheck] = (*CHECKS, *FLEET_CHECKS)


def of_code(code: str) -> list[str]:
    """Return what a code means, as lines.

    Raises:
        UsageError: there is no such code.
    """
    wanted = code.lower()
    if wanted == "exit-codes":
        return of_exit_codes()
    for check in ALL_CHECKS:
        if check.id.lower() == wanted:
            return _of_check(check)
    named = [phase for phase in all_phases() if wanted in (phase.code.lower(), phase.name)]
    if named:
        return [line for phase in named for line in _of_phase(phase)]
    for error in error_classes():
        if error.code().lower() == wanted:
            return [
                f"{error.code()} {error.__name__}: {plain(error_meaning(error))}",
                "",
                f"What to do: {WHAT_TO_DO[error.__name__]}",
                "",
                f"The command ends with exit code {error.exit_code}.",
            ]
    known = [check.id for check in ALL_CHECKS] + [phase.code for phase in all_phases()]
    known += [error.code() for error in error_classes()]
    raise UsageError(
        f"there is nothing called '{code}'",
        details=f"codes: {', '.join(known)}",
        resolution="give one of these, the name of a phase, or exit-codes; for a key of the configuration: "
        "config explain KEY",
    )


def all_phases() -> list[Phase]:
    """Return the phases of all operations."""
    return [phase for operation in OPERATIONS for phase in operation.phases]


def _of_phase(phase: Phase) -> list[str]:
    return [
        f"{phase.code} phase {phase.name}: {phase.title}",
        "",
        *phase.explanation.splitlines(),
        "",
        f"carried out by: {phase.carried_out_by}",
        f"undo: {phase.undo}",
    ]


def of_exit_codes() -> list[str]:
    """Return the table of exit codes, for people, as lines."""
    rows = [("EXIT CODE", "CODE", "CLASS", "MEANING"), ("0", "", "", "done; for 'status': all is well")]
    rows += [
        (str(error.exit_code), error.code(), error.__name__, plain(error_meaning(error)))
        for error in error_classes()
    ]
    return [
        "A command that fails prints the code of its error first and ends with its exit code.",
        "'caisson explain CODE' says what to do about each.",
        "",
        *format_table(rows),
    ]


def plain(text: str) -> str:
    """Return a text of a docstring without its markup.

    >>> plain("a fault; ``--debug`` shows where")
    "a fault; '--debug' shows where"
    """
    return text.replace("``", "'")


def severity(check: AnyCheck) -> str:
    """Return what a check may find: "error", "warning", or either, where its function decides on each finding."""
    return "error or warning" if "severity=" in inspect.getsource(check.run) else check.severity.value


def severity_meaning(check: AnyCheck) -> str:
    """Return what a finding of it stops: the bootstrap of this host, or that another host becomes a node."""
    text = SEVERITIES[severity(check)]
    return text.replace("the bootstrap", "that host from becoming a node") if check in FLEET_CHECKS else text


def _of_check(check: AnyCheck) -> list[str]:
    return [
        f"{check.id} {check.title}",
        "",
        *check.why.splitlines(),
        "",
        f"severity: {severity(check)} ({severity_meaning(check)})",
        f"fix: {check.fix}",
        f"to accept it: overrides.ignorePreflights: [{{id: {check.id}, reason: ...}}]",
    ]


#: What to do about each class of errors, where the error itself is not at hand: it says more.
WHAT_TO_DO: Mapping[str, str] = {
    "InternalError": "run the command again with --debug, and report what it shows as a fault of Caisson.",
    "UsageError": "see 'caisson --help', or 'caisson COMMAND --help'.",
    "ConfigError": "correct each line that is named; 'caisson config explain FIELD' says what belongs there.",
    "PreflightError": "'caisson explain CODE' of each check that failed says why it matters and how to fix it; "
    "what you cannot fix you may ignore, with the reason, in overrides.ignorePreflights.",
    "LockedError": "wait for the other one, which the message names; 'ps' shows what it does.",
    "MediaError": "compare the ISO with its checksum, copy it again if it differs, mount it and start again.",
    "LabBundleError": "use an ISO of the production profile; for a test give --accept-lab-bundle.",
    "PackageError": "the last lines of dnf are in the message, all of them in /var/log/caisson/dnf; "
    "most often a package of this host conflicts with one of the ISO.",
    "CommandError": "the message has the command, ready to paste, and its last lines; see also "
    "/var/log/caisson/commands.log.",
    "SaltError": "the message names the state that failed; all of Salt's output is in /var/log/caisson/salt.log. "
    "Fix that, then run the same command again.",
    "ClusterError": "'caisson status' shows what does not run and how to look at it; then run the same command again.",
    "HostError": "become root, or install what the message names, then run the same command again.",
    "OtherBundleError": "mount the ISO that this host is installed from; /var/lib/caisson/installed.json names it.",
    "ReachError": "the message says whether nobody listens, no way leads there, or nothing answers: check the address "
    "and the port, that sshd runs on that host, and the packet filters on the way.",
    "HostKeyError": "compare the fingerprint in the message with what 'ssh-keygen -lf "
    "/etc/ssh/ssh_host_ed25519_key.pub' shows on that host's own console, and give it with --host-key. Are they "
    "different, somebody stands between both hosts.",
    "LoginError": "try the same by hand: the message has what the host answered. The user must be allowed to log in "
    "with this key or password, to run commands, and to become root by sudo.",
    "AccessError": "log in to the console again; the message names the rule that is missing, which a cluster "
    "administrator gives with 'caisson console user add NAME --role operator'",
    "DegradedError": "put the ISO back where it was; 'caisson status' names the place. Until then no image and no "
    "package can be had from it. Where a control plane that serves too has other ISOs than this host, 'caisson media "
    "replicate' copies them.",
    "UnhealthyError": "begin with the first fault of 'caisson status': those below it often follow from it.",
    "InterruptedJobError": "run the command that 'caisson job ID' shows: it goes on with the same job.",
    "StoppedError": "run the same command again: what is finished is not done twice.",
}

SEVERITIES: Mapping[str, str] = {
    "error": "stops the bootstrap, unless it is accepted",
    "warning": "is shown, stops nothing",
    "error or warning": "an error stops the bootstrap, unless it is accepted; a warning stops nothing; see above",
}


def error_classes() -> list[type[InstallerError]]:
    """Return the classes of errors, by code."""
    members = inspect.getmembers(sys.modules["installer.base.errors"], inspect.isclass)
    found = [member for _, member in members if issubclass(member, InstallerError)]
    return sorted(
        (error for error in found if error is not InstallerError), key=lambda error: error.exit_code
    )


def error_meaning(error: type[InstallerError]) -> str:
    """Return the meaning of a class, from the table of the error module."""
    for match in TABLE_LINE.finditer(inspect.getdoc(errors) or ""):
        if match.group(2) == error.__name__:
            return match.group(3)
    return (inspect.getdoc(error) or "").splitlines()[0]


# ---- keys of the configuration ---------------------------------------------------------------------------


def of_key(key: str) -> list[str]:
    """Return what a key of the configuration means and what is below it; of all of them, if it is empty.

    Raises:
        UsageError: there is no such key.
    """
    found = {field.path: field for field in fields()}
    wanted = re.sub(r"\[\d*\]", "[]", key.strip(".")).rstrip("[]")
    if not wanted:
        return [f"{field.path}: {field.description}" for field in found.values()]
    if wanted not in found:
        names = {path.rpartition(".")[2].lower(): path for path in found}
        near = difflib.get_close_matches(wanted, list(found), n=3, cutoff=0.6)
        last = wanted.rpartition(".")[2].lower()
        near += [path for name, path in names.items() if name == last and path not in near]
        raise UsageError(
            f"the configuration has no key '{key}'",
            details=f"near: {', '.join(near)}" if near else "",
            resolution="'config explain' shows all keys",
        )
    field = found[wanted]
    lines = [f"{field.path}: {field.description}", f"type: {field.kind}"]
    lines += ["required"] if field.is_required else []
    lines += [f"default: {field.default}"] if field.default else []
    below = [
        other for other in found.values() if re.match(re.escape(wanted) + r"(\[\])?\.[^.\[]+$", other.path)
    ]
    return lines + [f"  {other.path}: {other.description}" for other in below]


def need(field: Field) -> str:
    """Say whether a field must be written; one of a map that may be left out only where that map is written.

    >>> need(Field("media.x", "text", True, "", "")), need(Field("kind", "text", True, "", ""))
    ('where media is written', 'yes')
    """
    if not field.is_required:
        return ""
    found = {other.path: other for other in fields()}
    parent = field.path.rpartition(".")[0].replace("[]", "")
    optional = ""
    while parent:
        if parent not in found or not found[parent].is_required:
            optional = parent
            break
        parent = parent.rpartition(".")[0]
    return f"where {optional} is written" if optional else "yes"


def fields(schema: Mapping[str, Any] | None = None) -> list[Field]:
    """Return all keys of a schema (default: the configuration's), those of a mapping after it, in its order."""
    used = config.load_schema() if schema is None else schema
    return list(_fields(used, used, ""))


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, raw in schema.get("properties", {}).items():
        field = _resolved(raw, root)
        yield Field(
            path=f"{prefix}{name}",
            kind=_kind(field),
            is_required=name in required,
            default=str(field.get("default", "")),
            description=field.get("description", ""),
        )
        yield from _fields(field, root, f"{prefix}{name}.")
        yield from _fields(_resolved(field.get("items", {}), root), root, f"{prefix}{name}[].")


def _resolved(field: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Follow a ``$ref`` into the definitions; what stands beside it wins."""
    reference = field.get("$ref")
    if reference is None:
        return dict(field)
    return {**root["definitions"][reference.rsplit("/", 1)[1]], **field}


def _kind(field: Mapping[str, Any]) -> str:
    if "const" in field:
        return f"always '{field['const']}'"
    kind: str = field.get("type", "")
    return {"array": "list", "object": "map", "string": "text"}.get(kind, kind)
