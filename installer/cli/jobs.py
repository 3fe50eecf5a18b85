# SPDX-License-Identifier: Apache-2.0
"""``caisson jobs`` and ``caisson job ID``: see what was asked of this host, follow it, end it.

A command that asks for a job calls :func:`ask_and_follow`; what its unit then starts is ``caisson job ID --run``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import UsageError, to_json
from installer.base.paths import Paths
from installer.base.session import only_looking
from installer.base.ui import format_table
from installer.cli.common import Arguments, add_common, handle_signals, need_root, print_lines, say
from installer.engine import following, jobrun, jobs
from installer.engine.jobrecord import Request
from installer.engine.jobrun import Work
from installer.engine.jobs import Job, State
from installer.operations import job_report
from installer.operations.job_report import Look


def add_commands(commands: Any, works: Mapping[str, Work]) -> None:
    """Add the commands; ``works`` says what each operation does as a job."""
    listing = commands.add_parser("jobs", help="show what was asked of this host, and how it went")
    add_common(listing, has_config=False)
    listing.set_defaults(handler=_list)

    one = commands.add_parser("job", help="show one job, follow it or end it")
    one.add_argument("id", metavar="ID", help="as 'caisson jobs' shows it; its beginning or its end will do")
    way = one.add_mutually_exclusive_group()
    way.add_argument("--follow", action="store_true", help="show what it says until it has ended")
    way.add_argument("--log", action="store_true", help="show all that it has said")
    way.add_argument(
        "--cancel", action="store_true", help="tell it to end and wait for that; give an interrupted one up"
    )
    # What the unit of a job starts; nobody types it.
    way.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    add_common(one, has_config=False)
    one.set_defaults(handler=_one, works=works)


def ask_and_follow(
    arguments: Arguments,
    request: Request,
    tree_dir: Path,
    paths: Paths,
    *,
    secrets: Mapping[str, str] | None = None,
) -> int:
    """Have a request carried out as a job and follow it; return its exit code.

    Raises:
        LockedError: another job is at work.
        StoppedError: Ctrl-C; the job goes on.
        InstallerError: what the job failed for.
    """
    handle_signals()
    job = jobrun.ask(paths, request, program(arguments, tree_dir), secrets=secrets)
    say(f"job {job.id}; Ctrl-C lets go of it, and it goes on")
    return _follow(arguments, job, tree_dir, paths)


def program(arguments: Arguments, tree_dir: Path) -> list[str]:
    """Return the command line of this installer, as its starters have it, without the words of a command."""
    start = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(tree_dir / "installer")]
    return [*start, "--program", arguments.program]


# ---- the commands ----------------------------------------------------------------------------------------


def _list(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    need_root()
    with only_looking():
        found, faults = jobs.read_all(paths)
        looks = [job_report.look(job) for job in found]
    if arguments.json:
        shown = {"jobs": [one.to_json() for one in looks], "unreadable": [to_json(fault) for fault in faults]}
        print(json.dumps({"format": 1, **shown}, indent=1))
        return 0
    print(
        "\n".join(format_table(job_report.rows(looks))) if looks else "no job was asked for on this host yet"
    )
    for fault in faults:
        print(f"\n{fault}")
    return 0


def _one(arguments: Arguments, tree_dir: Path, paths: Paths) -> int:
    need_root()
    job = find(paths, arguments.id)
    ways: tuple[tuple[bool, Callable[[Arguments, Job, Path, Paths], int]], ...] = (
        (arguments.follow, _follow),
        (arguments.log, _log),
        (arguments.cancel, _cancel),
        (arguments.run, _run),
        (True, _show),
    )
    return next(way for is_chosen, way in ways if is_chosen)(arguments, job, tree_dir, paths)


def find(paths: Paths, text: str) -> Job:
    """Return the job that is meant by the whole of its ID, its beginning or its end.

    Raises:
        UsageError: none, or more than one.
        HostError: it cannot be read.
    """
    names = sorted(directory.name for directory in paths.jobs_dir.glob("[!.]*"))
    meant = [name for name in names if text and (name.startswith(text) or name.endswith(text))]
    meant = [name for name in meant if name == text] or meant
    if len(meant) == 1:
        return jobs.read(paths.jobs_dir / meant[0])
    raise UsageError(
        f"there is no job '{text}'"
        if not meant
        else f"'{text}' is the beginning or end of {len(meant)} jobs",
        details="\n".join((meant or names)[-10:]) or "no job was asked for on this host yet",
        resolution="'caisson jobs' shows all of them",
    )


def _show(arguments: Arguments, job: Job, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    return _told(arguments, _look(job))


def _follow(arguments: Arguments, job: Job, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    following.follow(job, say if arguments.json else _print)
    found = _look(job)
    if arguments.json:
        return _told(arguments, found)
    if found.error is not None:
        raise found.error
    print(f"job {job.id}: {found.state.value}{f', {found.said}' if found.said else ''}")
    return 0


def _log(arguments: Arguments, job: Job, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    found = _look(job)
    text = job.output_file.read_text(encoding="utf-8", errors="replace") if job.output_file.exists() else ""
    print_lines(arguments, text.splitlines())
    if found.error is not None and not arguments.json:
        raise found.error
    return found.exit_code


def _cancel(arguments: Arguments, job: Job, tree_dir: Path, paths: Paths) -> int:  # noqa: ARG001  same for all
    was = _look(job).state
    state = following.cancel(job, say) if was is State.RUNNING else was
    if state is State.INTERRUPTED:
        following.give_up(paths, job)
    found = _look(job)
    if arguments.json:
        print(json.dumps({"format": 1, "job": found.to_json()}, indent=1))
    else:
        print(
            f"job {job.id}: {'had ended before, ' if was is found.state else ''}{found.state.value}, {found.said}"
        )
    return 0


def _run(arguments: Arguments, job: Job, tree_dir: Path, paths: Paths) -> int:
    """Carry the job out in this process; its unit starts this."""
    if job.result() is not None:
        say(f"job {job.id} has ended; its result stays")
        return _look(job).exit_code
    if job.process() is not None:
        raise UsageError(f"job {job.id} runs already", resolution=following.ways(job)[0])
    work: Work | None = arguments.works.get(job.operation)
    if work is None:
        raise UsageError(
            f"this caisson does not know how to carry out '{job.operation}'",
            details=f"known: {', '.join(arguments.works)}",
            resolution="start the caisson that was asked for the job",
        )
    handle_signals()
    jobrun.carry_out(job, work, paths=paths, tree_dir=tree_dir)
    return 0


# ---- small helpers ---------------------------------------------------------------------------------------


def _look(job: Job) -> Look:
    with only_looking():
        return job_report.look(jobs.read(job.directory))


def _told(arguments: Arguments, found: Look) -> int:
    """Show a job, and return the exit code of its own."""
    if arguments.json:
        print(json.dumps({"format": 1, "job": found.to_json()}, indent=1))
        return found.exit_code
    print(f"job {found.job.id}")
    tables = [found.rows(), found.phase_rows(), found.host_rows()]
    for line in (line for table in tables for line in format_table(table)):
        print(f"  {line}")
    if found.error is not None:
        raise found.error
    return 0


def _print(line: str) -> None:
    print(line, flush=True)
