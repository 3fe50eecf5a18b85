# SPDX-License-Identifier: Apache-2.0
"""Write down what was begun and what was finished, so that it survives a power cut.

One JSON object a line: ``time`` (UTC), ``run`` (the same for all entries of one start), ``operation`` (the
bootstrap's, where it is not said), ``phase``, ``event`` (start, done, failed), and on done and failed ``changed``
and ``seconds``; ``steps``, where a phase has told what it did one after the other. Each entry is on the disk (fsync of
the file, and of its directory when it is new) before the phase goes on. A torn last line is what a power cut
leaves: it is read as "never written" and closed off by the next entry.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.base.errors import HostError
from installer.base.files import fsync_dir

START, DONE, FAILED = "start", "done", "failed"
BOOTSTRAP = "bootstrap"
"""The operation of entries that name none: 0.1.0 knew no other."""
SETTLE = "settle"
"""What a further node does to itself: the operation and its only phase, on that node."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal; ``changed`` and ``seconds`` are None at a start."""

    time: str
    run_id: str
    phase: str
    event: str
    changed: bool | None = None
    seconds: float | None = None
    operation: str = BOOTSTRAP
    steps: tuple[str, ...] = ()

    def to_line(self) -> str:
        """Return the entry as one line of JSON, with its end of line."""
        data: dict[str, Any] = {
            "time": self.time,
            "run": self.run_id,
            "operation": self.operation,
            "phase": self.phase,
            "event": self.event,
        }
        if self.changed is not None:
            data["changed"] = self.changed
        if self.seconds is not None:
            data["seconds"] = round(self.seconds, 3)
        if self.steps:
            data["steps"] = list(self.steps)
        return json.dumps(data) + "\n"


def read(file: Path) -> tuple[Entry, ...]:
    """Return the entries of the journal in order; none if there is no journal; torn lines are passed over."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise HostError(
            f"the journal {file} cannot be read: {exc.strerror}",
            resolution="check the disk and the permissions of its directory",
        ) from exc
    entries = []
    for line in content.decode("utf-8", errors="replace").splitlines():
        entry = _parse(line)
        if entry is not None:
            entries.append(entry)
    return tuple(entries)


def _parse(line: str) -> Entry | None:
    try:
        data = json.loads(line)
        return Entry(
            time=str(data["time"]),
            run_id=str(data["run"]),
            phase=str(data["phase"]),
            event=str(data["event"]),
            changed=data.get("changed"),
            seconds=data.get("seconds"),
            operation=str(data.get("operation", BOOTSTRAP)),
            steps=tuple(str(step) for step in data.get("steps", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class Journal:
    """The journal of one run of an operation: it reads what earlier runs wrote, and appends.

    What it answers is of this operation alone: a phase of the same name in another one is another phase. What it
    writes stands in ``copy_file`` too, the journal of the job: nothing is resumed by that one, so nobody waits for
    the disk.
    """

    def __init__(
        self,
        file: Path,
        *,
        operation: str = BOOTSTRAP,
        run_id: str | None = None,
        copy_file: Path | None = None,
    ) -> None:
        self.file = file
        self._copy_file = copy_file
        self.operation = operation
        self.run_id = run_id or os.urandom(6).hex()
        self._entries = list(read(file))
        self._steps: list[str] = []

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries of the operation: of earlier runs, then of this one."""
        return tuple(entry for entry in self._entries if entry.operation == self.operation)

    def has_done(self, phase: str) -> bool:
        """Say whether ``phase`` was ever finished on this host."""
        return any(entry.phase == phase and entry.event == DONE for entry in self.entries)

    def interrupted(self) -> str | None:
        """Return the phase that the last run began and did not close (a kill, a power cut), or None."""
        last = self.entries[-1] if self.entries else None
        return last.phase if last is not None and last.event == START else None

    def was_cut_since(self, phase: str) -> bool:
        """Say whether an earlier run was cut off, in any phase, since ``phase`` was last finished."""
        open_phase = ""
        is_cut = False
        for entry in self.entries:
            if entry.run_id == self.run_id:
                break
            is_cut = is_cut or (entry.event == START and bool(open_phase))
            open_phase = entry.phase if entry.event == START else ""
            if entry.phase == phase and entry.event == DONE:
                is_cut = False
        return is_cut or bool(open_phase)

    def start(self, phase: str) -> None:
        """Write that ``phase`` begins."""
        self._steps.clear()
        self._append(phase, START)

    def step(self, text: str) -> None:
        """Remember what the phase did; it is written with its end, however that is."""
        self._steps.append(text)

    def done(self, phase: str, *, changed: bool, seconds: float) -> None:
        """Write that ``phase`` is finished, and whether it changed anything; what it made is on the disk first."""
        if changed:
            os.sync()
        self._append(phase, DONE, changed=changed, seconds=seconds)

    def failed(self, phase: str, *, seconds: float) -> None:
        """Write that ``phase`` failed; what it had changed by then is not known, so it is on the disk first.

        Whoever resets the host because a phase failed leaves no torn file: the next run looks for those only after a
        run that was cut off.
        """
        os.sync()
        self._append(phase, FAILED, seconds=seconds)

    def _append(
        self, phase: str, event: str, *, changed: bool | None = None, seconds: float | None = None
    ) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        steps = () if event == START else tuple(self._steps)
        entry = Entry(stamp, self.run_id, phase, event, changed, seconds, self.operation, steps)
        try:
            _write(self.file, entry.to_line(), must_last=True)
        except OSError as exc:
            raise HostError(
                f"the journal {self.file} cannot be written: {exc.strerror}",
                details="without it an interrupted run could not be resumed",
                resolution="make room on its file system (df -h /var/lib), then run this again",
            ) from exc
        if self._copy_file is not None:
            with contextlib.suppress(OSError):
                _write(self._copy_file, entry.to_line(), must_last=False)
        self._entries.append(entry)


def _write(file: Path, line: str, *, must_last: bool) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    is_new = not file.exists()
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = "\n" + line
        data = line.encode("utf-8")
        while data:
            data = data[os.write(descriptor, data) :]
        if must_last:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new and must_last:
        fsync_dir(file.parent)
