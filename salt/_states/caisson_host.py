# SPDX-License-Identifier: Apache-2.0
"""States: kernel features are there, swap is off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}
    __opts__: dict[str, Any] = {}

FSTAB = Path("/etc/fstab")


def features_present(name: str, modules: list[str]) -> dict[str, Any]:
    """Make sure that the kernel has what each of ``modules`` brings; modules that are not built in are loaded."""
    missing = [module for module in modules if not __salt__["caisson_host.has_feature"](module)]
    if not missing:
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": f"the kernel has {', '.join(modules)}",
        }
    changes = dict.fromkeys(missing, "loaded")
    if __opts__["test"]:
        return {
            "name": name,
            "result": None,
            "changes": changes,
            "comment": f"would load {', '.join(missing)}",
        }
    faults = {module: __salt__["caisson_host.load_module"](module) for module in missing}
    bad = [f"{module}: {fault}" for module, fault in faults.items() if fault]
    if bad:
        comment = "the running kernel lacks a module; install kernel-modules of `uname -r`:\n" + "\n".join(
            bad
        )
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    return {"name": name, "result": True, "changes": changes, "comment": f"loaded {', '.join(missing)}"}


def swap_off(name: str) -> dict[str, Any]:
    """Make sure that nothing swaps now nor after a reboot.

    Lines in /etc/fstab are commented, not removed; units that systemd makes of partitions by their type are masked,
    and so are those that an administrator wrote: their files are renamed to NAME.swap.caisson first.
    """
    active, units = __salt__["caisson_host.active_swaps"](), __salt__["caisson_host.swap_units"]()
    # A comment in another encoding comes out as it went in.
    text = FSTAB.read_bytes().decode("utf-8", errors="surrogateescape") if FSTAB.exists() else ""
    lines = __salt__["caisson_host.swap_lines"](text)
    changes: dict[str, Any] = dict.fromkeys(active, "swapped off")
    shown = [
        line.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace") for line in lines
    ]
    changes.update(dict.fromkeys(shown, "commented in /etc/fstab"))
    changes.update(dict.fromkeys(units, "masked"))
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": "no swap"}
    if __opts__["test"]:
        return {"name": name, "result": None, "changes": changes, "comment": "would turn swap off"}
    if active:
        outcome = __salt__["cmd.run_all"](["swapoff", "--all"], python_shell=False, timeout=300)
        if outcome["retcode"] != 0:
            return {"name": name, "result": False, "changes": {}, "comment": f"swapoff: {outcome['stderr']}"}
    if units:
        for path in __salt__["caisson_host.put_aside"](units):
            changes[path] = "renamed, so that the unit can be masked"
        # "--" because a unit may be called as its device is: -.swap
        words = ["systemctl", "mask", "--", *units]
        outcome = __salt__["cmd.run_all"](words, python_shell=False, timeout=60)
        if outcome["retcode"] != 0:
            return {"name": name, "result": False, "changes": {}, "comment": outcome["stderr"]}
    if lines:
        kept = ["# caisson: " + line if line in lines else line for line in text.split("\n")]
        temporary = FSTAB.with_name(".fstab.caisson")
        with temporary.open("wb") as stream:
            stream.write("\n".join(kept).encode("utf-8", errors="surrogateescape"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(FSTAB.stat().st_mode & 0o777)
        temporary.rename(FSTAB)
    return {"name": name, "result": True, "changes": changes, "comment": "swap is off"}
