# SPDX-License-Identifier: Apache-2.0
"""Services, and what they have read: a stamp holds the digest of the files that a service was last started with.

Salt's own ``watch`` and ``onchanges`` act in the run that changes a file, and only there: a kill in between leaves a
service that has never read it, and no later run sees that. The time at which a file was written counts too: a service
may have read what somebody else had put there, before the states wrote again what the stamp knows.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

STAMPS_DIR = "/var/lib/caisson/services"
PROPERTIES = "--property=ActiveState,UnitFileState,NeedDaemonReload"


def facts(unit: str) -> dict[str, bool]:
    """Return whether ``unit`` is active, is enabled, and has unit files that systemd has not read yet.

    Source: systemd, org.freedesktop.systemd1, NeedDaemonReload: also for drop-ins that came or went.
    """
    said = dict(line.partition("=")[::2] for line in systemctl("show", PROPERTIES, unit).splitlines())
    return {
        "is_active": said.get("ActiveState") in ("active", "reloading"),
        "is_enabled": said.get("UnitFileState") == "enabled",
        "is_stale": said.get("NeedDaemonReload") == "yes",
    }


def started_s(unit: str) -> int:
    """Return when the process of ``unit`` was started, in seconds since 1970; 0 when it does not run.

    Source: systemd 248 and later, systemctl(1), ``--timestamp=unix``.
    """
    words = ("show", "--timestamp=unix", "--property=ActiveState,ExecMainStartTimestamp", unit)
    said = dict(line.partition("=")[::2] for line in systemctl(*words).splitlines())
    found = said.get("ExecMainStartTimestamp", "").lstrip("@")
    return int(found) if said.get("ActiveState") == "active" and found.isdigit() else 0


def newer(files: list[str], moment_s: int) -> list[str]:
    """Return the files that were written after that moment."""
    return [file for file in files if os.path.exists(file) and int(os.stat(file).st_mtime) > moment_s]


def systemctl(*words: str) -> str:
    """Run systemctl; return what it printed. Raises RuntimeError with its last words."""
    command = ["systemctl", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command)}: no answer after {error.timeout:g} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def digest(files: list[str]) -> str:
    """Return the digest of the names, times and contents of ``files``; "" for none, or when the first is not there."""
    present = [file for file in files if os.path.exists(file)] if files and os.path.exists(files[0]) else []
    total = hashlib.sha256()
    for file in present:
        total.update(f"{file}\0{os.stat(file).st_mtime_ns}\0".encode())
        total.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return total.hexdigest() if present else ""


def stamp(unit: str) -> str:
    """Return the digest of what ``unit`` was last started with, or told to read; "" when that is not known."""
    try:
        return (Path(STAMPS_DIR) / unit).read_text(encoding="ascii").strip()
    except (FileNotFoundError, ValueError):
        return ""


def write_stamp(unit: str, value: str) -> None:
    """Record the digest of what ``unit`` was started with; a lost stamp costs one more start, never a missed one."""
    os.makedirs(STAMPS_DIR, mode=0o755, exist_ok=True)
    temporary = Path(STAMPS_DIR) / f".{unit}.tmp"
    temporary.write_text(value + "\n", encoding="ascii")
    temporary.rename(Path(STAMPS_DIR) / unit)
