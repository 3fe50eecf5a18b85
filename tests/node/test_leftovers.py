# SPDX-License-Identifier: Apache-2.0
"""The demo, killed in the middle of an installation: the next sweep leaves nothing.

``tests/soak`` has SIGKILL and SIGINT, for the demo and for a run of the node tests, later in the installation.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lab import cleanup
from lab.cleanup import Process
from lab.places import NETNS_DIR, LabPlaces
from tests.node.installing import has_begun, lab_iso

pytestmark = pytest.mark.lab

COMMANDS: Mapping[str, Callable[[], Sequence[str]]] = {
    "demo": lambda: ["lab", "demo", "--iso", str(lab_iso())],
    "test": lambda: ["pytest", "-q", "tests/node/test_bootstrap.py", "-k", "test_the_node_is_ready"],
}
PATIENCE_S = 180.0


def kill_and_look(
    repository_dir: Path, command: str, number: signal.Signals, *, phase: str, nodes: int = 1
) -> list[str]:
    """Start a command, kill it when its node1 has begun ``phase``, sweep, and name everything that is left.

    SIGINT goes to all of its process group, as Ctrl-C does; SIGKILL to the one process. A demo of several ``nodes``
    has as many by then.
    """
    cleanup.sweep()
    process = subprocess.Popen(
        [sys.executable, "-m", *COMMANDS[command](), *([f"--nodes={nodes}"] if nodes > 1 else [])],
        cwd=repository_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    name = f"p{process.pid}n1"
    try:
        is_there = cleanup.wait_until(
            lambda: process.poll() is not None or has_begun(name, "node1", phase),
            nodes * PATIENCE_S,
            poll_s=0.5,
        )
        assert is_there, f"no {phase} within {nodes * PATIENCE_S:g} s"
        assert process.poll() is None, f"{command} ended by itself with {process.returncode}"
        members = members_of(name)
        assert len(members) > 10
        seen = cleanup.loops_of(name)
        assert len({loop.identity for loop in seen}) == nodes + 1, "each disk, and the ISO"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    if number == signal.SIGKILL:
        assert cleanup.leftovers(name) != []
        swept = subprocess.run(
            [sys.executable, "-m", "lab", "clean"],
            cwd=repository_dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert name in swept.stdout
    return [
        *cleanup.leftovers(name),
        *(f"process {member.pid}" for member in members if cleanup.is_alive(member)),
        *(f"loop device {loop.device}" for loop in lost_loops(seen)),
        *lost_mounts(),
    ]


def members_of(lab: str) -> tuple[Process, ...]:
    """Return every process in the control groups of a lab."""
    pids: set[int] = set()
    for root in cleanup.control_group_roots():
        for group in root.glob(f"caisson-{lab}-*"):
            for directory, _, _ in os.walk(group):
                with contextlib.suppress(OSError):
                    pids |= {int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()}
    return tuple(process for process in map(cleanup.process_of, sorted(pids)) if process)


def lost_loops(seen: Sequence[cleanup.Loop]) -> list[cleanup.Loop]:
    """Return which of a removed lab's loop devices are still there; another lab may have a file's number by now."""
    known = {loop.identity for loop in seen}
    others = {(file.stat().st_dev, file.stat().st_ino) for lab in cleanup.labs() for file in files_of(lab)}
    return [loop for loop in cleanup.loops() if loop.identity in known - others]


def files_of(lab: str) -> list[Path]:
    """Return the disks and ISO files of a lab."""
    return [path for path in LabPlaces(lab=lab).images_dir.rglob("*") if path.is_file()]


def lost_mounts() -> list[str]:
    """Name /run/netns when it is mounted, though no lab (and nobody else) has a namespace there."""
    with cleanup.exclusive():  # not while another lab makes its first one
        is_mounted = any(mount.target == str(NETNS_DIR) for mount in cleanup.mounts())
        is_used = NETNS_DIR.is_dir() and any(NETNS_DIR.iterdir())
        return [f"mount {NETNS_DIR}"] if is_mounted and not is_used and not cleanup.labs() else []


def test_nothing_is_left_of_a_killed_run(repository_dir: Path) -> None:
    left = kill_and_look(repository_dir, "demo", signal.SIGKILL, phase="container-runtime")
    assert left == []
