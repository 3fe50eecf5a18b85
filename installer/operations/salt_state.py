# SPDX-License-Identifier: Apache-2.0
"""Ask Salt whether the minion of this host answers its master."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from installer.base.errors import CommandError, HostError
from installer.base.run import run
from installer.operations import containers
from installer.operations.asking import COMMAND_LIMIT_S, Deadline, Fault

#: The ping of ``salt NAME test.ping``, which ends soon when nobody answers: the command line waits ten seconds more.
#: Source: Salt, salt/client/__init__.py, LocalClient.get_cli_event_returns, gather_job_timeout.
PYTHON = "/opt/saltstack/salt/bin/python3"
PING = """\
import json, sys, salt.client, salt.config
options = salt.config.client_config("/etc/salt/master")
options["gather_job_timeout"] = 1
client = salt.client.LocalClient(mopts=options)
print(json.dumps(client.cmd(sys.argv[1], "test.ping", tgt_type="list", timeout=2)))
"""
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
    listed = ["crictl", "ps", "--quiet", "--state=Running", *containers.selection("salt-master")]
    try:
        container = run(listed, timeout_s=deadline.left_s).stdout.split()
        if not container:
            return _judged("the container of the salt-master does not run", deadline)
        ping = [PYTHON, "-I", "-c", PING, minion]
        answer = run(["crictl", "exec", container[0], *ping], timeout_s=deadline.left_s, check=False)
    except (CommandError, HostError) as exc:
        return SaltState(f"not known: {exc.message}")
    if has_answered(answer.stdout, minion):
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


def has_answered(text: str, minion: str) -> bool:
    """Say whether what :data:`PING` printed shows that a minion answered.

    >>> has_answered('{"node1": true}', "node1"), has_answered('{"node1": false}', "node1"), has_answered("", "n")
    (True, False, False)
    """
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get(minion) is True


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
