# SPDX-License-Identifier: Apache-2.0
"""Keep the services of packages off until the phase that sets them up: some start with their installation."""

from __future__ import annotations

from collections.abc import Sequence

from installer.base.paths import Paths
from installer.base.run import run
from installer.base.units import parse_units

#: Services of the packages, each with the file that is there once a phase of ours has set it up.
HANDED_OVER = {
    "salt-minion.service": "/etc/salt/minion.d/90-caisson.conf",
    "containerd.service": "/etc/containerd/conf.d/90-overrides.toml",
    "kubelet.service": "/etc/systemd/system/kubelet.service.d/11-caisson.conf",
}
STARTED_STATES = ("active", "activating", "reloading", "deactivating")


def keep_off(paths: Paths, units: Sequence[str]) -> bool:
    """Stop and disable those of ``units`` that no phase has set up yet; return whether there were any."""
    early = [unit for unit in units if not paths.at(HANDED_OVER[unit]).exists()]
    if not early:
        return False
    said = run(["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *early], timeout_s=30).stdout
    found = [
        unit
        for unit, facts in parse_units(said).items()
        if facts.get("ActiveState") in STARTED_STATES or facts.get("UnitFileState") == "enabled"
    ]
    if found:
        run(["systemctl", "disable", "--now", *found], timeout_s=120)
    return bool(found)
