# SPDX-License-Identifier: Apache-2.0
"""Renew one thing of a lock and keep the rest: ``doit lock name=NAME``.

    lock, NAME --> Kept: what stays as it is locked --> resolve.py asks upstream for the rest alone

What is kept is what the inventory still wants: where that changed, upstream is asked. Packages are only solved
again when one of them is renewed or the inventory wants others; then every locked build is favoured, and stays
unless it must change.
"""

from __future__ import annotations

import dataclasses

from build.inventory.inventory import packages_digest
from build.inventory.model import (
    Inventory,
    Lock,
    LockedImage,
    LockedManifest,
    LockedPackage,
    LockedPython,
    Profile,
    PythonArtifact,
    WantedImage,
    WantedManifest,
    WantedPython,
)
from build.lock.why import known_names, unknown_name


@dataclasses.dataclass(frozen=True)
class Kept:
    """An earlier lock, of which everything but ``name`` is kept."""

    lock: Lock
    name: str
    freed: frozenset[str]

    @classmethod
    def but(cls, name: str, lock: Lock, inventory: Inventory) -> Kept:
        """Keep everything but what has a name or an id. Raises: LockError when there is no such thing."""
        composed = [item for item in inventory.composed if name in (item.id, str(item.reference))]
        known = known_names(lock, inventory)
        if name not in known:
            raise unknown_name(name, known)
        packages = {item.name for item in lock.packages} | {item.name for item in inventory.packages}
        freed = {name} & packages | {member for item in composed for member in item.packages}
        return cls(lock, name, frozenset(freed))

    @property
    def favoured(self) -> tuple[LockedPackage, ...]:
        """Return the builds that stay unless they must change."""
        return tuple(package for package in self.lock.packages if package.name not in self.freed)

    def has_packages_of(self, inventory: Inventory, profile: Profile) -> bool:
        """Say whether all packages can stay, unsolved."""
        return not self.freed and self.lock.packages_digest == packages_digest(inventory, profile)

    def image(self, wanted: WantedImage) -> LockedImage | None:
        """Return what is locked of an image, if that is to stay."""
        if self.name in (wanted.id, str(wanted.reference)):
            return None
        return next(
            (item for item in self.lock.images if (item.id, item.reference) == (wanted.id, wanted.reference)),
            None,
        )

    def manifest(self, wanted: WantedManifest) -> LockedManifest | None:
        """Return what is locked of a manifest, if that is to stay."""
        if self.name == wanted.id:
            return None
        identity = (wanted.id, wanted.url, wanted.path)
        return next(
            (item for item in self.lock.manifests if (item.id, item.url, item.path) == identity), None
        )

    def python(self, wanted: WantedPython) -> LockedPython | None:
        """Return what is locked of a Python package, if that is to stay."""
        if self.name == wanted.name:
            return None
        is_wheel = wanted.artifact is PythonArtifact.WHEEL
        return next(
            (
                item
                for item in self.lock.python
                if (item.name, item.version) == (wanted.name, wanted.version)
                and item.file.endswith(".whl") is is_wheel
            ),
            None,
        )
