# SPDX-License-Identifier: Apache-2.0
"""States: kernel features are there, swap is off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

FSTAB = Path("/etc/fstab")


def features_present(name: str, modules: list[str]) -> dict[str, Any]:
    """Make sure that the kernel has what each of ``modules`` brings; modules that are not built in are loaded."""

    def look() -> tuple[dict[str, Any], str]:
        missing = [module for module in modules if not __salt__["caisson_host.has_feature"](module)]
        if not missing:
            return {}, f"the kernel has {', '.join(modules)}"
        return dict.fromkeys(missing, "loaded"), f"not loaded yet: {', '.join(missing)}"

    def act() -> str:
        missing = [module for module in modules if not __salt__["caisson_host.has_feature"](module)]
        faults = {module: __salt__["caisson_host.load_module"](module) for module in missing}
        bad = [f"{module}: {fault}" for module, fault in faults.items() if fault]
        if bad:
            hint = "the running kernel lacks a module; install kernel-modules of `uname -r`:\n"
            raise RuntimeError(hint + "\n".join(bad))
        return f"loaded {', '.join(missing)}"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def swap_off(name: str) -> dict[str, Any]:
    """Make sure that nothing swaps now nor after a reboot.

    Lines in /etc/fstab are commented, not removed; units that systemd makes of partitions by their type are masked,
    and so are those that an administrator wrote: their files are renamed to NAME.swap.caisson first. With them goes
    swap.target, which wants them: a disk may have another name at the next boot, and its partition another unit.
    """
    changes: dict[str, Any] = {}

    def look() -> tuple[dict[str, Any], str]:
        changes.update(dict.fromkeys(__salt__["caisson_host.active_swaps"](), "swapped off"))
        lines = [
            line.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
            for line in __salt__["caisson_host.swap_lines"](_fstab())
        ]
        changes.update(dict.fromkeys(lines, "commented in /etc/fstab"))
        changes.update(dict.fromkeys(_masked(__salt__["caisson_host.swap_units"]()), "masked"))
        return changes, "would turn swap off" if changes else "no swap"

    def act() -> str:
        if __salt__["caisson_host.active_swaps"]():
            _must(["swapoff", "--all"], timeout_s=300)
        units = __salt__["caisson_host.swap_units"]()
        if units:
            for path in __salt__["caisson_host.put_aside"](units):
                changes[path] = "renamed, so that the unit can be masked"
            # "--" because a unit may be called as its device is: -.swap
            _must(["systemctl", "mask", "--", *_masked(units)], timeout_s=60)
        _comment_out(__salt__["caisson_host.swap_lines"](_fstab()))
        return "swap is off"

    said: dict[str, Any] = __salt__["caisson_result.ensure"](name, look, act, test=__opts__["test"])
    return said


def _masked(units: list[str]) -> list[str]:
    return [*units, "swap.target"] if units else []


def _must(command: list[str], *, timeout_s: int) -> None:
    outcome = __salt__["cmd.run_all"](command, python_shell=False, timeout=timeout_s)
    if outcome["retcode"] != 0:
        raise RuntimeError(f"{' '.join(command)}: {outcome['stderr']}")


def _fstab() -> str:
    # A comment in another encoding comes out as it went in.
    return FSTAB.read_bytes().decode("utf-8", errors="surrogateescape") if FSTAB.exists() else ""


def _comment_out(lines: list[str]) -> None:
    if not lines:
        return
    kept = ["# caisson: " + line if line in lines else line for line in _fstab().split("\n")]
    data = "\n".join(kept).encode("utf-8", errors="surrogateescape")
    try:
        __salt__["caisson_installer.call"]("installer.base.files", "edit_host_file", FSTAB, data)
    except RuntimeError as error:
        raise RuntimeError(f"{error}\nor comment the swap lines of {FSTAB} yourself") from error
