# SPDX-License-Identifier: Apache-2.0
"""Take the media off and, last of all, Caisson itself: whatever is cut before that is gone on with by the same command.

What tells how the node was is kept with the logs: its configuration, its journal, its jobs. The very last step is a
script of three lines in the place of ``/usr/bin/caisson``, so that even when that is cut, the same command ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from installer.base import files
from installer.base.errors import HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.engine import traces
from installer.operations import reset_files, reset_plan
from installer.operations.reset_plan import Action, ResetContext

LIMIT_S = 120.0
MARK = b"# Written by Caisson."
SAVED_NAMES = ("journal.jsonl", "installed.json", "packages.json", "before.json")
LAST_STEP = """#!/bin/bash
# Written by Caisson: the last step of a reset. It removes this program, and ends with itself.
set -euo pipefail
main() {{
  rm -rf --one-file-system {program}
  rm -f {command}
}}
main "$@"
"""


def plan_media(context: ResetContext) -> Sequence[Action]:
    """Unmount the media and remove its unit; the ISO itself stays where it lies."""
    paths = context.paths
    units = [file for file in sorted(paths.units_dir.glob(traces.MEDIA_UNITS)) if _is_own(file)]
    actions = [
        Action(f"unmount the media and remove {file.name}", partial(_remove_unit, file)) for file in units
    ]
    if any(_places(paths)):
        actions.append(Action(f"remove {traces.MEDIA_DIR}", partial(_remove_places, paths)))
    return actions


def _is_own(file: Path) -> bool:
    try:
        return file.read_bytes().startswith(MARK)
    except OSError:
        return False


def _remove_unit(file: Path) -> None:
    run(["systemctl", "disable", "--now", file.name], timeout_s=LIMIT_S, check=False)
    where = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("Where=")]
    place = Path(where[0].partition("=")[2]) if where else Path(traces.MEDIA_DIR)
    if place.is_mount():
        raise HostError(
            f"the media at {place} is in use",
            resolution=f"see 'fuser -vm {place}'; end that, then run the same command again",
        )
    file.unlink()
    run(["systemctl", "daemon-reload"], timeout_s=LIMIT_S)


def _places(paths: Paths) -> list[Path]:
    directory = paths.at(traces.MEDIA_DIR)
    below = sorted(directory.iterdir()) if directory.is_dir() and not directory.is_symlink() else []
    return [place for place in (*below, directory) if place.is_dir() and not place.is_mount()]


def _remove_places(paths: Paths) -> None:
    for place in _places(paths):
        if not any(place.iterdir()):
            place.rmdir()


# ---- Caisson itself --------------------------------------------------------------------------------------------


def plan_self(context: ResetContext) -> Sequence[Action]:
    """Remove what Caisson knows of this host, and then itself; its logs stay, and what tells how the node was."""
    paths = context.paths
    actions = []
    if any(_saved(paths)):
        archive = context.noted.archive_dir
        actions.append(Action(f"save configuration, journal and jobs in {archive}", lambda: _save(context)))
    there = [
        name for name in (traces.CONFIG_DIR, traces.CACHE_DIR, *traces.RUN_DIRS) if paths.at(name).exists()
    ]
    actions += [Action(f"delete {name}", partial(reset_files.delete, context, name)) for name in there]
    if _state_left(context):
        actions.append(Action(f"delete {traces.STATE_DIR}", lambda: _delete_state(context)))
    if paths.at(traces.PROGRAM_DIR).exists() or paths.command_file.exists():
        actions.append(
            Action(f"delete {traces.PROGRAM_DIR} and {paths.command_file}", lambda: _delete_program(paths))
        )
    return actions


def _saved(paths: Paths) -> list[Path]:
    jobs = sorted(file for file in paths.jobs_dir.rglob("*") if file.is_file())
    named = [paths.config_file, *(paths.state_dir / name for name in SAVED_NAMES)]
    return [*(file for file in named if file.is_file()), *jobs]


def _save(context: ResetContext) -> None:
    archive = reset_files.make_archive(context)
    for file in _saved(context.paths):
        target = archive / file.relative_to(context.paths.root)
        files.write_file(target, file.read_bytes(), mode=0o600, dir_mode=0o700)


def _state_left(context: ResetContext) -> bool:
    state = context.paths.state_dir
    return state.is_dir() and any(place not in context.kept() for place in state.iterdir())


def _delete_state(context: ResetContext) -> None:
    """Delete the state, the note of this reset at the very end of it: that says what is kept."""
    state = context.paths.state_dir
    note = state / reset_plan.NOTE_NAME
    for place in sorted(state.iterdir()):
        if place != note:
            reset_files.delete(context, f"/{place.relative_to(context.paths.root)}")
    note.unlink(missing_ok=True)
    if not any(state.iterdir()):
        state.rmdir()


def last_step(paths: Paths) -> str:
    """Return the text of the script that removes the program."""
    return LAST_STEP.format(program=paths.at(traces.PROGRAM_DIR), command=paths.command_file)


def _delete_program(paths: Paths) -> None:
    files.write_file(paths.command_file, last_step(paths), mode=0o755)
    run(["bash", paths.command_file], timeout_s=LIMIT_S)
