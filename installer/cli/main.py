# SPDX-License-Identifier: Apache-2.0
"""The command line: ``bootstrap.sh`` on the media, ``caisson`` on an installed host."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Callable, TextIO, cast

from installer.base.errors import (
    ConfigError,
    HostError,
    InstallerError,
    PreflightError,
    UsageError,
    from_exception,
    to_json,
)
from installer.base.files import write_file
from installer.base.output import Output
from installer.base.paths import Paths
from installer.base.ui import format_table, visible
from installer.checks import readiness
from installer.cli import (
    bootstrap,
    certificates,
    console,
    door,
    explanations,
    images,
    jobs,
    media,
    nodes,
    on_node,
    reset,
    vip,
)
from installer.cli.common import (
    Arguments,
    Parser,
    add_common,
    config_file,
    need_root,
    print_lines,
    refuse_unknown_ignores,
    say,
)
from installer.config import bootstrap as config
from installer.config import changes, facts, hosts, starter
from installer.engine import pillartop
from installer.engine.jobrun import Task, Work
from installer.media import product
from installer.operations import (
    media_certificate,
    node_add,
    node_checks,
    node_remove,
    own_state,
    probing,
    removing,
    replicating,
    reporting,
    status,
    support,
)

HOSTS_SETTLE_S = 1.0
COMMANDS = (
    "bootstrap",
    "check",
    "status",
    "report",
    "jobs",
    "job",
    "config",
    "hosts",
    "node",
    "images",
    "media",
    "certificates",
    "reset",
    "vip",
    "console",
    "explain",
)
TREE_DIR = Path(__file__).resolve().parents[2]


def _renewing(work: Work) -> Work:
    """Return a work before which nginx' certificate is looked at: whatever is done on a host keeps it good."""

    def keep(task: Task) -> str:
        media_certificate.keep_quietly(task.paths, task.tree_dir, say=task.ui.note)
        return work(task)

    return keep


WORKS: dict[str, Work] = {
    bootstrap.NAME: bootstrap.work,  # its own states renew it
    node_add.NAME: _renewing(replicating.add),
    node_remove.NAME: _renewing(removing.work),
    replicating.NAME: _renewing(replicating.work),
    probing.NAME: _renewing(probing.work),
    reporting.NAME: reporting.work,
}
"""What each operation does as a job of its own unit."""


def make_parser(program: str) -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog=program,
        description="Install a Kubernetes cluster from Caisson's media, on a host without internet access.",
        epilog=f"Exit codes: '{program} explain exit-codes'.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    bootstrap.add_command(commands)

    check = commands.add_parser("check", help="check this host and the configuration; change nothing")
    check.add_argument(
        "--node",
        metavar="NAME",
        default="",
        help="check one further node only, over the bus (default: all of them, too)",
    )
    add_common(check)
    check.set_defaults(handler=_check)

    status = commands.add_parser("status", help="show how this host is, and what to do about it")
    status.add_argument("--node", metavar="NAME", default="", help="show one further node, and more of it")
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

    nodes.add_commands(commands)
    images.add_commands(commands)
    media.add_commands(commands)
    certificates.add_commands(commands)
    vip.add_command(commands)
    console.add_command(commands)
    on_node.add_command(commands)
    door.add_command(commands)
    reset.add_command(commands)

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
    print("\n".join(map(visible, f"error: {error.code()} {error}".split("\n"))), file=sys.stderr)
    if wants_json:
        print(json.dumps({"format": 1, "error": to_json(error)}, indent=1))


# ---- the commands ----------------------------------------------------------------------------------------


def _check(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    if arguments.node:
        need_root()
        own_state.refuse_here(paths, "other nodes are checked")
    file = _config_to_check(arguments, paths)
    report = None if arguments.node else readiness.assess(tree_dir, file, paths=paths)
    nodes = _check_nodes(arguments, tree_dir, paths, file)
    has_failed = (report is not None and bool(report.failed)) or any(node.has_failed for node in nodes or ())
    if arguments.json:
        shown = {"format": 1} if report is None else report.to_json()
        looked_at = {} if nodes is None else {"nodes": [node.to_json() for node in nodes]}
        print(json.dumps({**shown, **looked_at}, indent=1))
        return PreflightError.exit_code if has_failed else 0
    if report is not None:
        for line in format_table(report.rows()) if len(report.rows()) > 1 else ():
            print(line)
        print(f"{len(report.results)} checks: {report.summary}")
    for line in format_table(node_checks.table(nodes)) if nodes else ():
        print(line)
    return PreflightError.exit_code if has_failed else 0


def _config_to_check(arguments: Arguments, paths: Paths) -> Path | None:
    """Return the configuration; None before there is one, or where this user may not even look for it."""
    if arguments.config or arguments.node:
        return config_file(arguments, paths)
    try:
        return paths.config_file if paths.config_file.is_file() else None
    except PermissionError:
        say(f"note: {paths.config_file} is for root only: without it what needs it is skipped")
        return None


def _check_nodes(
    arguments: Arguments, tree_dir: Path, paths: Paths, file: Path | None
) -> tuple[node_checks.NodeCheck, ...] | None:
    """Check the further nodes that this host's cluster has; None where they are not looked at, which is said."""
    if os.geteuid() != 0:
        if _is_installed(paths):
            say("note: further nodes, if there are some, are not checked: that must be run as root")
        return None
    wanted = node_checks.names(paths, arguments.node)
    if wanted and file is None:
        say(f"note: not checked, for there is no {paths.config_file}: {', '.join(wanted)}")
        return None
    if not wanted or file is None:
        return ()
    loaded = config.load(file)
    say(f"the checks of {', '.join(wanted)}; at most {node_checks.LIMIT_S:g} s")
    return node_checks.check(tree_dir, loaded, wanted, say=say)


def _is_installed(paths: Paths) -> bool:
    """Say whether Caisson was at work on this host, as far as this user may see: what it writes is root's."""
    try:
        return paths.pillar_dir.exists()
    except PermissionError:
        return True


def _status(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    found = product.load(tree_dir)
    state: status.State | status.NodeLook | own_state.OwnState
    if arguments.node:
        own_state.refuse_here(paths, "other nodes are asked for")
        state = status.gather_node(arguments.node, paths, progress=say)
    elif own_state.is_further_node(paths):
        state = own_state.gather(paths, tree_dir=tree_dir)
    else:
        state = status.gather_state(found, paths, progress=say)
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
    file = config_file(arguments, paths)
    addresses = facts.read_addresses()
    loaded = config.load(file, host_addresses=[address.address for address in addresses])
    refuse_unknown_ignores(loaded)
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
    own_state.refuse_here(paths, "the configuration of the cluster is compared")
    file = config_file(arguments, paths)
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
        applied = [change.key for change in found if change.verdict == "applied"]
        if unaware := pillartop.unaware(paths, applied):
            print(f"note: {unaware}")
    return ConfigError.exit_code if is_refused else 0


def _config_explain(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    print_lines(arguments, explanations.of_key(arguments.key or ""))
    return 0


def _hosts(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    has_changed = False
    # systemd does not see what becomes of the file while the service that puts it right still runs.
    while hosts.keep(paths):
        has_changed = True
        time.sleep(HOSTS_SETTLE_S)
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
