# SPDX-License-Identifier: Apache-2.0
"""The command line: ``bootstrap.sh`` on the media, ``caisson`` on an installed host."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NoReturn, TextIO, cast

from installer.base.errors import (
    ConfigError,
    HostError,
    InstallerError,
    LabBundleError,
    MediaError,
    PreflightError,
    UsageError,
    from_exception,
    to_json,
)
from installer.base.files import rotate, write_file
from installer.base.output import Output
from installer.base.paths import Paths
from installer.base.run import COMMANDS_LOG_FILE
from installer.base.ui import Ui, format_table
from installer.checks import CHECKS, preflight, readiness
from installer.cli import explanations, jobs
from installer.cli.common import Arguments, add_common, handle_signals, need_root, print_lines, say
from installer.config import bootstrap as config
from installer.config import changes, control_plane, facts, hosts, starter
from installer.engine import jobrecord, leftovers, runner, saltcall
from installer.engine import lock as lockfile
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task, Work
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.engine.phase import Phase
from installer.media import product
from installer.operations import bootstrap, installed, status, support

COMMANDS = ("bootstrap", "check", "status", "report", "jobs", "job", "config", "hosts", "explain")
LOG_NAME = "bootstrap.log"
ROTATED_LOG_NAMES = (LOG_NAME, COMMANDS_LOG_FILE.name, saltcall.LOG_NAME)
LOG_LIMIT_BYTES, LOGS_KEPT = 10 * 1024 * 1024, 4
TREE_DIR = Path(__file__).resolve().parents[2]


class _Parser(argparse.ArgumentParser):
    """argparse that raises our error instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, resolution=f"see '{self.prog} --help'")


def make_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog=program,
        description="Install a Kubernetes cluster from Caisson's media, on a host without internet access.",
        epilog=f"Exit codes: '{program} explain exit-codes'.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    bootstrap = commands.add_parser("bootstrap", help="make this host the bootstrap node of a new cluster")
    add_common(bootstrap)
    bootstrap.add_argument("--accept-lab-bundle", action="store_true", help="install a bundle made for a lab")
    bootstrap.add_argument(
        "--from",
        dest="start_from",
        default="",
        metavar="PHASE",
        help="start at this phase; all earlier ones must be finished",
    )
    bootstrap.add_argument(
        "--detach",
        action="store_true",
        help="let systemd carry it out as a unit, and follow it: closing the terminal or Ctrl-C stops nothing",
    )
    bootstrap.set_defaults(handler=_bootstrap)

    check = commands.add_parser("check", help="check this host and the configuration; change nothing")
    add_common(check)
    check.set_defaults(handler=_check)

    status = commands.add_parser("status", help="show how this host is, and what to do about it")
    add_common(status, has_config=False)
    status.set_defaults(handler=_status)

    archive = commands.add_parser("report", help="put what support needs into one archive, without secrets")
    archive.add_argument(
        "--output", type=Path, metavar="FILE", help="the archive (default: a name with the time, here)"
    )
    add_common(archive, has_config=False)
    archive.set_defaults(handler=_report)

    jobs.add_commands(commands, WORKS)

    configure = commands.add_parser("config", help="write or check a configuration")
    actions = configure.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="make a first configuration from this host's networks")
    init.add_argument(
        "--output", type=Path, metavar="FILE", help="write it there, mode 0600 (default: print it)"
    )
    add_common(init, has_config=False)
    init.set_defaults(handler=_config_init)
    config_check = actions.add_parser("check", help="name every fault of a configuration")
    add_common(config_check)
    config_check.set_defaults(handler=_config_check)

    config_diff = actions.add_parser("diff", help="compare a configuration with the installed one")
    add_common(config_diff)
    config_diff.set_defaults(handler=_config_diff)

    config_explain = actions.add_parser("explain", help="explain a key of the configuration")
    config_explain.add_argument(
        "key", metavar="KEY", nargs="?", help="like networks.pods.cidr (default: show all keys)"
    )
    add_common(config_explain, has_config=False)
    config_explain.set_defaults(handler=_config_explain)

    keep = commands.add_parser(
        "hosts", help="put Caisson's lines back into /etc/hosts, where something took them"
    )
    add_common(keep, has_config=False)
    keep.set_defaults(handler=_hosts)

    explain = commands.add_parser("explain", help="explain the code of a check, a phase or an error")
    explain.add_argument(
        "code", metavar="CODE", help="CSN101 (check), CSP104 or its name (phase), CSE004 (error), exit-codes"
    )
    add_common(explain, has_config=False)
    explain.set_defaults(handler=_explain)
    return parser


def main(argv: Sequence[str], *, tree_dir: Path = TREE_DIR, paths: Paths | None = None) -> int:
    """Run one command and return its exit code; every error is shown, none leaves as a traceback.

    The code says what the command found or did, whether or not somebody still reads what it says.
    """
    out, err = Output(sys.stdout), Output(sys.stderr)
    with redirect_stdout(cast("TextIO", out)), redirect_stderr(cast("TextIO", err)):
        try:
            exit_code = _run(argv, tree_dir, paths or Paths())
        finally:
            out.flush()
            err.flush()
        if exit_code == 0 and out.fault:
            error = HostError(
                f"the output cannot be written: {out.fault}",
                details="the command itself ended well",
                resolution="write it to another place",
            )
            _show(error, wants_json=False)
            err.flush()
            return error.exit_code
    return exit_code


def _run(argv: Sequence[str], tree_dir: Path, paths: Paths) -> int:
    program, words = _split_program(argv)
    wants_json, wants_traceback = "--json" in words, "--debug" in words
    try:
        arguments = make_parser(program).parse_args(words, Arguments(program=program))
        handler: Callable[[Arguments, Path, Paths], int] = arguments.handler
        return handler(arguments, tree_dir, paths)
    except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001  the last resort: a fault of ours is shown, too
        error = from_exception(exc)
    if wants_traceback:
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    _show(error, wants_json=wants_json)
    return error.exit_code


def _split_program(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name that the user started, and the words after it; the media's own starts a bootstrap.

    >>> _split_program(["--program", "bootstrap.sh", "--config", "x.yaml"])
    ('bootstrap.sh', ['bootstrap', '--config', 'x.yaml'])
    >>> _split_program(["status"])
    ('caisson', ['status'])
    """
    words = list(argv)
    program = "caisson"
    if words[:1] == ["--program"] and len(words) > 1:
        program, words = words[1], words[2:]
    if program == "bootstrap.sh" and (not words or words[0] not in (*COMMANDS, "-h", "--help")):
        words = ["bootstrap", *words]
    return program, words or ["--help"]


def _show(error: InstallerError, *, wants_json: bool) -> None:
    print(f"error: {error.code()} {error}", file=sys.stderr)
    if wants_json:
        print(json.dumps({"format": 1, "error": to_json(error)}, indent=1))


# ---- the commands ----------------------------------------------------------------------------------------


def _bootstrap(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    prepared = _prepare_bootstrap(arguments, tree_dir, paths)
    request = _bootstrap_request(arguments, tree_dir, paths)
    if arguments.detach:
        return jobs.ask_and_follow(arguments, request, tree_dir, paths)
    handle_signals()
    with lockfile.hold(paths.lock_file) as lock:
        job = jobrecord.prepare(paths, request)
        lock.give(job=job.id, operation=job.operation)
        with jobrecord.carried_out(job) as outcome:
            outcomes = _run_bootstrap(arguments, prepared, tree_dir, paths, job)
            outcome.summary = runner.describe(outcomes)
    if arguments.json:
        print(
            json.dumps(
                {"format": 1, "phases": [vars(outcome) for outcome in outcomes], "exit_code": 0}, indent=1
            )
        )
    return 0


def _bootstrap_of_job(task: Task) -> str:
    """Carry out a bootstrap that was asked for as a job: look at the configuration again, and at the host."""
    starter, *words = task.job.command
    program = Path(starter).name
    arguments = make_parser(program).parse_args(words, Arguments(program=program))
    prepared = _prepare_bootstrap(arguments, task.tree_dir, task.paths)
    return runner.describe(_run_bootstrap(arguments, prepared, task.tree_dir, task.paths, task.job))


WORKS: dict[str, Work] = {bootstrap.OPERATION.name: _bootstrap_of_job}
"""What each operation does as a job of its own unit."""


def _bootstrap_request(arguments: Arguments, tree_dir: Path, paths: Paths) -> Request:
    """Return what is asked. A bootstrap is always of this host: any later one goes on with one that was cut off."""
    program = str(arguments.program)
    starter = tree_dir / program  # the media's own is in no search path
    words = ["bootstrap", "--config", str(_config_file(arguments, paths).absolute())]
    words += ["--accept-lab-bundle"] if arguments.accept_lab_bundle else []
    words += ["--from", arguments.start_from] if arguments.start_from else []
    words += ["--detach"] if arguments.detach else []
    command = (str(starter) if starter.is_file() else program, *words)
    return Request(bootstrap.OPERATION.name, {}, command)


@dataclass(frozen=True)
class _Prepared:
    """What is known before a bootstrap touches anything."""

    product: product.Product
    config: config.Config
    facts: facts.Facts


def _prepare_bootstrap(arguments: Arguments, tree_dir: Path, paths: Paths) -> _Prepared:
    need_root()
    os.umask(0o022)  # whatever the shell had: services of other users read some of what is written
    found = product.load(tree_dir)
    if found.is_lab and not arguments.accept_lab_bundle:
        raise LabBundleError(
            f"this is a lab bundle (profile {found.profile_name}): what it holds is not upstream's",
            details=found.title,
            resolution="for a test give --accept-lab-bundle; else use a bundle of the production profile",
        )
    installed.refuse_other(found, paths)
    file = _config_file(arguments, paths)
    addresses = facts.read_addresses()
    loaded = config.load(file, host_addresses=[address.address for address in addresses])
    _refuse_unknown_ignores(loaded)
    return _Prepared(found, loaded, facts.gather(loaded, addresses))


def _run_bootstrap(
    arguments: Arguments, prepared: _Prepared, tree_dir: Path, paths: Paths, job: Job
) -> tuple[runner.Outcome, ...]:
    """Run the phases, with the lock held, and say how it went."""
    paths.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ROTATED_LOG_NAMES:
        rotate(paths.log_dir / name, limit_bytes=LOG_LIMIT_BYTES, keep=LOGS_KEPT)
    context = _bootstrap_context(arguments, prepared, tree_dir, paths, job)
    chosen = _choose_phases(arguments.start_from, context)
    write_file(paths.config_file, prepared.config.text, mode=0o600, dir_mode=0o700)
    try:
        outcomes = runner.run_phases(bootstrap.OPERATION, chosen, context)
    except InstallerError as exc:
        context.ui.detail(f"error: {exc}")
        raise
    except Exception:
        context.ui.detail(traceback.format_exc())
        raise
    finally:
        context.beside.close()
        context.salt.close()
        context.ui.close()
    context.ui.note(runner.describe(outcomes))
    return outcomes


def _bootstrap_context(
    arguments: Arguments, prepared: _Prepared, tree_dir: Path, paths: Paths, job: Job
) -> Context:
    """Return what the phases are given; what they say and their journal stand with the job too."""
    stream = sys.stderr if arguments.json else sys.stdout
    return Context(
        config=prepared.config,
        facts=prepared.facts,
        product=prepared.product,
        media_dir=paths.media_dir(prepared.product.full_version),
        ui=Ui(stream, log_file=paths.log_dir / LOG_NAME, copy_file=job.output_file),
        journal=Journal(paths.journal_file, operation=bootstrap.OPERATION.name, copy_file=job.journal_file),
        source_dir=_source_dir(tree_dir, prepared.product, paths),
        config_file=paths.config_file,
        paths=paths,
    )


def _choose_phases(start_from: str, context: Context) -> Sequence[Phase]:
    """Return the phases to run, once nothing of an earlier run goes on and what is asked for fits what is there."""
    paths, loaded, gathered = context.paths, context.config, context.facts
    paths.running_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    leftovers.wait(paths.running_dir, progress=context.ui.note)
    changes.check(paths, loaded, gathered)
    control_plane.check(paths, loaded, gathered, context.product.versions["kubernetes"])
    chosen = runner.select(bootstrap.OPERATION, start_from, context)
    context.ui.note(
        f"{context.product.title}: bootstrap of {gathered.node_name} ({gathered.control_plane_address})"
    )
    for text in loaded.notes:
        context.ui.note(f"note: {text}")
    return chosen


def _check(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    file = _config_file(arguments, paths) if arguments.config or paths.config_file.is_file() else None
    found = readiness.assess(tree_dir, file, paths=paths)
    if arguments.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        for line in format_table(found.rows()) if len(found.rows()) > 1 else ():
            print(line)
        print(f"{len(found.results)} checks: {found.summary}")
    return PreflightError.exit_code if found.failed else 0


def _status(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    found = product.load(tree_dir)
    state = status.gather_state(found, paths)
    error = state.error()
    if arguments.json:
        print(json.dumps(state.to_json(found), indent=1))
        return 0 if error is None else error.exit_code
    for title, rows in state.tables(found):
        print(title)
        for line in format_table(rows):
            print(f"  {line}")
    if error is not None:
        raise error
    return 0


def _report(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    archive: Path = arguments.output or Path(support.default_name(facts.host_name()))
    try:
        found = product.load(tree_dir)
        names = support.make_archive(found, paths, tree_dir, archive, progress=say)
    except OSError as exc:
        raise HostError(
            f"{archive} cannot be written: {exc.strerror}", resolution="give another --output FILE"
        ) from exc
    lines = [
        f"{archive}: {len(names)} files, without keys, tokens and passwords; look at it before you pass it on"
    ]
    print_lines(arguments, lines)
    return 0


def _config_init(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    text = starter.render(
        facts.read_addresses(), facts.host_name(), default_interface=facts.read_default_interface()
    )
    if arguments.output is None:
        print_lines(arguments, text.splitlines())
        return 0
    file: Path = arguments.output
    if file.exists() and file.read_text(encoding="utf-8", errors="replace") != text:
        raise UsageError(
            f"{file} is there already", resolution="give another --output FILE, or remove it yourself"
        )
    write_file(file, text, mode=0o600, dir_mode=0o700)
    print_lines(
        arguments, [f"{file}: read it, change it, then: {arguments.program} config check --config {file}"]
    )
    return 0


def _config_check(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    file = _config_file(arguments, paths)
    addresses = facts.read_addresses()
    loaded = config.load(file, host_addresses=[address.address for address in addresses])
    _refuse_unknown_ignores(loaded)
    gathered = facts.gather(loaded, addresses)
    if arguments.json:
        shown = {"format": 1, "file": str(file), "facts": vars(gathered), "notes": list(loaded.notes)}
        print(json.dumps(shown, indent=1))
    else:
        print(f"{file} is good")
        rows = [(key.replace("_", " "), _text(value)) for key, value in vars(gathered).items()]
        print("\n".join(f"  {line}" for line in format_table(rows)))
        for note in loaded.notes:
            print(f"note: {note}")
    return 0


def _config_diff(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    file = _config_file(arguments, paths)
    addresses = facts.read_addresses()
    loaded = config.load(file, host_addresses=[address.address for address in addresses])
    gathered = facts.gather(loaded, addresses)
    installed = changes.installed(paths)
    if installed is None:
        raise HostError(
            "there is no control plane on this host yet, so nothing to compare with",
            resolution=f"'{arguments.program} config check' checks a configuration before the installation",
        )
    found = changes.compare(installed, changes.values(loaded, gathered))
    is_refused = any(change.verdict.startswith("refused") for change in found)
    if arguments.json:
        shown = [{**vars(change), "verdict": change.verdict} for change in found]
        print(json.dumps({"format": 1, "file": str(file), "fields": shown}, indent=1))
    else:
        rows = [(change.key, change.old, change.new, change.verdict) for change in found]
        print("\n".join(format_table([("FIELD", "INSTALLED", file.name, "THE NEXT RUN"), *rows])))
    return ConfigError.exit_code if is_refused else 0


def _config_explain(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    print_lines(arguments, explanations.of_key(arguments.key or ""))
    return 0


def _hosts(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    has_changed = hosts.keep(paths)
    if arguments.json:
        print(json.dumps({"format": 1, "changed": has_changed}))
    elif has_changed:
        print(f"{paths.hosts_file}: Caisson's lines were not as noted in {paths.names_file}, and are again")
    return 0


def _explain(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    print_lines(arguments, explanations.of_code(arguments.code))
    return 0


# ---- small helpers ---------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _config_file(arguments: Arguments, paths: Paths) -> Path:
    given: Path | None = arguments.config
    return given if given is not None else paths.config_file


def _source_dir(tree_dir: Path, found: product.Product, paths: Paths) -> Path:
    """Return the media that this run works from: the tree itself, or the mounted media when this is the copy.

    Raises:
        MediaError: the copy was started and the media is not mounted.
    """
    if (tree_dir / "SHA256SUMS").is_file():
        return tree_dir
    media_dir = paths.media_dir(found.full_version)
    if not (media_dir / product.FILE_NAME).is_file():
        raise MediaError(
            f"the media of {found.title} is not mounted at {media_dir}",
            details="a bootstrap needs its packages and images",
            resolution="mount the ISO anywhere and start its bootstrap.sh",
        )
    return media_dir


def _refuse_unknown_ignores(loaded: config.Config) -> None:
    """Refuse codes that look like ours and are not: they would ignore nothing.

    Raises:
        ConfigError: there is one.
    """
    known = [check.id for check in CHECKS]
    unknown = [name for name in loaded.overrides.ignored if preflight.is_own_code(name) and name not in known]
    if unknown:
        raise ConfigError(
            f"overrides.ignorePreflights: there is no check {', '.join(unknown)}",
            details=f"checks: {', '.join(known)}",
            resolution="see 'bootstrap.sh check' for the codes; kubeadm's names do not begin with CSN",
        )
