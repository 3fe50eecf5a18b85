# SPDX-License-Identifier: Apache-2.0
"""Get files of Python packages by pip, with the user's own pip configuration (index, proxy, certificates).

pip reads the metadata of an sdist by its build back end, so locking or fetching one runs code of that
package. That is why wheels are the rule: only a package without a pure wheel is asked for as an sdist.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path

from build.base.errors import BuildError, CommandError, IntegrityError, NetworkError, NotFoundError
from build.base.files import write_atomically
from build.base.run import run
from build.inventory.model import Digest, LockedPython, PythonArtifact, WantedPython

TARGET_PYTHON = "3.9"
_TIMEOUT_S = 600


def lock_python(wanted: WantedPython, cache_dir: Path) -> LockedPython:
    """Find out the file and the digest of a Python package. A release never changes: the answer is kept.

    Raises: NotFoundError, NetworkError.
    """
    kept_file = cache_dir / f"{wanted.name.lower()}-{wanted.version}-{wanted.artifact}.json"
    kept = _read_kept(kept_file)
    if kept is not None:
        return kept
    with tempfile.TemporaryDirectory(prefix="caisson-pip-") as directory:
        requirement = f"{wanted.name}=={wanted.version}"
        file = _download(wanted.name, wanted.artifact, requirement, Path(directory))
        locked = LockedPython(
            name=wanted.name,
            version=wanted.version,
            file=file.name,
            digest=Digest.of_file(file),
            size_bytes=file.stat().st_size,
        )
    fields = {
        "name": locked.name,
        "version": locked.version,
        "file": locked.file,
        "sha256": locked.digest.hex,
        "size_bytes": locked.size_bytes,
    }
    write_atomically(kept_file, json.dumps(fields).encode())
    return locked


def download_python(package: LockedPython, directory: Path, *, cancel: threading.Event | None = None) -> Path:
    """Download exactly the locked file; pip itself refuses another by its hash.

    Raises: IntegrityError, NotFoundError, NetworkError.
    """
    artifact = PythonArtifact.WHEEL if package.file.endswith(".whl") else PythonArtifact.SDIST
    requirement = f"{package.name}=={package.version} --hash={package.digest}"
    file = _download(package.name, artifact, requirement, directory, cancel)
    if file.name != package.file:
        raise IntegrityError(
            f"Python package {package.name} {package.version} has another file name",
            details=f"expected {package.file}, got {file.name}",
            resolution="run 'doit lock'",
        )
    return file


def plan_pip(
    name: str, artifact: PythonArtifact, requirements_file: Path, directory: Path
) -> tuple[str, ...]:
    """Return the arguments of pip; wheels are those that any Python 3.9 can use."""
    if artifact is PythonArtifact.SDIST:
        kind: tuple[str, ...] = ("--no-binary", name)
    else:
        kind = (
            "--only-binary", ":all:",
            "--platform", "any", "--implementation", "py", "--python-version", TARGET_PYTHON,
        )  # fmt: skip
    return (
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
        "--no-deps", *kind, "--dest", str(directory), "--requirement", str(requirements_file),
    )  # fmt: skip


def _download(
    name: str,
    artifact: PythonArtifact,
    requirement: str,
    directory: Path,
    cancel: threading.Event | None = None,
) -> Path:
    with tempfile.TemporaryDirectory(prefix="caisson-pip-") as scratch:
        requirements_file = Path(scratch, "requirements.txt")
        requirements_file.write_text(f"{requirement}\n", encoding="utf-8")
        args = plan_pip(name, artifact, requirements_file, directory)
        completed = run(args, timeout_s=_TIMEOUT_S, check=False, cancel=cancel)
    files = sorted(file for file in directory.iterdir() if file.is_file())
    if completed.returncode == 0 and len(files) == 1:
        return files[0]
    raise pip_error(completed.stderr, requirement.partition(" ")[0])


def pip_error(stderr: str, what: str) -> BuildError:
    """Turn a failure of pip into the error class that fits its words."""
    last = "\n".join(stderr.strip().splitlines()[-6:])
    if "DO NOT MATCH THE HASHES" in stderr:
        return IntegrityError(
            f"Python package {what} is not the file that the lock names",
            details=last,
            resolution="find out why before you run 'doit lock': releases never change",
        )
    if "No matching distribution" in stderr or "Could not find a version" in stderr:
        is_unreachable = "NewConnectionError" in stderr or "Max retries" in stderr or "Retrying" in stderr
        if not is_unreachable:
            return NotFoundError(
                f"the Python package index does not have {what}",
                details=last,
                resolution="correct the version or 'artifact' in packages.yaml",
            )
    if any(words in stderr for words in ("Connection", "timed out", "Retrying", "Temporary failure")):
        return NetworkError(
            f"cannot get Python package {what}",
            details=last,
            resolution="check the network, the proxy settings and pip's configuration (pip config list)",
        )
    return CommandError(
        f"pip cannot get Python package {what}", details=last, resolution="see pip's words above"
    )


def _read_kept(file: Path) -> LockedPython | None:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return LockedPython(
            name=str(fields["name"]),
            version=str(fields["version"]),
            file=str(fields["file"]),
            digest=Digest(str(fields["sha256"])),
            size_bytes=int(fields["size_bytes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
