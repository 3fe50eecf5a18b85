# SPDX-License-Identifier: Apache-2.0
"""Pin keys by their fingerprints: upstream prolongs a key, and its file changes, while it stays the same key.

profile, key files -> the lock's keys: fingerprint, and what the file was when it was locked
lock, key files    -> the lock with the files as they are now, for fetch and build
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path

from build.base import ui
from build.base.document import shown_path
from build.base.errors import KeyFileError, LockError
from build.base.files import write_if_changed
from build.inventory.model import Digest, Lock, LockedKey, PinnedKey, Profile
from build.inventory.sources import Sources
from build.lock.lockfile import dump_lock, read_lock
from build.upstream.openpgp import TrustedKeys, key_warnings, read_keys


def lock_keys(profile: Profile, repositories: Iterable[str]) -> tuple[LockedKey, ...]:
    """Return the keys of repositories that packages come from, in the order of the lock.

    Raises: KeyFileError when a file cannot be read.
    """
    keys = [
        _locked(name, pinned)
        for name in sorted(set(repositories))
        for pinned in profile.repositories[name].keys
    ]
    return tuple(sorted(keys, key=lambda key: (key.repository, key.fingerprint)))


def _locked(repository: str, pinned: PinnedKey) -> LockedKey:
    try:
        data = pinned.file.read_bytes()
    except OSError as exc:
        raise KeyFileError(
            f"key file '{pinned.file}' cannot be read",
            details=f"it should hold the key {pinned.fingerprint} of repository '{repository}': {exc.strerror}",
            resolution="restore the file, or correct 'file' in the profile",
        ) from exc
    return LockedKey(
        repository=repository,
        fingerprint=pinned.fingerprint,
        digest=Digest.of_bytes(data),
        size_bytes=len(data),
    )


def with_key_files(lock: Lock, profile: Profile) -> Lock:
    """Return a lock with the key files that the profile has now, where they are to hold the locked keys.

    That they do is checked when they are used. Raises: KeyFileError when a file cannot be read.
    """
    now = {
        (name, pinned.fingerprint): pinned
        for name, repository in profile.repositories.items()
        for pinned in repository.keys
    }
    keys = [
        _locked(key.repository, now[key.repository, key.fingerprint])
        if (key.repository, key.fingerprint) in now
        else key
        for key in lock.keys
    ]
    return dataclasses.replace(lock, keys=tuple(keys))


def run_lock_keys(profile_file: Path, lock_file: Path, sources: Sources) -> None:
    """Take the key files as they are now into a lock, and leave all else of it as it is. Asks no network.

    Raises: ProfileError; KeyFileError; LockError when there is no lock, or the profile pins other keys: whether
    the packages are signed by those, only a whole lock finds out.
    """
    profile = sources.profile(profile_file)
    lock = read_lock(lock_file)
    used = sorted({package.repository for package in lock.packages} & set(profile.repositories))
    trusted = [read_keys(profile.repositories[name]) for name in used]
    keys = lock_keys(profile, used)
    if [_pin(key) for key in keys] != [_pin(key) for key in lock.keys]:
        raise LockError(
            f"profile '{profile.name}' pins other keys than '{shown_path(lock_file)}' was made with",
            details=f"profile: {_pins_text(keys)}\nlock: {_pins_text(lock.keys)}",
            resolution="run './doit.sh lock', which checks every package with the new keys",
        )
    _warn_of(trusted)
    has_changed = write_if_changed(lock_file, dump_lock(dataclasses.replace(lock, keys=keys)))
    ui.note(
        f"lock: keys of {len(used)} repositories; {shown_path(lock_file)} {'written' if has_changed else 'unchanged'}"
    )


def warn_of_keys(profile: Profile, lock: Lock) -> None:
    """Tell of the locked keys that end soon, or that stricter hosts than EL9 refuse. Raises: KeyFileError."""
    used = sorted({key.repository for key in lock.keys} & set(profile.repositories))
    _warn_of(read_keys(profile.repositories[name]) for name in used)


def _warn_of(trusted: Iterable[TrustedKeys]) -> None:
    now_s = time.time()
    for text in dict.fromkeys(text for keys in trusted for text in key_warnings(keys, now_s)):
        ui.warn(text)


def _pin(key: LockedKey) -> tuple[str, str]:
    return key.repository, key.fingerprint


def _pins_text(keys: Iterable[LockedKey]) -> str:
    return ", ".join(f"{key.repository} {key.fingerprint}" for key in keys) or "none"
