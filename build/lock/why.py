# SPDX-License-Identifier: Apache-2.0
"""Say why something is in a bundle: the chain from the line of the inventory that wants it.

    lock, inventory -> explain(NAME) -> lines for people

Everything is read from the lock and the inventory; nothing is resolved anew.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from build.base import ui
from build.base.errors import LockError
from build.inventory.model import (
    ComposedImage,
    Inventory,
    Lock,
    LockedComposed,
    LockedImage,
    LockedPackage,
    WantedImage,
    WantedManifest,
)
from build.inventory.sources import Sources
from build.lock.lockfile import read_lock


def run_why(name: str, profile_file: Path, lock_file: Path, sources: Sources) -> None:
    """Print why a package, image, manifest or Python package is in the bundle.

    Raises: LockError when the lock names nothing of that name; InventoryError, ProfileError.
    """
    _, inventory = sources.read(profile_file)
    ui.note("\n".join(explain(name, read_lock(lock_file), inventory)))


def explain(name: str, lock: Lock, inventory: Inventory) -> tuple[str, ...]:
    """Return the lines for everything that has this name or id.

    Raises: LockError, with the names that come near.
    """
    lines = [*_packages(name, lock, inventory), *_others(name, lock, inventory)]
    if lines:
        return tuple(lines)
    raise unknown_name(name, known_names(lock))


def known_names(lock: Lock, inventory: Inventory | None = None) -> frozenset[str]:
    """Return what ``name=NAME`` may be: names of packages, ids of the rest, references of images.

    With an inventory, what is wanted and not locked yet is among them.
    """
    known = {item.name for item in lock.packages} | {item.name for item in lock.python}
    known |= {item.id for item in lock.manifests}
    images: list[LockedImage | LockedComposed | WantedImage | ComposedImage] = [*lock.images, *lock.composed]
    if inventory is not None:
        known |= {item.name for item in inventory.packages} | {item.name for item in inventory.python}
        known |= {item.id for item in inventory.manifests}
        images += [*inventory.images, *inventory.composed]
    return frozenset(known | {item.id for item in images} | {str(item.reference) for item in images})


def unknown_name(name: str, known: Iterable[str]) -> LockError:
    """Return the error of a name that nothing has, with the names that come near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    return LockError(
        f"'{name}' is not in the lock",
        details=f"near it: {', '.join(near)}" if near else f"{len(names)} names are in it",
        resolution="name=NAME takes the name of a package, or the id of an image or a manifest; "
        "what every baseline has is not in a bundle",
    )


def _packages(name: str, lock: Lock, inventory: Inventory) -> Iterator[str]:
    for package in lock.packages:
        if package.name != name:
            continue
        facts = (ui.bytes_text(package.size_bytes), package.licence or "no licence", package.repository)
        yield f"{package.nevra}  {', '.join(facts)}"
        yield f"  needed on: {', '.join(package.baselines) or 'no baseline'}"
        for number, step in enumerate(chain(package, lock)):
            yield f"  {'  ' * number}{_reason(step, inventory)}"
        others = [user for user in package.required_by if user not in chain(package, lock)[1:2]]
        if others:
            yield f"  required by too: {', '.join(others)}"
        images = [composed.id for composed in lock.composed if name in composed.packages]
        if images:
            yield f"  in the composed images: {', '.join(images)}"


def chain(package: LockedPackage, lock: Lock) -> tuple[str, ...]:
    """Return names from a package to the nearest one that the inventory wants, each required by the next."""
    users: Mapping[str, tuple[str, ...]] = _users(lock)
    wanted = {item.name for item in lock.packages if item.requested}
    paths: list[tuple[str, ...]] = [(package.name,)]
    seen = {package.name}
    while paths:
        path = paths.pop(0)
        if path[-1] in wanted:
            return path
        for user in users.get(path[-1], ()):
            if user not in seen:
                seen.add(user)
                paths.append((*path, user))
    return (package.name,)


def _users(lock: Lock) -> dict[str, tuple[str, ...]]:
    users: dict[str, set[str]] = {}
    for package in lock.packages:
        users.setdefault(package.name, set()).update(package.required_by)
    return {name: tuple(sorted(found)) for name, found in users.items()}


def _reason(name: str, inventory: Inventory) -> str:
    for wanted in inventory.packages:
        if wanted.name == name:
            return f"{name}: wanted by {wanted.source} ({wanted.purpose})"
    return f"{name}: required by"


def _others(name: str, lock: Lock, inventory: Inventory) -> Iterator[str]:
    """Yield the lines of everything that is no package."""
    for image in lock.images:
        if name in (image.id, str(image.reference)):
            size_bytes = sum(layer.size_bytes for layer in image.layers)
            yield f"{image.reference}@{image.digest}  {len(image.layers)} layers, {ui.bytes_text(size_bytes)}"
            yield from _wanted(image.id, inventory.images)
            users = [composed.id for composed in lock.composed if composed.base == image.id]
            if users:
                yield f"  base of the composed images: {', '.join(users)}"
    for composed in lock.composed:
        if name in (composed.id, str(composed.reference)):
            yield f"{composed.reference}  composed of {composed.base} and {', '.join(composed.packages)}"
            yield from _wanted(composed.id, inventory.composed)
    for manifest in lock.manifests:
        if manifest.id == name:
            yield f"manifests/{manifest.path}  {manifest.url}"
            yield from _wanted(manifest.id, inventory.manifests)
    for python in inventory.python:
        if python.name == name:
            yield f"{python.name} {python.version}  vendored into the installer"
            yield f"  {python.name}: wanted by {python.source} ({python.purpose})"


def _wanted(name: str, items: Iterable[WantedImage | ComposedImage | WantedManifest]) -> Iterator[str]:
    for item in items:
        if item.id == name:
            yield f"  {name}: wanted by {item.source} ({item.purpose})"
