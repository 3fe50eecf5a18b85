# SPDX-License-Identifier: Apache-2.0
"""Put back what Caisson changed of the host's own: firewalld, names, swap, settings of the kernel, NetworkManager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from installer.base import files
from installer.base.errors import CommandError, HostError
from installer.base.paths import Paths
from installer.base.run import run
from installer.config import hosts
from installer.engine import traces
from installer.operations import before
from installer.operations.reset_plan import Action, ResetContext

LIMIT_S = 60.0
FSTAB_FILE = "/etc/fstab"
NETWORK_MANAGER = "NetworkManager.service"
NETWORK_MANAGER_FILE = "/etc/NetworkManager/conf.d/90-caisson.conf"
KERNEL_FILES = ("/etc/modules-load.d/caisson.conf", "/etc/sysctl.d/90-caisson.conf")
ASIDE = ".caisson"


def plan_firewall(context: ResetContext) -> Sequence[Action]:
    """Take Caisson's zone and policies out of firewalld, in its files and where it runs."""
    paths = context.paths
    there = [name for name in traces.FIREWALL_FILES if paths.at(name).exists()]
    actions = [remove_files(paths, there)] if there else []
    if is_active("firewalld.service") and (there or _holds_zone()):
        actions.append(Action("let firewalld read its files again", partial(_do, "firewall-cmd", "--reload")))
    return actions


def _holds_zone() -> bool:
    said = _do("firewall-cmd", "--get-zones", check=False)
    return traces.POD_ZONE in said.split()


def plan_host(context: ResetContext) -> Sequence[Action]:
    """Put names, swap, settings of the kernel and of NetworkManager back."""
    paths = context.paths
    actions = []
    manager = paths.at(NETWORK_MANAGER_FILE)
    if manager.exists():
        actions.append(remove_files(paths, [NETWORK_MANAGER_FILE]))
        if is_active(NETWORK_MANAGER):
            actions.append(
                Action("tell NetworkManager", partial(_do, "systemctl", "reload", NETWORK_MANAGER))
            )
    actions += _plan_names(paths)
    if _has_user(paths, traces.CONSOLE_USER):
        actions.append(
            Action(f"remove the user {traces.CONSOLE_USER}", partial(_do, "userdel", traces.CONSOLE_USER))
        )
    kernel = [name for name in KERNEL_FILES if paths.at(name).exists()]
    if kernel:
        actions.append(remove_files(paths, kernel))
    noted = before.read(paths)
    actions += _plan_settings(paths, {} if noted is None else noted.settings)
    return [
        *actions,
        *_plan_swap(paths, before.Before(masked=before.masked(paths)) if noted is None else noted),
    ]


def _has_user(paths: Paths, name: str) -> bool:
    lines = _read(paths.at("/etc/passwd")).splitlines()
    return any(line.startswith(f"{name}:".encode()) for line in lines)


def _plan_names(paths: Paths) -> list[Action]:
    data = _read(paths.hosts_file)
    lines = [line for line in data.split(b"\n") if not line.endswith(hosts.MARK.encode())]
    kept = b"\n".join(lines)
    if kept == data:
        return []
    return [
        Action("take Caisson's lines out of /etc/hosts", lambda: files.edit_host_file(paths.hosts_file, kept))
    ]


def _plan_settings(paths: Paths, noted: Mapping[str, str]) -> list[Action]:
    now = before.settings(paths)
    changed = {name: value for name, value in noted.items() if name in now and now[name] != value}
    return [
        Action(f"set {name} back to {value}", partial(_set, before.setting_file(paths, name), value))
        for name, value in changed.items()
    ]


def _set(file: Path, value: str) -> None:
    file.write_text(f"{value}\n", encoding="ascii")


# ---- swap ------------------------------------------------------------------------------------------------------


def _plan_swap(paths: Paths, noted: before.Before) -> list[Action]:
    """Bring back what swapped before; units that were masked before Caisson came stay so."""
    actions = []
    fstab = _read(paths.at(FSTAB_FILE))
    plain = b"\n".join(_uncommented(line) for line in fstab.split(b"\n"))
    if plain != fstab:
        text = "take Caisson's comments off the swap lines of /etc/fstab"
        actions.append(Action(text, lambda: files.edit_host_file(paths.at(FSTAB_FILE), plain)))
    masked = [unit for unit in before.masked(paths) if unit not in noted.masked]
    if masked:
        actions.append(
            Action(f"unmask {', '.join(masked)}", partial(_do, "systemctl", "unmask", "--", *masked))
        )
    for aside in sorted(paths.at(traces.UNITS_DIR).glob(f"*.swap{ASIDE}")):
        own = aside.with_name(aside.name[: -len(ASIDE)])
        actions.append(Action(f"give {own} its name back", partial(aside.rename, own)))
    if actions:
        actions.append(Action("let systemd read its units again", partial(_do, "systemctl", "daemon-reload")))
    off = [name for name in noted.swaps if name not in before.swaps(paths)]
    if off:
        actions.append(Action(f"swap to {', '.join(off)} again", lambda: _swap_on(off)))
    return actions


def _uncommented(line: bytes) -> bytes:
    mark = traces.FSTAB_MARK.encode()
    return line.removeprefix(mark)


def _swap_on(names: Sequence[str]) -> None:
    """Swap to them again; one that is gone since is no fault."""
    for name in names:
        _do("swapon", "--", name, check=False)


# ---- small helpers ---------------------------------------------------------------------------------------------


def remove_files(paths: Paths, names: Sequence[str]) -> Action:
    """Return the action that removes files by their names."""
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    def remove() -> None:
        for name in names:
            paths.at(name).unlink(missing_ok=True)

    return Action(f"remove {shown}", remove)


def is_active(unit: str) -> bool:
    """Say whether a unit runs."""
    return _do("systemctl", "is-active", unit, check=False).strip() == "active"


def _do(*words: str, check: bool = True) -> str:
    try:
        return run(words, timeout_s=LIMIT_S, check=check).stdout
    except (HostError, CommandError):
        if check:
            raise
        return ""


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
