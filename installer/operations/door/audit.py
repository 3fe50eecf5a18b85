# SPDX-License-Identifier: Apache-2.0
"""Write down who logged in to the console, what was started there and what was refused: one JSON object a line.

No secret is in it: of an act its arguments are, and those hold none (``secrets`` stand beside them and are left out).
The log is opened before an act is carried out: what cannot be written down is not done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from installer.base.errors import HostError
from installer.base.files import open_private, rotate
from installer.base.paths import Paths
from installer.engine import logs
from installer.engine.jobs import stamp

HIDDEN = ("secrets", "code")
LONGEST = 256
SHOWN_BYTES = 1024 * 1024
"""So much of the end of the log is read to show its last lines."""


@dataclass
class Line:
    """One line of the log; what is not known yet is added before it is written."""

    verb: str
    client: str = ""
    who: str = ""
    groups: tuple[str, ...] = ()
    arguments: Mapping[str, Any] | None = None
    uid: int = 0
    answer: str = "ok"
    code: str = ""
    message: str = ""

    def to_line(self) -> str:
        """Return it as one line of JSON, with its end."""
        given = {key: value for key, value in (self.arguments or {}).items() if key not in HIDDEN}
        data = {
            "time": stamp(),
            "who": self.who,
            "groups": list(self.groups),
            "client": self.client,
            "uid": self.uid,
            "verb": self.verb,
            "arguments": _short(given),
            "answer": self.answer,
            "code": self.code,
            "message": self.message[:LONGEST],
        }
        return json.dumps(data) + "\n"


def _short(value: Any) -> Any:
    """Return data with no text in it that is longer than a line: who is refused may have sent anything."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[:LONGEST] + ".."
    if isinstance(value, Mapping):
        return {str(_short(str(key))): _short(inner) for key, inner in list(value.items())[:50]}
    if isinstance(value, list):
        return [_short(inner) for inner in value[:50]]
    return value


@contextlib.contextmanager
def opened(paths: Paths) -> Iterator[TextIO]:
    """Open the log, to write one line; a full one is begun again first, by one process at a time.

    Raises:
        HostError: it cannot be opened.
    """
    file = paths.audit_file
    try:
        paths.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(paths.log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rotate(file, limit_bytes=logs.LIMIT_BYTES, keep=logs.KEPT)
            output = open_private(file)
        finally:
            os.close(lock)
    except OSError as exc:
        raise HostError(
            f"{file} cannot be written: {exc.strerror}",
            details="what is done through the console must be written down",
            resolution="make room on its file system (df -h /var/log)",
        ) from exc
    with output:
        yield output


def write(output: TextIO, line: Line) -> None:
    """Write one line, whole, onto the disk.

    Raises:
        OSError: it cannot be written.
    """
    output.write(line.to_line())
    output.flush()
    os.fsync(output.fileno())


def note(paths: Paths, line: Line) -> None:
    """Write one line where nothing depends on it: a refusal stays one on a full disk."""
    with contextlib.suppress(HostError, OSError), opened(paths) as output:
        write(output, line)


def last(paths: Paths, limit: int) -> list[dict[str, Any]]:
    """Return the last lines, the oldest first; what cannot be read is passed over."""
    try:
        with paths.audit_file.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - SHOWN_BYTES))
            lines = source.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            data = json.loads(line)
            if isinstance(data, dict):
                found.append(data)
    return found[-limit:]
