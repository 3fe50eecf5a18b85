# SPDX-License-Identifier: Apache-2.0
"""Write files so that a power cut leaves the old one or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from installer.base.errors import HostError

BYTECODE_DIR = "__pycache__"
UNCHANGEABLE_NAMES = (errno.EBUSY, errno.EROFS, errno.EXDEV)
"""Why the kernel refuses another file under this name, though the one that is there may be written."""


def write_file(file: Path, content: str | bytes, *, mode: int = 0o644, dir_mode: int = 0o755) -> bool:
    """Give ``file`` this content and mode; return whether either was another.

    Missing directories are made with ``dir_mode``. The bytes go to a temporary sibling, onto the disk, and
    then take the name.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_same(file, data, mode=mode):
        return False
    file.parent.mkdir(parents=True, exist_ok=True, mode=dir_mode)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.new")
    # Whatever stands there under this name is not ours to write through: it is removed, never followed.
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(data)
            os.fchmod(output.fileno(), mode)
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(file.parent)
    return True


def read_file(file: Path, what: str, *, resolution: str) -> bytes:
    """Return the content of a file that has to be there; ``what`` begins the message, where it is not.

    Raises:
        HostError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as exc:
        raise HostError(f"{what} cannot be read: {file}: {exc.strerror}", resolution=resolution) from exc


def append_private(file: Path, text: str) -> None:
    """Append to a log that is root's alone; what cannot be written is dropped."""
    try:
        with open_private(file) as output:
            output.write(text)
    except OSError:
        return


def open_private(file: Path) -> TextIO:
    """Open a log that is root's alone, to append to it.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def is_same(file: Path, data: bytes, *, mode: int) -> bool:
    """Say whether ``file`` is a regular file of ours with this content and mode.

    One that belongs to another user is not the same: its owner can change it at any time.
    """
    try:
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode:
            return False
        return found.st_uid == os.geteuid() and file.read_bytes() == data
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def fsync_dir(directory: Path) -> None:
    """Put the entries of a directory on the disk: a new or renamed file survives a power cut only then."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rotate(log_file: Path, *, limit_bytes: int, keep: int) -> bool:
    """Begin a log again when it has reached ``limit_bytes``; return whether it was.

    The old one becomes ``NAME.1``, that one ``NAME.2``, and so on; ``keep`` old ones stay. The newest line of the
    old log is in ``NAME.1``, never lost: only names change.
    """
    try:
        if log_file.lstat().st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    names = [log_file, *(log_file.with_name(f"{log_file.name}.{number}") for number in range(1, keep + 1))]
    for older, newer in zip(reversed(names), reversed(names[:-1])):
        if newer.exists():
            newer.replace(older)
    return True


def replace_tree(
    target: Path, sources: Mapping[str, Path], *, executables: frozenset[str] = frozenset()
) -> bool:
    """Make ``target`` hold exactly these files (relative path to source); return whether it changed.

    The tree is built beside ``target`` and then takes its name, as a whole; remains of an interrupted earlier
    try are removed. Files become 0644, ``executables`` 0755, all owned by who runs this. Bytecode that
    another Python has written beside the modules is no change.
    """
    if _has_exactly(target, sources, executables):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover)
    new_dir = target.with_name(f".{target.name}.new")
    old_dir = target.with_name(f".{target.name}.old")
    for relative, source in sorted(sources.items()):
        mode = 0o755 if relative in executables else 0o644
        write_file(new_dir / relative, source.read_bytes(), mode=mode)
    if target.exists():
        target.rename(old_dir)
    new_dir.rename(target)
    fsync_dir(target.parent)
    shutil.rmtree(old_dir, ignore_errors=True)
    return True


def _directories(sources: Mapping[str, Path]) -> set[Path]:
    """Return every directory of a tree, relative to it; the tree itself is one."""
    return {parent for name in sources for parent in Path(name).parents}


def _is_ours(directory: Path) -> bool:
    """Say whether only we can put something else into a directory."""
    found = directory.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH


def _has_exactly(target: Path, sources: Mapping[str, Path], executables: frozenset[str]) -> bool:
    found = {
        str(file.relative_to(target))
        for file in target.rglob("*")
        if not file.is_dir() and BYTECODE_DIR not in file.parts
    }
    if found != set(sources) or not all(_is_ours(target / name) for name in _directories(sources)):
        return False
    return all(
        is_same(target / relative, source.read_bytes(), mode=0o755 if relative in executables else 0o644)
        for relative, source in sources.items()
    )


def edit_host_file(file: Path, data: bytes) -> bool:
    """Give a file that is the host's, not Caisson's, other bytes; return whether it had others.

    All else of it stays: owner, mode, SELinux type, access lists, and a link stays a link. The new bytes take the
    name at once, as with :func:`write_file`; only where the name is a mount (a container runtime puts one over
    /etc/hosts) or its directory is read-only, they are written into the file as it stands.

    Raises:
        HostError: the host does not let it be written.
    """
    target = Path(os.path.realpath(file))
    try:
        if not target.exists():
            return write_file(target, data)
        if target.read_bytes() == data:
            return False
        try:
            _exchange(target, data)
        except OSError as exc:
            if exc.errno not in UNCHANGEABLE_NAMES:
                raise
            _overwrite(target, data)
    except OSError as exc:
        raise HostError(
            f"{file} cannot be written: {exc.strerror or exc}",
            details=f"written as {target}",
            resolution=f"look at 'lsattr {target}' (chattr -i takes the letter i away) and at the mount that it is on",
        ) from exc
    return True


def _exchange(target: Path, data: bytes) -> None:
    """Put another file with the same owner, mode and extended attributes into the place of ``target``."""
    status = target.stat()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(data)
            os.fchown(output.fileno(), status.st_uid, status.st_gid)
            os.fchmod(output.fileno(), status.st_mode & 0o7777)
            for name in os.listxattr(target):
                # What this file system or this kernel keeps to itself is not ours to copy.
                with contextlib.suppress(OSError):
                    os.setxattr(output.fileno(), name, os.getxattr(target, name))
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(target.parent)


def _overwrite(target: Path, data: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb") as output:
        output.write(data)
        output.truncate()
        output.flush()
        os.fsync(output.fileno())
