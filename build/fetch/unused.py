# SPDX-License-Identifier: Apache-2.0
"""Find what no lock needs any more, and remove it when that is wanted.

    locks of this checkout -> objects of the store that none names, metadata that was not used for a month

A store is shared by all checkouts of a user: what only the lock of another one names is fetched again there.
Run: ``python -m build.fetch.unused [--yes] [--lock FILE]..``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from build.base import ui
from build.base.errors import BuildError, LockError
from build.inventory.profile import read_profile
from build.lock.lockfile import read_lock
from build.store.objects import Store, default_cache_dir

_METADATA_DIRS = ("metadata", "objects", "python")
_METADATA_AGE_S = 30 * 24 * 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unused:
    """A file that nothing needs, and what it is."""

    kind: str
    file: Path
    size_bytes: int


def find_locks(root_dir: Path) -> tuple[Path, ...]:
    """Return every lock of a checkout: those that its profiles name, and those of what was built in it.

    Raises: ProfileError for a profile that cannot be read: what it locks would be taken for unused.
    """
    profiles = sorted((root_dir / "profiles").glob("*.yaml"))
    named = [read_profile(profile).lock_file for profile in profiles]
    made = [file for depth in ("", "_out/*/", "_out/*/*/") for file in root_dir.glob(f"{depth}[!.]*.lock")]
    locks = (*named, *(file for file in made if _is_ours(file)))
    return tuple(sorted({file.resolve() for file in locks if file.is_file()}))


def _is_ours(file: Path) -> bool:
    """Say whether a file called ``.lock`` may be one of Caisson: a program's own lock has no format.

    What may be one and cannot be read is an error later, never passed over: it would leave its objects unused.
    """
    return file.is_file() and b"\nformat:" in b"\n" + file.read_bytes()


def find_unused(locks: Sequence[Path], cache_dir: Path, *, now_s: float) -> Iterator[Unused]:
    """Yield what no lock names. Raises: LockError when there is no lock, or one cannot be read."""
    if not locks:
        raise LockError(
            "there is no lock that says what is needed",
            resolution="run './doit.sh lock', or name one with --lock; to remove all, remove the cache directory",
        )
    needed = {blob.digest.hex for file in locks for blob in read_lock(file).blobs()}
    store_dir = cache_dir / "store"
    for kind, files in (
        ("object", store_dir.glob("sha256/??/*")),
        ("unfinished download", store_dir.glob("partial/*")),
    ):
        for file in sorted(files):
            if file.is_file() and file.name not in needed:
                yield Unused(kind=kind, file=file, size_bytes=file.stat().st_size)
    for name in _METADATA_DIRS:
        for file in sorted((cache_dir / name).rglob("*")):
            if not file.is_file():
                continue
            status = file.stat()
            if now_s - max(status.st_mtime, status.st_atime) > _METADATA_AGE_S:
                yield Unused(kind="old metadata", file=file, size_bytes=status.st_size)


def remove(unused: Iterable[Unused], store: Store) -> None:
    """Remove files that nothing needs.

    Raises: StoreError when a build uses the store.
    """
    with store.exclusive(), store.unused():
        for item in unused:
            item.file.unlink(missing_ok=True)


def render(unused: Sequence[Unused], locks: Sequence[Path], *, is_done: bool) -> str:
    """Render the summary: a line a kind, the sum, and what it was compared with."""
    lines = []
    for kind in dict.fromkeys(item.kind for item in unused):
        sizes = [item.size_bytes for item in unused if item.kind is kind]
        lines.append(f"{len(sizes)} x {kind}, {ui.bytes_text(sum(sizes))}")
    whole = ui.bytes_text(sum(item.size_bytes for item in unused))
    if is_done:
        lines.append(f"removed: {whole}")
    else:
        lines.append(
            f"could be removed: {whole}; './doit.sh gc --yes' removes it" if unused else "nothing is unused"
        )
    lines += [f"needed by: {file}" for file in locks]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m build.fetch.unused", description="Remove what is unused."
    )
    parser.add_argument("--yes", action="store_true", help="remove it; without, it is only listed")
    parser.add_argument(
        "--lock", type=Path, action="append", default=[], help="a lock outside of this checkout"
    )
    options = parser.parse_args(arguments)
    cache_dir = default_cache_dir()
    try:
        locks = (*find_locks(Path(__file__).resolve().parents[2]), *options.lock)
        unused = tuple(find_unused(locks, cache_dir, now_s=time.time()))
        if options.yes:
            remove(unused, Store(cache_dir / "store"))
        print(render(unused, locks, is_done=options.yes))
    except BuildError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
