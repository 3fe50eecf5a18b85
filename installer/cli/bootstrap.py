# SPDX-License-Identifier: Apache-2.0
"""``bootstrap.sh``, or ``caisson bootstrap``: in the foreground, or with ``--detach`` as a unit; either way a job."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import InstallerError, LabBundleError, MediaError
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.ui import Ui
from installer.cli import jobs
from installer.cli.common import (
    Arguments,
    Parser,
    add_common,
    config_file,
    handle_signals,
    need_root,
    refuse_unknown_ignores,
)
from installer.config import bootstrap as config
from installer.config import changes, control_plane, facts
from installer.engine import jobrecord, leftovers, logs, pillartop, runner
from installer.engine import lock as lockfile
from installer.engine.context import Context
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Task
from installer.engine.jobs import Job
from installer.engine.journal import Journal
from installer.engine.phase import Phase
from installer.media import product
from installer.operations import bootstrap, installed, own_state, reset_plan

NAME = bootstrap.OPERATION.name


def add_command(commands: Any) -> None:
    """Add the command to those of the program."""
    parser = commands.add_parser("bootstrap", help="make this host the bootstrap node of a new cluster")
    add_common(parser)
    parser.add_argument("--accept-lab-bundle", action="store_true", help="install a bundle made for a lab")
    parser.add_argument(
        "--from",
        dest="start_from",
        default="",
        metavar="PHASE",
        help="start at this phase; all earlier ones must be finished",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="let systemd carry it out as a unit, and follow it: closing the terminal or Ctrl-C stops nothing",
    )
    parser.set_defaults(handler=_bootstrap)


def _bootstrap(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    prepared = _prepare(arguments, tree_dir, paths)
    request = _request(arguments, tree_dir, paths)
    if arguments.detach:
        return jobs.ask_and_follow(arguments, request, tree_dir, paths)
    handle_signals()
    with lockfile.hold(paths.lock_file) as lock:
        job = jobrecord.prepare(paths, request)
        lock.give(job=job.id, operation=job.operation)
        with jobrecord.carried_out(job) as outcome:
            outcomes = _run(arguments, prepared, tree_dir, paths, job)
            outcome.summary = runner.describe(outcomes)
    if arguments.json:
        print(
            json.dumps(
                {"format": 1, "phases": [vars(outcome) for outcome in outcomes], "exit_code": 0}, indent=1
            )
        )
    return 0


def work(task: Task) -> str:
    """Carry out a bootstrap that was asked for as a job: look at the configuration again, and at the host."""
    starter, *words = task.job.command
    parser = Parser()
    add_command(parser.add_subparsers())
    arguments = parser.parse_args(words, Arguments(program=Path(starter).name))
    prepared = _prepare(arguments, task.tree_dir, task.paths)
    return runner.describe(_run(arguments, prepared, task.tree_dir, task.paths, task.job))


def _request(arguments: Arguments, tree_dir: Path, paths: Paths) -> Request:
    """Return what is asked. A bootstrap is always of this host: any later one goes on with one that was cut off."""
    program = str(arguments.program)
    starter = tree_dir / program  # the media's own is in no search path
    words = ["bootstrap", "--config", str(config_file(arguments, paths).absolute())]
    words += ["--accept-lab-bundle"] if arguments.accept_lab_bundle else []
    words += ["--from", arguments.start_from] if arguments.start_from else []
    words += ["--detach"] if arguments.detach else []
    command = (str(starter) if starter.is_file() else program, *words)
    return Request(NAME, {}, command)


@dataclass(frozen=True)
class _Prepared:
    """What is known before a bootstrap touches anything."""

    product: product.Product
    config: config.Config
    facts: facts.Facts


def _prepare(arguments: Arguments, tree_dir: Path, paths: Paths) -> _Prepared:
    need_root()
    own_state.refuse_here(paths, "a bootstrap is run")
    os.umask(0o022)  # whatever the shell had: services of other users read some of what is written
    found = product.load(tree_dir)
    if found.is_lab and not arguments.accept_lab_bundle:
        raise LabBundleError(
            f"this is a lab bundle (profile {found.profile_name}): what it holds is not upstream's",
            details=found.title,
            resolution="for a test give --accept-lab-bundle; else use a bundle of the production profile",
        )
    reset_plan.refuse_begun(paths)
    installed.refuse_other(found, paths)
    file = config_file(arguments, paths)
    addresses = facts.read_addresses()
    loaded = config.load(file, host_addresses=[address.address for address in addresses])
    refuse_unknown_ignores(loaded)
    return _Prepared(found, loaded, facts.gather(loaded, addresses))


def _run(
    arguments: Arguments, prepared: _Prepared, tree_dir: Path, paths: Paths, job: Job
) -> tuple[runner.Outcome, ...]:
    """Run the phases, with the lock held, and say how it went."""
    logs.begin(paths, NAME)
    context = _context(arguments, prepared, tree_dir, paths, job)
    chosen = _choose_phases(arguments.start_from, context)
    unaware = pillartop.unaware(paths, changes.since(paths, prepared.config, prepared.facts))
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
    if unaware:
        context.ui.note(f"note: {unaware}")
    return outcomes


def _context(arguments: Arguments, prepared: _Prepared, tree_dir: Path, paths: Paths, job: Job) -> Context:
    """Return what the phases are given; what they say and their journal stand with the job too."""
    stream = sys.stderr if arguments.json else sys.stdout
    return Context(
        config=prepared.config,
        facts=prepared.facts,
        product=prepared.product,
        media_dir=paths.media_dir(prepared.product.full_version),
        ui=Ui(stream, log_file=logs.file(paths, NAME), copy_file=job.output_file),
        journal=Journal(paths.journal_file, operation=NAME, copy_file=job.journal_file),
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
