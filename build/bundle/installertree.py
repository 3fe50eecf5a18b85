# SPDX-License-Identifier: Apache-2.0
"""Put the installer on the ISO: its own modules, and the Python packages it needs, unpacked beside them.

    installer/ (sources) ------------+
    locked wheels and sdists (store) +-> installer -> tree/installer/, tree/bootstrap.sh, their table

The target has no pip and no compiler: a wheel is taken only when it is pure Python, and of an sdist only its
Python files are taken.
"""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from build.base.errors import BuildError, IntegrityError
from build.base.files import write_atomically
from build.base.plan import Step, Workspace
from build.inventory.model import Blob, Lock, LockedPython
from build.store import filelist
from build.store.filelist import Entry
from build.store.objects import Store

INSTALLER_DIR = "installer"
VENDOR_DIR = "vendor"
BOOTSTRAP = "bootstrap.sh"
_WHEEL, _SDIST = ".whl", (".tar.gz", ".tgz")
_PURE_WHEEL = "-none-any.whl"
_SOURCE_SUFFIXES = (".py", ".pyi", "py.typed")
_LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING")


def part_file(workspace: Workspace) -> Path:
    """Return the table of the installer."""
    return workspace.part_file("installer")


def plan_installer(source_dir: Path, lock: Lock, store: Store, workspace: Workspace) -> Step:
    """Plan the installer's tree; the names of its files are read now, their content later."""
    files = filelist.list_files(source_dir)
    part = part_file(workspace)
    directory, bootstrap = workspace.tree_dir / INSTALLER_DIR, workspace.tree_dir / BOOTSTRAP
    return Step(
        name="program",
        doc=f"the installer and {len(lock.python)} vendored Python packages",
        run=functools.partial(
            run_installer, source_dir, files, lock.python, store, directory, bootstrap, part
        ),
        inputs=(
            *(source_dir / file for file in files),
            *(store.path(package.digest) for package in lock.python),
        ),
        outputs=(directory, bootstrap, part),
        config={
            "files": list(files),
            "python": [[package.file, package.digest.hex] for package in lock.python],
        },
    )


def run_installer(
    source_dir: Path,
    files: Sequence[str],
    packages: Sequence[LockedPython],
    store: Store,
    directory: Path,
    bootstrap: Path,
    part: Path,
) -> None:
    """Write the installer's tree and bootstrap.sh as a whole, and their table.

    Raises: MissingError; IntegrityError; BuildError when a package cannot be vendored, or when
    installer/bootstrap.sh is missing.
    """
    if BOOTSTRAP not in files:
        raise BuildError(
            f"the installer has no {BOOTSTRAP}",
            details=f"looked in {source_dir}",
            resolution="restore the file from version control",
        )
    tree = {file: (source_dir / file).read_bytes() for file in files if file != BOOTSTRAP}
    owners = dict.fromkeys(tree, "installer")
    for package in packages:
        blob = Blob(digest=package.digest, size_bytes=package.size_bytes)
        data = store.read(blob, f"Python package {package.name}")
        for path, content in unpack_python(package, data).items():
            vendored = f"{VENDOR_DIR}/{path}"
            if vendored in tree:
                raise BuildError(
                    f"Python package {package.name} has a file that is there already",
                    details=f"{vendored}, from {owners[vendored]}",
                    resolution="take one of the two packages out of packages.yaml",
                )
            tree[vendored] = content
            owners[vendored] = f"Python package {package.name} {package.version}"
    filelist.replace_tree(directory, tree)
    script = (source_dir / BOOTSTRAP).read_bytes()
    write_atomically(bootstrap, script)
    described = filelist.describe_file(BOOTSTRAP, bootstrap)
    filelist.write_part(
        part,
        [
            Entry(
                path=BOOTSTRAP,
                source=bootstrap,
                size_bytes=described.size_bytes,
                digest=described.digest,
                owners=("installer",),
                is_executable=True,
            ),
            *(
                entry
                for path, content in tree.items()
                for entry in filelist.entries_of_tree(directory, INSTALLER_DIR, {path: content}, owners[path])
            ),
        ],
    )


def unpack_python(package: LockedPython, data: bytes) -> Mapping[str, bytes]:
    """Return the files of a Python package that go below ``vendor/``.

    Raises: IntegrityError when the archive is broken; BuildError when it is not pure Python or is empty.
    """
    try:
        if package.file.endswith(_WHEEL):
            if not package.file.endswith(_PURE_WHEEL):
                raise BuildError(
                    f"Python package {package.name} {package.version} is not pure Python",
                    details=f"locked file {package.file}",
                    resolution="ask for 'artifact: sdist' or for another version in packages.yaml",
                )
            found = dict(_unpack_wheel(data))
        elif package.file.endswith(_SDIST):
            found = dict(_unpack_sdist(package, data))
        else:
            found = {}
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as exc:
        raise IntegrityError(
            f"Python package {package.name} {package.version} cannot be unpacked",
            details=f"{package.file}: {exc}",
            resolution="run './doit.sh lock': upstream has published a broken file",
        ) from exc
    if not any(path.endswith("__init__.py") for path in found):
        raise BuildError(
            f"Python package {package.name} {package.version} has no importable package",
            details=f"locked file {package.file}",
            resolution="ask for the other 'artifact' in packages.yaml",
        )
    return found


def _unpack_wheel(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield _plain(info.filename), archive.read(info)


def _unpack_sdist(package: LockedPython, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the Python files below ``lib``, ``src`` or the top of an sdist, and its licence."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        members = {
            "/".join(_plain(member.name).split("/")[1:]): member for member in archive if member.isfile()
        }
        roots = [root for root in ("lib/", "src/", "") if any(_is_module(path, root) for path in members)]
        root = roots[0] if roots else ""
        for path, member in sorted(members.items()):
            stream = archive.extractfile(member)
            if stream is None:
                continue
            if _is_module(path, root):
                yield path.removeprefix(root), stream.read()
            elif "/" not in path and path.upper().startswith(_LICENCE_NAMES):
                yield f"{package.name}-{package.version}.{path}", stream.read()


def _is_module(path: str, root: str) -> bool:
    """Say whether a file of an sdist is part of a package below ``root``; tests and tools are not."""
    inner = path.removeprefix(root)
    top = inner.split("/", 1)[0]
    return (
        path.startswith(root)
        and "/" in inner
        and top.isidentifier()
        and top not in ("tests", "test", "docs", "doc", "examples", "packaging", "lib", "src")
        and inner.endswith(_SOURCE_SUFFIXES)
    )


def _plain(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.TarError(f"path {name!r} leads out of the archive")
    return str(path)
