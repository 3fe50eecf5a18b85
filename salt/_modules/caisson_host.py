# SPDX-License-Identifier: Apache-2.0
"""Kernel features and swap of the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __salt__: dict[str, Any] = {}

UNITS_DIR = "/etc/systemd/system"
# Where systemd looks for unit files. Source: systemd.unit(5), "System Unit Search Path".
UNIT_SEARCH_DIRS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    UNITS_DIR,
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
# Kernel module -> a file that is there, or a line in /proc/filesystems, once the feature is; a module that is built
# in shows no other trace when it takes no parameters.
PROBES = {
    "overlay": "filesystem:overlay",
    "br_netfilter": "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "nf_conntrack": "/proc/sys/net/netfilter/nf_conntrack_max",
}


def has_feature(module: str) -> bool:
    """Tell whether the kernel has what ``module`` brings, loaded or built in."""
    probe = PROBES.get(module, "")
    if probe.startswith("filesystem:"):
        lines = Path("/proc/filesystems").read_text().splitlines()
        return any(line.split()[-1] == probe.partition(":")[2] for line in lines)
    return os.path.exists(probe) if probe else os.path.isdir(f"/sys/module/{module}")


def load_module(module: str) -> str:
    """Load ``module``; return "" or what modprobe said."""
    result = __salt__["cmd.run_all"](
        ["modprobe", module], python_shell=False, timeout=30, ignore_retcode=True
    )
    if result["retcode"] == 0 or has_feature(module):
        return ""
    return str(result["stderr"]).strip() or f"modprobe exited with {result['retcode']}"


def active_swaps() -> list[str]:
    """Return the devices and files that the kernel swaps to now."""
    return [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]


def swap_units() -> list[str]:
    """Return systemd's swap units that would turn swap on at boot without a line in /etc/fstab.

    A generator makes them of partitions by their type (GPT), of zram; an administrator may have written one. What
    systemd only saw in /proc/swaps has no file and comes back by itself never. Units are asked for by name too: one
    whose device did not come in time is not loaded, and a pattern finds loaded ones only. The names are those of the
    files: ``systemctl list-unit-files`` reads each unit of the host for them, which takes a third of a second.
    Source: systemd-gpt-auto-generator(8), systemd.swap(5), systemctl(1).
    """
    names = sorted({file.name for where in UNIT_SEARCH_DIRS for file in Path(where).glob("*.swap")})
    properties = "--property=Id,FragmentPath,SourcePath,UnitFileState"
    words = ["systemctl", "show", properties, "--", "*.swap", *names]
    answer = __salt__["cmd.run_all"](words, python_shell=False, timeout=30, ignore_retcode=True)
    return swap_units_of(str(answer["stdout"])) if answer["retcode"] == 0 else []


def swap_units_of(text: str) -> list[str]:
    """Return the names of such units in the answer of ``systemctl show``, a block of KEY=VALUE each."""
    found = []
    for block in text.split("\n\n"):
        facts = dict(line.partition("=")[::2] for line in block.splitlines())
        # What is masked in /run alone comes back at the next boot.
        is_masked = facts.get("UnitFileState") == "masked"
        if facts.get("FragmentPath") and facts.get("SourcePath") != "/etc/fstab" and not is_masked:
            found.append(facts["Id"])
    return sorted(set(found))


def put_aside(units: list[str]) -> list[str]:
    """Rename the files of ``units`` that an administrator wrote to NAME.caisson; return the new paths.

    ``systemctl mask`` puts a link in their place and refuses when a file is there. Undo: unmask, and rename it back.
    """
    renamed = []
    for file in (Path(UNITS_DIR) / unit for unit in units):
        if os.path.lexists(file) and os.path.realpath(file) != "/dev/null":
            file.rename(file.with_name(file.name + ".caisson"))
            renamed.append(f"{file}.caisson")
    return renamed


def swap_lines(fstab: str) -> list[str]:
    """Return the lines of ``fstab`` (its text) that turn swap on at boot."""
    found = []
    for line in fstab.split("\n"):
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#") and fields[2] == "swap":
            found.append(line)
    return found
