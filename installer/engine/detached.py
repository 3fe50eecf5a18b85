# SPDX-License-Identifier: Apache-2.0
"""Apply states on this node in a unit of their own: whoever asked for it may go away, and asks for the result later.

``start`` returns at once; the unit applies the states in local mode and leaves ``result.json``, on the disk before it
counts. It is asked for over the bus (``caisson_job``) or over SSH, whichever answers: both read the same file. So no
state runs under a bus that its own states may restart. The pillar and the tree lie on this node already.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from installer.base.errors import InstallerError, SaltError, UsageError, to_json
from installer.base.files import write_file
from installer.base.paths import Paths
from installer.base.run import run
from installer.engine import jobunit, leftovers, logs, saltcall, torn
from installer.engine import lock as lockfile
from installer.engine.saltworker import LOCAL_DIR, SALT_CALL

UNIT = re.compile(r"caisson-detached@(?P<id>.+)\.service")
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SLS = re.compile(r"[a-z_]+(\.[a-z_]+)*")
KEPT = 20
TAIL_BYTES = 65536
LOCK_PATIENCE_S = 60.0

Start = Callable[[str, Sequence[str]], None]
Active = Callable[[], Sequence[str]]


def directory(paths: Paths, job_id: str) -> Path:
    """Return where a job keeps what it left."""
    return paths.state_dir / "detached" / job_id


def active_units() -> list[str]:
    """Return the units of jobs that are at work, or on their way there.

    Raises:
        CommandError: systemd does not answer.
    """
    words = ["systemctl", "list-units", "--plain", "--no-legend", "--full"]
    words += [f"--state={','.join(jobunit.ACTIVE_STATES)}", "caisson-detached@*.service"]
    said = run(words, timeout_s=jobunit.TIMEOUT_S, log_file=jobunit.NO_LOG_FILE).stdout
    return [line.split()[0] for line in said.splitlines() if line.split()]


def start(
    paths: Paths,
    job_id: str,
    sls: Sequence[str],
    *,
    start_unit: Start = jobunit.start,
    active: Active = active_units,
) -> str:
    """Have the states applied; return the ID of the job that is at work then: this one, or one of before.

    One at a time: who gets another ID waits for that one and asks again. The same ID twice is one job.

    Raises:
        UsageError: the ID, or the name of a state, is none.
        CommandError, HostError: systemd did not start it.
    """
    if not ID.fullmatch(job_id) or not sls or not all(SLS.fullmatch(name) for name in sls):
        raise UsageError(
            f"'{job_id}' with {', '.join(sls) or 'no state'} is no job", resolution="report this"
        )
    for unit in active():
        found = UNIT.fullmatch(unit)
        if found is not None:
            return found["id"]
    place = directory(paths, job_id)
    if not (place / "result.json").exists():
        _tidy(place.parent)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [str(paths.command_file), "on-node", "carry-out", job_id, *sls]
        start_unit(f"caisson-detached@{job_id}.service", command)
    return job_id


def _tidy(parent: Path) -> None:
    """Remove the oldest of what jobs have left."""
    if parent.is_dir():
        for old in sorted(parent.iterdir(), key=lambda place: place.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def carry_out(paths: Paths, job_id: str, sls: Sequence[str], *, salt_call: str = SALT_CALL) -> None:
    """Apply the states in this process, which the unit has started, and leave the result."""
    said: dict[str, Any] = {"total": 0, "changed": [], "error": None}
    try:
        paths.running_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lockfile.hold(paths.lock_file, patience_s=LOCK_PATIENCE_S):
            logs.begin(paths)
            leftovers.wait(paths.running_dir, progress=lambda _: None)
            _clear_cut(paths, job_id)
            applied = _apply(paths, sls, salt_call)
        said.update(total=applied.total, changed=list(applied.changed))
    except InstallerError as exc:
        said["error"] = to_json(exc)
    write_file(directory(paths, job_id) / "result.json", json.dumps(said, indent=1) + "\n", mode=0o600)


def _clear_cut(paths: Paths, job_id: str) -> None:
    """Remove what jobs that were cut off (they have no result) have left half-written, and then what tells of them."""
    others = (place for place in directory(paths, job_id).parent.iterdir() if place.name != job_id)
    cut = [place for place in others if not (place / "result.json").exists()]
    if cut:
        torn.remove(paths)
    for place in cut:
        shutil.rmtree(place, ignore_errors=True)


def _apply(paths: Paths, sls: Sequence[str], salt_call: str) -> saltcall.Applied:
    log_file = paths.log_dir / saltcall.LOG_NAME
    options = [f"--config-dir={paths.at(LOCAL_DIR)}", "--local", "--out=json", "--log-level=quiet"]
    options += [f"--log-file={log_file}", "--log-file-level=info"]
    words = [salt_call, *options, "state.apply", ",".join(sls)]
    completed = run(words, timeout_s=saltcall.SILENCE_LIMIT_S, check=False)
    try:
        answer = json.loads(completed.stdout)["local"]
    except (ValueError, KeyError, TypeError):
        answer = (completed.stderr.strip() or completed.stdout.strip())[-2000:]
    if not isinstance(answer, dict):
        lines = answer if isinstance(answer, list) else [answer]
        raise SaltError(
            f"Salt cannot apply {', '.join(sls)}",
            details="\n".join(map(str, lines)),
            resolution=f"see {log_file} on that node",
        )
    return saltcall.evaluate(answer, sls, log_file=log_file)


def look(paths: Paths, job_id: str, *, active: Active = active_units) -> dict[str, Any]:
    """Return how a job is, as JSON data: ``running``, ``ended`` with its ``result``, or ``lost`` (power cut, kill)."""
    file = directory(paths, job_id) / "result.json"
    is_active = False
    if not file.exists():
        is_active = f"caisson-detached@{job_id}.service" in active()
    if file.exists():  # asked again: it may have ended since
        return {"state": "ended", "result": json.loads(file.read_text(encoding="utf-8")), "progress": ""}
    state = "running" if is_active else "lost"
    return {"state": state, "result": None, "progress": _progress(paths.log_dir / saltcall.LOG_NAME)}


def _progress(log_file: Path) -> str:
    """Return what Salt waits for, by its log."""
    try:
        with log_file.open("rb") as stream:
            stream.seek(max(0, log_file.stat().st_size - TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = list(saltcall.PROGRESS_LINE.finditer(text))
    return (found[-1]["state"] or found[-1]["wait"]).strip() if found else ""
