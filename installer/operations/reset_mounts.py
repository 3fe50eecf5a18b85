# SPDX-License-Identifier: Apache-2.0
"""Unmount what the kubelet, containerd and Calico have mounted, as the table of mounts shows it, and nothing else.

A mount that the host has on record (/etc/fstab, a unit file) is the host's: it stays, and what is on it. The kubelet's
directory may itself be a disk (kubernetes/kubeadm#2247): it is emptied, never unmounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from installer.base.errors import CommandError, HostError
from installer.base.mounts import Mount, is_mounted, read_mounts
from installer.base.run import run
from installer.engine import traces
from installer.operations import reset_plan
from installer.operations.reset_plan import Action, ResetContext

LIMIT_S = 15.0
"""A file server that does not answer holds an unmount up for ever (k3s-io/k3s#8520): then it is let go of."""
SHOWN = 3


def plan(context: ResetContext) -> Sequence[Action]:
    """Unmount them, the ones mounted last first; the networks of pods too."""
    networks = pod_networks(context)
    mounts = ours(read_mounts(), context, networks)
    shown = ", ".join(mount.mount_point for mount in mounts[:SHOWN])
    more = f" and {len(mounts) - SHOWN} more" if len(mounts) > SHOWN else ""
    actions = [Action(f"unmount {shown}{more}", lambda: unmount_all(mounts))] if mounts else []
    if networks:
        actions.append(
            Action(f"remove {len(networks)} networks of pods", lambda: _remove_networks(context, networks))
        )
    return actions


def pod_networks(context: ResetContext) -> list[str]:
    """Return the networks of pods that are there, by what the plugins have noted of them."""
    names = set()
    for pattern in traces.CNI_PATTERNS:
        for file in context.paths.root.glob(pattern.lstrip("/")):
            if file.is_file():
                names |= set(traces.CNI_NETWORK.findall(file.read_text(encoding="utf-8", errors="replace")))
    return sorted(name for name in names if context.paths.at(name).exists())


def ours(mounts: Sequence[Mount], context: ResetContext, networks: Sequence[str] = ()) -> list[Mount]:
    """Return the mounts that go, in the order in which they are unmounted."""
    return [
        mount
        for mount in reversed(mounts)
        if (is_below(mount.mount_point) or mount.mount_point in networks)
        and not any(is_at_or_below(mount.mount_point, kept) for kept in context.noted.kept)
        and not reset_plan.is_on_record(context.paths, mount.mount_point)
    ]


def is_below(place: str) -> bool:
    """Say whether a mount is strictly below one of the directories of the programs. Pure.

    >>> is_below("/var/lib/kubelet/pods/x"), is_below("/var/lib/kubelet"), is_below("/var/lib/kubelet2/x")
    (True, False, False)
    """
    return any(place.startswith(f"{root}/") for root in traces.MOUNT_ROOTS)


def is_at_or_below(place: str, kept: str) -> bool:
    """Say whether a path is one that is kept, or below it. Pure."""
    return place == kept or place.startswith(f"{kept.rstrip('/')}/")


def unmount_all(mounts: Sequence[Mount]) -> None:
    """Unmount them one after the other.

    Raises:
        HostError: one is in use; nothing was deleted.
    """
    busy = [fault for fault in map(_unmount, mounts) if fault]
    if busy:
        raise HostError(
            f"{len(busy)} mounts are in use, so nothing below them is deleted",
            details="\n".join(busy),
            resolution="see who uses them: fuser -vm PLACE; end that",
        )


def _unmount(mount: Mount) -> str:
    """Unmount one place; return what is said of it when it cannot be."""
    place = mount.mount_point
    try:
        done = run(["umount", "--", place], timeout_s=LIMIT_S, check=False)
    except CommandError:
        # Of a server that is gone nothing can be written any more: it is taken out of sight, where nothing is deleted.
        done = run(["umount", "--force", "--lazy", "--", place], timeout_s=LIMIT_S, check=False)
    if done.returncode == 0 or not is_mounted(Path(place), read_mounts()):
        return ""
    return f"{place}: {done.stderr.strip()}"


def _remove_networks(context: ResetContext, names: Sequence[str]) -> None:
    for name in names:
        context.paths.at(name).unlink(missing_ok=True)
