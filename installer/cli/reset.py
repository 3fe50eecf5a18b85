# SPDX-License-Identifier: Apache-2.0
"""``caisson reset``: take back all that made this host a node; without ``--yes`` only show it.

It runs in the foreground, and no job of it is kept: at its end there is no place for one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, UsageError, from_exception, to_json
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.terminal import Terminal
from installer.base.ui import Ui
from installer.cli.common import Arguments, add_common, handle_signals, need_root
from installer.config.facts import host_name
from installer.engine import leftovers, runner, traces
from installer.engine import lock as lockfile
from installer.engine.journal import Journal
from installer.media import product
from installer.operations import reset, reset_guard, reset_plan
from installer.operations.reset_plan import ResetContext

LOG_NAME = "reset.log"
JOURNAL_NAME = "reset.jsonl"


def add_command(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("reset", help="make this host what it was before it became a node")
    parser.add_argument("--yes", action="store_true", help="do it (without: only show what would be done)")
    parser.add_argument(
        "--force", action="store_true", help="also when other nodes, or the cluster, still count on this host"
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="DIRECTORY",
        help="data of yours below a directory of the cluster's that stays; may be given more than once",
    )
    # Where the bootstrap node looks for the result; nobody types it.
    parser.add_argument("--result", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    add_common(parser, has_config=False)
    parser.set_defaults(handler=_reset)


def _reset(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    try:
        code = _look_and_do(arguments, tree_dir, paths)
    except (Exception, KeyboardInterrupt) as exc:
        _leave(arguments, from_exception(exc))
        raise
    _leave(arguments, None)
    return code


def _leave(arguments: Arguments, error: InstallerError | None) -> None:
    if arguments.result is not None:
        said = {"error": None if error is None else to_json(error)}
        write_file(arguments.result, json.dumps(said) + "\n", mode=0o600, dir_mode=0o700)


def _look_and_do(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    if str(tree_dir).startswith(f"{traces.MEDIA_DIR}/"):
        raise UsageError(
            "a reset cannot be started from the media that it unmounts",
            resolution="start it as 'caisson reset', or from the ISO mounted at another place",
        )
    os.umask(0o022)
    found = product.load(tree_dir)
    reset_guard.refuse_foreign(paths)
    if not arguments.force:
        reset_guard.refuse_member(paths)
    context = _context(arguments, found, paths)
    is_known = paths.state_dir.is_dir() or paths.command_file.exists()
    planned = {} if arguments.yes and is_known else reset.look(context)
    if not is_known and not any(planned.values()):
        text = "nothing of Caisson is here: 0 changes"
        print(json.dumps({"format": 1, "changes": 0}) if arguments.json else text)
        return 0
    if not arguments.yes:
        _show(arguments, planned, context)
        if arguments.json or not _is_confirmed():
            return 0
    return _do(arguments, context)


def _context(arguments: Arguments, found: product.Product, paths: Paths) -> ResetContext:
    noted = reset_plan.with_kept(reset_plan.read(paths) or reset_plan.look(paths), arguments.keep, paths)
    archive = paths.at(noted.archive_dir)
    return ResetContext(
        paths=paths,
        ui=Ui(sys.stderr if arguments.json else sys.stdout, log_file=paths.log_dir / LOG_NAME),
        journal=Journal(archive / JOURNAL_NAME, operation=reset_plan.NAME),
        noted=noted,
        product=found,
    )


def _show(arguments: Arguments, planned: Mapping[str, list[str]], context: ResetContext) -> None:
    kept = {**context.noted.kept, **context.others}
    if arguments.json:
        print(json.dumps({"format": 1, "phases": planned, "kept": kept}, indent=1))
        return
    print(f"a reset of {host_name()} would, in this order:")
    for phase in reset.PHASES:
        for text in planned[phase.name]:
            print(f"  {phase.label}: {text}")
    _show_kept(kept)
    print("nothing was changed; to do it: caisson reset --yes")


def _show_kept(kept: Mapping[str, str]) -> None:
    print("what stays:")
    print("  /var/log/caisson: the logs, and what a reset saves")
    for place, why in kept.items():
        print(f"  {place if place.isprintable() else ascii(place)}: {why}")


def _is_confirmed() -> bool:
    terminal = Terminal()
    if not terminal.is_there:
        return False
    return terminal.ask(f"type {host_name()} to do it now: ") == host_name()


def _do(arguments: Arguments, context: ResetContext) -> int:
    paths = context.paths
    handle_signals()
    paths.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lockfile.hold(paths.lock_file):
        paths.running_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        leftovers.wait(paths.running_dir, progress=context.ui.note)
        context.ui.note(f"{context.product.title}: reset of {host_name()}")
        try:
            outcomes = runner.run_phases(reset.OPERATION, reset.PHASES, context)
        except InstallerError as exc:
            context.ui.detail(f"error: {exc}")
            raise
        finally:
            context.ui.close()
    kept = {**context.noted.kept, **context.others}
    if arguments.json:
        print(json.dumps({"format": 1, "phases": [vars(one) for one in outcomes], "kept": kept}, indent=1))
    else:
        print(runner.describe(outcomes))
        _show_kept(kept)
        print("modules of the kernel stay loaded until the next boot")
    return 0
