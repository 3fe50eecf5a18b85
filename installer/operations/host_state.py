# SPDX-License-Identifier: Apache-2.0
"""Ask the host itself how it is: its services, its firewall, the space on its disks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.base.ui import format_bytes
from installer.base.units import parse_units
from installer.operations.asking import COMMAND_LIMIT_S, Deadline, Fault

SERVICES = ("containerd", "kubelet", "salt-minion", "firewalld")
REQUIRED_SERVICES = ("containerd", "kubelet", "salt-minion")
CONSOLE_SOCKETS = ("caisson-console.socket", "caisson-door.socket")
CONSOLE_FIX = "systemctl enable --now caisson-door.socket caisson-console.socket"
UNKNOWN: Mapping[str, str] = dict.fromkeys(SERVICES, "unknown")
NOT_INSTALLED = "not installed"
FIREWALL_CHECK = "CSN405"
FIREWALL_POLICIES = ("caisson-nodes", "caisson-services")
FIREWALL_ZONE = "caisson-pods"
GUARD_UNIT_FILE = "/etc/systemd/system/caisson-guard.service"
GUARD_MARK = 'comment "caisson '
"""What the table of the guard has in a rule. Source: salt/firewall/files/guard.nft.j2."""
#: What must stay free where, in percent. The kubelet evicts pods at 10 % of its own file system and 15 % of that of
#: the images. Source: Kubernetes, "Node-pressure Eviction", default hard eviction thresholds.
FREE_PERCENT: Mapping[str, float] = {
    "/": 5,
    "/var": 5,
    "/var/log": 5,
    "/var/lib/etcd": 10,
    "/var/lib/kubelet": 10,
    "/var/lib/containerd": 15,
}
FREE_INODES_PERCENT = 5.0
DISK_FIX = (
    "see 'du -xhd1 {path} | sort -h'; what may be deleted: 'journalctl --vacuum-size=200M', 'crictl rmi --prune' (it "
    "also removes images that nothing uses and that were only imported: push those to a registry first)"
)


# ---- services --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServiceStates:
    """The state of each service of :data:`SERVICES`: a word for people."""

    states: Mapping[str, str]
    faults: tuple[Fault, ...] = ()


def ask_services() -> ServiceStates:
    """Ask systemd for the services that a node lives by, and for the console, where there is one."""
    try:
        shown = _shown(*(f"{name}.service" for name in SERVICES), *CONSOLE_SOCKETS)
        states, console = {**UNKNOWN, **parse_services(shown)}, parse_console(shown)
    except (CommandError, HostError) as exc:
        fault = Fault(f"systemd does not answer: {exc.message}", "see 'systemctl status' and 'dmesg | tail'")
        return ServiceStates(dict(UNKNOWN), (fault,))
    faults = [
        Fault(f"{name}.service is {states[name]}", service_fix(name))
        for name in REQUIRED_SERVICES
        if states[name] != "active"
    ]
    faults += [
        Fault(f"{unit} is {state}: nobody reaches the console of this host", CONSOLE_FIX)
        for unit, state in console.items()
        if state != "active"
    ]
    if console:
        is_there = all(state == "active" for state in console.values())
        states["console"] = "listening" if is_there else "not listening"
    return ServiceStates(states, tuple(faults))


def _states(*services: str) -> dict[str, str]:
    """Ask systemd for the state of services.

    Raises:
        CommandError: it does not answer.
        HostError: there is no systemctl.
    """
    return parse_services(_shown(*(f"{name}.service" for name in services)))


def _shown(*units: str) -> str:
    command = ["systemctl", "show", "--property=Id,LoadState,ActiveState", *units]
    return run(command, timeout_s=COMMAND_LIMIT_S, check=False).stdout


def parse_services(shown: str) -> dict[str, str]:
    r"""Return name -> state of what ``systemctl show`` printed of several units.

    >>> parse_services("Id=a.service\nLoadState=loaded\nActiveState=failed\n\nId=b.service\nLoadState=not-found\n")
    {'a': 'failed', 'b': 'not installed'}
    """
    return {
        unit.rpartition(".service")[0]: NOT_INSTALLED
        if facts.get("LoadState") == "not-found"
        else facts.get("ActiveState", "unknown")
        for unit, facts in parse_units(shown).items()
        if unit.endswith(".service")
    }


def parse_console(shown: str) -> dict[str, str]:
    r"""Return socket -> state of the console's sockets in what ``systemctl show`` printed; none where it has none.

    >>> parse_console("Id=caisson-door.socket\nLoadState=loaded\nActiveState=active\n")
    {'caisson-door.socket': 'active'}
    """
    return {
        unit: facts.get("ActiveState", "unknown")
        for unit, facts in parse_units(shown).items()
        if unit in CONSOLE_SOCKETS and facts.get("LoadState") != "not-found"
    }


def service_fix(name: str) -> str:
    """Return what to do about a service that does not run."""
    return f"see 'journalctl -u {name} -n 50', then 'systemctl restart {name}'"


# ---- firewalld -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirewallState:
    """How firewalld guards this host; ``shown`` is for people."""

    shown: str
    faults: tuple[Fault, ...] = ()


def ask_firewall(paths: Paths, *, is_accepted: bool) -> FirewallState:
    """Look whether firewalld runs, and with the policies and the zone of Caisson.

    ``is_accepted``: the site said in bootstrap.yaml that this host goes without (CSN405). A host on which firewalld
    is not installed came without: its bootstrap has said so.
    """
    deadline = Deadline(COMMAND_LIMIT_S)
    state = _states("firewalld").get("firewalld", "unknown")
    if state == NOT_INSTALLED:
        return FirewallState("not installed: every host that reaches this one reaches its ports")
    if state != "active":
        if is_accepted:
            return FirewallState(f"{state} (accepted: {FIREWALL_CHECK})")
        fix = "systemctl enable --now firewalld"
        fix += (
            "" if _has_policy_file(paths) else ", then 'caisson bootstrap', which opens the cluster's ports"
        )
        text = f"firewalld is installed, but {state}: every host that reaches this one reaches its ports"
        accept = f"or accept {FIREWALL_CHECK} in overrides.ignorePreflights, with the reason"
        return FirewallState(state, (Fault(text, f"{fix}; {accept}"),))
    try:
        missing = sorted({*FIREWALL_POLICIES, FIREWALL_ZONE} - _loaded(deadline))
    except (CommandError, HostError) as exc:
        fault = Fault(f"firewalld does not answer: {exc.message}", service_fix("firewalld"))
        return FirewallState("active, but does not answer", (fault,))
    guard = _ask_guard(deadline) if paths.at(GUARD_UNIT_FILE).exists() else ()
    if not missing:
        shown = "active, with Caisson's policies"
        return FirewallState(", but ".join([shown, *(fault.text for fault in guard)]), guard)
    text = f"without Caisson's {', '.join(missing)}"
    fix = "firewall-cmd --reload" if _has_policy_file(paths) else "run 'caisson bootstrap' again"
    return FirewallState(f"active, {text}", (Fault(f"firewalld runs {text}", fix), *guard))


def _ask_guard(deadline: Deadline) -> tuple[Fault, ...]:
    """Look whether the filter before firewalld is loaded: its unit stays active when somebody flushed it."""
    command = ["nft", "list", "table", "inet", "caisson"]
    try:
        found = run(command, timeout_s=deadline.left_s, check=False)
    except (CommandError, HostError) as exc:
        return (Fault(f"the packet filter does not answer: {exc.message}", f"see '{' '.join(command)}'"),)
    if found.returncode == 0 and GUARD_MARK in found.stdout:
        return ()
    text = (
        "the guard before it is gone (table inet caisson): neighbours reach pods and services past firewalld"
    )
    fix = (
        "systemctl reload caisson-guard; where that unit is not active: systemctl enable --now caisson-guard"
    )
    return (Fault(text, fix),)


def _loaded(deadline: Deadline) -> set[str]:
    """Return the names of the policies and zones that the running firewalld has.

    It is asked on its bus: its own command line takes a second to start on a busy host. Source: firewalld.dbus(5).

    Raises:
        CommandError: firewalld does not answer.
        HostError: there is no busctl.
    """
    found: set[str] = set()
    for interface, method in (("policy", "getPolicies"), ("zone", "getZones")):
        name, path = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
        command = ["busctl", "call", name, path, f"{name}.{interface}", method]
        found |= set(re.findall(r'"([^"]*)"', run(command, timeout_s=deadline.left_s / 2).stdout))
    return found


def _has_policy_file(paths: Paths) -> bool:
    return paths.at(f"/etc/firewalld/policies/{FIREWALL_POLICIES[0]}.xml").exists()


# ---- disks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiskState:
    """A file system of this host, by the places on it that matter; percent as the kubelet counts them."""

    places: tuple[str, ...]
    free_bytes: int
    size_bytes: int
    free_percent: float
    free_inodes_percent: float
    faults: tuple[Fault, ...]


def ask_disks(paths: Paths) -> tuple[DiskState, ...]:
    """Look at the file systems that a node lives on, each once, in the order of their first place."""
    found: dict[int, list[str]] = {}
    for place in FREE_PERCENT:
        try:
            found.setdefault(paths.at(place).stat().st_dev, []).append(place)
        except OSError:
            continue
    return tuple(_disk_state(paths, places) for places in found.values())


def _disk_state(paths: Paths, places: list[str]) -> DiskState:
    space = os.statvfs(paths.at(places[0]))
    free_percent = 100.0 * space.f_bavail / space.f_blocks if space.f_blocks else 0.0
    # btrfs makes inodes as it needs them and says that there are none.
    inodes_percent = 100.0 * space.f_favail / space.f_files if space.f_files else 100.0
    faults = []
    limit, strictest = max((FREE_PERCENT[place], place) for place in places)
    free_bytes, shown = space.f_bavail * space.f_frsize, places[0]
    if free_percent < limit:
        text = f"{shown} has {free_percent:.0f} % free ({format_bytes(free_bytes)})"
        text += f"; {strictest} needs {limit:g} %" if strictest != shown else f" of the {limit:g} % it needs"
        faults.append(Fault(text, DISK_FIX.format(path=shown)))
    if inodes_percent < FREE_INODES_PERCENT:
        text = (
            f"{shown} has {inodes_percent:.0f} % of its inodes free of the {FREE_INODES_PERCENT:g} % it needs"
        )
        faults.append(
            Fault(text, f"see 'du -x --inodes -d1 {shown} | sort -n' for where the many small files are")
        )
    return DiskState(
        tuple(places),
        free_bytes,
        space.f_blocks * space.f_frsize,
        round(free_percent, 1),
        round(inodes_percent, 1),
        tuple(faults),
    )


def disk_rows(disks: Iterable[DiskState]) -> list[tuple[str, ...]]:
    """Return the table of file systems."""
    return [
        ("FILE SYSTEM OF", "FREE", "OF", "FREE %"),
        *(
            (
                " ".join(disk.places),
                format_bytes(disk.free_bytes),
                format_bytes(disk.size_bytes),
                f"{disk.free_percent:.0f}",
            )
            for disk in disks
        ),
    ]
