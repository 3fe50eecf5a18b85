# SPDX-License-Identifier: Apache-2.0
"""Ask Salt whether the minion of this host answers its master."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from installer.base.errors import CommandError, HostError
from installer.base.run import run
from installer.operations import bus, containers
from installer.operations.asking import COMMAND_LIMIT_S, Deadline, Fault

PING_TIMEOUT_S = 2
BUSY_LOAD = 2.0
"""Processes that wait for each processor: a minion starts one for each order, and answers late on such a host."""
STARTING_S = 120.0
"""A minion that began before its master, as at a boot, tries again every few seconds."""
FIX = f"see: journalctl -u salt-minion -n 50; and: {containers.log('salt-master')}; then: systemctl restart salt-minion"


@dataclass(frozen=True)
class SaltState:
    """Whether the minion of this host answers its master; ``shown`` is for people."""

    shown: str
    faults: tuple[Fault, ...] = ()


def ask_salt(address: str, ports: Mapping[str, int], minion: str) -> SaltState:
    """Let the master ping the minion of this host, the way that every order to it goes.

    A ping that was not over in time, or that nobody answered on a busy host, is shown and not judged: Salt takes its
    time there. That the master accepts connections is asked first. All of it has one bound.
    """
    deadline = Deadline(COMMAND_LIMIT_S)
    for port in (ports["salt-publish"], ports["salt-return"]):
        try:
            socket.create_connection((address, port), timeout=deadline.left_s / 2).close()
        except OSError as exc:
            text = f"the salt-master does not accept connections at {address}:{port}: {exc}"
            return _judged(text, deadline)
    try:
        found = bus.ask_all([minion], "test.ping", timeout_s=PING_TIMEOUT_S, limit_s=deadline.left_s)
    except (CommandError, HostError) as exc:
        return SaltState(f"not known: {exc.message}")
    if found is None:
        return _judged("the container of the salt-master does not run", deadline)
    if found.get(minion) is True:
        return SaltState(f"{minion} answers its master")
    text = f"the salt-minion {minion} does not answer its master"
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > BUSY_LOAD:
        return SaltState(f"{text} (the host is busy: load {load:.1f} a CPU)")
    return _judged(text, deadline)


def _judged(text: str, deadline: Deadline) -> SaltState:
    """Return the state of a Salt that does not answer: a fault, unless the minion has only just started."""
    if _is_starting(deadline):
        return SaltState(f"{text} (salt-minion started less than {STARTING_S:g} s ago)")
    return SaltState(text, (Fault(text, FIX),))


def _is_starting(deadline: Deadline) -> bool:
    """Say whether the minion became active just now.

    Source: systemd, org.freedesktop.systemd1: ActiveEnterTimestampMonotonic, microseconds of CLOCK_MONOTONIC.
    """
    command = [
        "systemctl",
        "show",
        "--value",
        "--property=ActiveEnterTimestampMonotonic",
        "salt-minion.service",
    ]
    try:
        shown = run(command, timeout_s=deadline.left_s, check=False).stdout.strip()
        return 0 < time.monotonic() - int(shown) / 1_000_000 < STARTING_S
    except (CommandError, HostError, ValueError):
        return False
