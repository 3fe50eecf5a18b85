# SPDX-License-Identifier: Apache-2.0
"""Let systemd start a job, in a unit and a control group of its own: no terminal or SSH session takes it along.

The unit is a transient one: nothing of it is on the disk, and nothing of it is left once the job has ended.
Source: systemd 250 and later (EL 9.0), systemd-run(1), systemd.kill(5), systemd.service(5).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from installer.base.run import run
from installer.base.session import TERMINATION_GRACE_S, TRANSACTION_GRACE_S

TIMEOUT_S = 60.0
STOP_LIMIT_S = TRANSACTION_GRACE_S + 2 * TERMINATION_GRACE_S + 60.0
"""How long a job may take to end: it lets a transaction of rpm finish first."""
NO_LOG_FILE = Path("/dev/null")
"""Whoever follows a job asks often; the log of commands would hold nothing else."""
ACTIVE_STATES = ("active", "activating", "reloading", "deactivating")
PROPERTIES = (
    # Only the job itself is told to end, and it ends what it has started: systemd would kill an rpm in the middle.
    "KillMode=process",
    f"TimeoutStopSec={STOP_LIMIT_S:.0f}",
    # One of its commands that the kernel kills for memory has failed; the job says so.
    "OOMPolicy=continue",
    "UMask=0022",
)


def name(job_id: str, attempt: int = 1) -> str:
    """Return the unit of a job; each attempt has its own, for a killed one may have left an rpm in its control group.

    As long as that runs systemd keeps the unit, and starts no other of its name. Source: systemd, ``unit_may_gc``.

    >>> name("20261127-115003-node-add-3fa9c1")
    'caisson-job@20261127-115003-node-add-3fa9c1.service'
    >>> name("20261127-115003-node-add-3fa9c1", 2)
    'caisson-job@20261127-115003-node-add-3fa9c1.2.service'
    """
    return f"caisson-job@{job_id}{f'.{attempt}' if attempt > 1 else ''}.service"


def start(unit: str, command: Sequence[str]) -> None:
    """Start a program as a unit; return once it runs.

    Raises:
        CommandError: systemd did not start it.
        HostError: there is no systemd-run.
    """
    # One that was killed before it was written down may still be known as failed, and would stand in the way.
    run(["systemctl", "reset-failed", unit], timeout_s=TIMEOUT_S, check=False)
    run(command_line(unit, command), timeout_s=TIMEOUT_S)


def command_line(unit: str, command: Sequence[str]) -> list[str]:
    """Return what starts a program as a unit."""
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        "--service-type=exec",
        f"--unit={unit}",
        f"--description=Caisson: {unit.partition('@')[2]}",
        *(f"--property={text}" for text in PROPERTIES),
        "--",
        *command,
    ]


def is_active(unit: str) -> bool:
    """Say whether a unit is at work, or on its way there.

    Raises:
        CommandError: systemd does not answer.
    """
    words = ["systemctl", "show", "--property=ActiveState", unit]
    said = run(words, timeout_s=TIMEOUT_S, log_file=NO_LOG_FILE).stdout
    return said.strip().partition("=")[2] in ACTIVE_STATES


def stop(unit: str) -> None:
    """Tell a unit to end; do not wait for it."""
    run(["systemctl", "stop", "--no-block", unit], timeout_s=TIMEOUT_S, check=False)
