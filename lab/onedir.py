# SPDX-License-Identifier: Apache-2.0
"""Make the tree that upstream's Salt packages install: Salt with a Python of its own, in one directory.

    Debian's python3.13 and libraries, salt and its requirements by hash --> <cache>/lab/onedir/salt/<digest>/

Upstream's Python is newer than the distribution's, and from 3.13 on its TLS contexts check certificates
strictly. Debian trixie's is taken, whose C library is newer than a node's: the tree brings that and its loader
along. The kernel finds that loader only at ``ONEDIR``; ``bin/python3`` starts the interpreter anywhere else too.
Nothing is put into the environment: programs that Salt starts get the host's own libraries.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import debs
from lab.cache import digest_of, lab_dir, produce
from lab.errors import LabError
from lab.golang import COMPONENTS_DIR
from lab.progress import step
from lab.run import run

ONEDIR = "/opt/saltstack/salt"
VERSION = "3008.3"
PYTHON = "python3.13"
SUITE = "trixie"
LOADER = "lib/ld-linux-x86-64.so.2"
REQUIREMENTS_DIR = COMPONENTS_DIR / "salt"
INSTALL_TIMEOUT_S = 1800

#: Programs of the tree and the functions of salt.scripts that they are.
ENTRY_POINTS: dict[str, str] = {
    "salt": "salt_main",
    "salt-call": "salt_call",
    "salt-cp": "salt_cp",
    "salt-key": "salt_key",
    "salt-master": "salt_master",
    "salt-minion": "salt_minion",
    "salt-run": "salt_run",
    "salt-ssh": "salt_ssh",
}

_FORMAT = "5"
_PYTHON_DEBS = ("libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal")
_LIBRARY_DEBS = (
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libmpdec4",
    "libncursesw6",
    "libreadline8t64",
    "libsqlite3-0",
    "libssl3t64",
    "libstdc++6",
    "libtinfo6",
    "libuuid1",
    "libzstd1",
    "zlib1g",
)
_PIP_DEB = "python3-pip-whl"
_PATCHELF_DEB = "patchelf"  # of the default suite: it runs on the build machine as it is
_REQUIREMENTS_FILES = ("requirements-build.txt", "requirements.txt")

#: Of Python's standard library: what no program here imports, and extensions for libraries not in the tree.
_LEFT_OUT = (
    "EXTERNALLY-MANAGED",
    "ensurepip",
    "idlelib",
    "lib-dynload/_*test*",
    "lib-dynload/xx*",
    "test",
    "tkinter",
    "turtledemo",
)


_LAUNCHER = f"""\
#!/bin/sh
# Start the interpreter; where the kernel would not find its loader, by that loader.
here=$(dirname "$(readlink -f "$0")")
[ "$here" != {ONEDIR}/bin ] || exec "$here/{PYTHON}" "$@"
exec "$here/../{LOADER}" --argv0 "$0" "$here/{PYTHON}" "$@"
"""

_FIND_LIBRARY = '''\
"""Let ctypes find the libraries of this tree first, and without the linker's cache."""

import ctypes.util
import glob
import os
import sys

_find_on_host = ctypes.util.find_library


def find_library(name):
    """Return the file of a library of this tree, else what the host has of that name."""
    found = sorted(glob.glob(os.path.join(sys.prefix, "lib", f"lib{name}.so.*")), key=len)
    return found[0] if found else _find_on_host(name)


ctypes.util.find_library = find_library
'''


def build() -> Path:
    """Return the directory with the tree (what belongs at ONEDIR); make it unless the cache has it.

    Raises:
        LabError: a package could not be fetched, or the tree does not start.
    """
    return produce(tree_dir(), partial(_make, tree_dir().name))


def tree_dir() -> Path:
    """Return where the tree is kept, made or not."""
    inputs = {name: (REQUIREMENTS_DIR / name).read_text() for name in _REQUIREMENTS_FILES}
    packages = {
        **debs.versions([_PATCHELF_DEB]),
        **debs.versions((*_PYTHON_DEBS, *_LIBRARY_DEBS, _PIP_DEB), suite=SUITE),
    }
    inputs |= {
        "format": _FORMAT,
        "packages": repr(sorted(packages.items())),
        "programs": repr(sorted(ENTRY_POINTS.items())),
        "left out": repr(_LEFT_OUT),
        "launcher": _LAUNCHER,
        "sitecustomize": _FIND_LIBRARY,
    }
    return lab_dir("onedir") / "salt" / digest_of(inputs)


def render_program(function: str) -> str:
    """Return the text of one program of the tree.

    >>> print(render_program("salt_call"), end="")
    #!/opt/saltstack/salt/bin/python3.13 -I
    import sys
    <BLANKLINE>
    from salt.scripts import salt_call
    <BLANKLINE>
    if __name__ == "__main__":
        sys.exit(salt_call())
    """
    return (
        f"#!{ONEDIR}/bin/{PYTHON} -I\n"
        f"import sys\n\nfrom salt.scripts import {function}\n\n"
        f'if __name__ == "__main__":\n    sys.exit({function}())\n'
    )


def _make(name: str, work_dir: Path) -> None:
    with step(f"make the Salt {VERSION} tree"):
        _place_python(work_dir)
        _place_libraries(work_dir)
        python = work_dir / "bin" / PYTHON
        _set_loader(python, work_dir / LOADER)
        packages_dir = work_dir / "lib" / "python3" / "dist-packages"
        _install(python, packages_dir)
        for program, function in ENTRY_POINTS.items():
            (work_dir / program).write_text(render_program(function))
            (work_dir / program).chmod(0o755)
        site_file = work_dir / "lib" / PYTHON / "sitecustomize.py"
        site_file.unlink(missing_ok=True)  # Debian's is a link into /etc
        site_file.write_text(_FIND_LIBRARY)
        _compile(python, work_dir)
        _set_loader(python, Path(ONEDIR, LOADER))
        _prove(work_dir / "bin" / "python3", name)


def _set_loader(python: Path, loader: Path) -> None:
    """Have the kernel start the interpreter by a loader, with the libraries beside it.

    While the tree is made it is its own at the place of making, so that the programs that pip starts run too.
    """
    patchelf = debs.unpack([_PATCHELF_DEB])[_PATCHELF_DEB].tree_dir / "usr/bin/patchelf"
    paths: list[str | Path] = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", "$ORIGIN/../lib"]
    run([patchelf, *paths, python])


def _place_python(work_dir: Path) -> None:
    (work_dir / "bin").mkdir()
    for deb in debs.unpack(_PYTHON_DEBS, suite=SUITE).values():
        library_dir = deb.tree_dir / "usr/lib" / PYTHON
        if library_dir.is_dir():
            shutil.copytree(library_dir, work_dir / "lib" / PYTHON, symlinks=True, dirs_exist_ok=True)
        program = deb.tree_dir / "usr/bin" / PYTHON
        if program.exists():
            shutil.copy2(program, work_dir / "bin" / PYTHON)
    (work_dir / "bin" / "python3").write_text(_LAUNCHER)
    (work_dir / "bin" / "python3").chmod(0o755)
    for pattern in _LEFT_OUT:
        for path in (work_dir / "lib" / PYTHON).glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _place_libraries(work_dir: Path) -> None:
    for deb in debs.unpack(_LIBRARY_DEBS, suite=SUITE).values():
        for place in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
            for library in (deb.tree_dir / place).glob("*.so.*"):
                shutil.copy2(library, work_dir / "lib" / library.name, follow_symlinks=False)


def _install(python: Path, packages_dir: Path) -> None:
    pip_deb = debs.unpack([_PIP_DEB], suite=SUITE)[_PIP_DEB]
    pip_wheel = next((pip_deb.tree_dir / "usr/share/python-wheels").glob("pip-*.whl"))
    with TemporaryDirectory(prefix="caisson-pip-") as scratch:
        build_dir = Path(scratch) / "build"
        for requirements_file, target_dir in zip(_REQUIREMENTS_FILES, (build_dir, packages_dir), strict=True):
            flags = ["--quiet", "--no-deps", "--no-compile", "--no-build-isolation", "--require-hashes"]
            source: list[str | Path] = ["--requirement", REQUIREMENTS_DIR / requirements_file]
            run(
                [python, "-m", "pip", "install", *flags, "--target", target_dir, *source],
                env={
                    "PYTHONPATH": f"{build_dir}:{pip_wheel}",
                    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                    "PIP_NO_INPUT": "1",
                    "PIP_ROOT_USER_ACTION": "ignore",
                },
                timeout_s=INSTALL_TIMEOUT_S,
            )
    for unused in ("bin", "share", "Cryptodome/SelfTest"):
        shutil.rmtree(packages_dir / unused, ignore_errors=True)


def _compile(python: Path, work_dir: Path) -> None:
    """Compile all modules for their final place; a package's file times must not make Python do it again."""
    modes = ["-q", "-f", "-j2", "--invalidation-mode=unchecked-hash"]
    places: list[str | Path] = ["-s", work_dir, "-p", ONEDIR, work_dir / "lib"]
    run([python, "-I", "-m", "compileall", *modes, *places], timeout_s=INSTALL_TIMEOUT_S)


def _prove(python: Path, name: str) -> None:
    program = (
        "import salt.cli.call, salt.minion, salt.master, ssl, sqlite3, zmq; "
        "is_strict = ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT; "
        "print(salt.version.__version__, 'strict' if is_strict else 'lax')"
    )
    answer = run([python, "-I", "-c", program], timeout_s=120).stdout.strip()
    if answer != f"{VERSION} strict":
        raise LabError(
            f"the Salt tree {name} says {answer!r}, wanted is '{VERSION} strict'",
            details="its version, and how its TLS contexts check certificates by default",
            resolution="make lab/components/salt/requirements.txt, VERSION and PYTHON in lab/onedir.py agree",
        )
