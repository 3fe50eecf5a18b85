# SPDX-License-Identifier: Apache-2.0
"""Note what the host was like before Caisson changed it, as far as nothing else says so afterwards.

A file that was added is taken away again; a setting of the running kernel is not in any file, and of a swap unit that
is masked nobody knows later who masked it. The note is made once, before the first change, and a reset reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from installer.base.files import write_file
from installer.base.paths import Paths
from installer.engine.traces import EMPTIED_DIRS, UNITS_DIR

FILE_NAME = "before.json"
KERNEL_DIR = "/proc/sys"
SETTINGS = (
    # By the states (salt/host/configured.sls):
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    # By the kubelet (Kubernetes 1.36, pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables):
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    # By kube-proxy (cmd/kube-proxy/app/conntrack.go):
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_acct",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.ipv4.conf.all.route_localnet",
    # By Calico (felix/dataplane/linux/int_dataplane.go):
    "net.ipv4.conf.default.rp_filter",
    "net.ipv6.conf.all.forwarding",
)
"""What a node's programs set in the running kernel, of the host's own network."""


@dataclass(frozen=True)
class Before:
    """What was so: settings of the kernel, what was swapped to, which swap units were masked; directories."""

    settings: Mapping[str, str] = field(default_factory=dict)
    swaps: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


def note(paths: Paths) -> bool:
    """Note how the host is now, unless that was noted before; return whether it was."""
    file = paths.state_dir / FILE_NAME
    if file.exists():
        return False
    directories = tuple(name for name in EMPTIED_DIRS if paths.at(name).is_dir())
    found = Before(settings(paths), swaps(paths), masked(paths), directories)
    return write_file(file, json.dumps(asdict(found), indent=1, sort_keys=True) + "\n", mode=0o600)


def read(paths: Paths) -> Before | None:
    """Return what was noted; None on a host that a version without notes has made a node."""
    try:
        data = json.loads((paths.state_dir / FILE_NAME).read_text(encoding="utf-8"))
        return Before(
            {str(key): str(value) for key, value in data["settings"].items()},
            tuple(map(str, data["swaps"])),
            tuple(map(str, data["masked"])),
            tuple(map(str, data["directories"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def setting_file(paths: Paths, name: str) -> Path:
    """Return where the kernel has a setting.

    >>> setting_file(Paths(), "net.ipv4.ip_forward")
    PosixPath('/proc/sys/net/ipv4/ip_forward')
    """
    return paths.at(KERNEL_DIR) / name.replace(".", "/")


def settings(paths: Paths) -> dict[str, str]:
    """Return the settings that the running kernel has, of those that are changed."""
    found = {}
    for name in SETTINGS:
        try:
            found[name] = setting_file(paths, name).read_text(encoding="ascii").strip()
        except OSError:  # its module is not loaded, or this kernel has none
            continue
    return found


def swaps(paths: Paths) -> tuple[str, ...]:
    """Return the devices and files that the kernel swaps to now."""
    try:
        lines = paths.at("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return ()
    return tuple(line.split()[0] for line in lines if line.split())


def masked(paths: Paths) -> tuple[str, ...]:
    """Return the swap units, and swap.target, that are masked, also after a boot."""
    directory = paths.at(UNITS_DIR)
    found = [*directory.glob("*.swap"), directory / "swap.target"]
    return tuple(
        sorted(file.name for file in found if file.is_symlink() and str(file.readlink()) == "/dev/null")
    )
