# SPDX-License-Identifier: Apache-2.0
"""Which files people wrote for one build: ours, those of vendors (extra=), the policy (policy=)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from build.inventory.inventory import inventory_files, read_inventory
from build.inventory.model import Inventory, Profile
from build.inventory.profile import read_profile


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where an inventory is read from; ``policy_file`` is policy.yaml of ``root_dir`` where it is None."""

    root_dir: Path = Path()
    extra_files: tuple[Path, ...] = ()
    policy_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all files but the profile."""
        return inventory_files(self.root_dir, self.extra_files, self.policy_file)

    def profile(self, profile_file: Path) -> Profile:
        """Read the profile, with what vendors add to it. Raises: ProfileError."""
        return read_profile(profile_file, self.extra_files)

    def inventory(self, profile: Profile) -> Inventory:
        """Read the inventory as a profile sees it. Raises: InventoryError."""
        return read_inventory(self.root_dir, profile, self.extra_files, self.policy_file)

    def read(self, profile_file: Path) -> tuple[Profile, Inventory]:
        """Read both. Raises: ProfileError, InventoryError."""
        profile = self.profile(profile_file)
        return profile, self.inventory(profile)
