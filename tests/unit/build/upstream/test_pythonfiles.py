# SPDX-License-Identifier: Apache-2.0
"""Python packages by pip, from a directory instead of an index. Starts pip."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import pytest

from build.base.errors import BuildError, CommandError, IntegrityError, NetworkError, NotFoundError
from build.inventory.model import Digest, LockedPython, PythonArtifact, WantedPython
from build.upstream.pythonfiles import download_python, lock_python, pip_error, plan_pip

WANTED = WantedPython(name="Tiny", version="1.0", purpose="is tiny")
WHEEL = "Tiny-1.0-py3-none-any.whl"


@pytest.fixture
def links_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory that pip takes for the index, with one wheel."""
    directory = tmp_path / "links"
    directory.mkdir()
    with zipfile.ZipFile(directory / WHEEL, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("Tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Tiny\nVersion: 1.0\n")
        wheel.writestr("Tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("Tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return directory


@pytest.mark.subprocess
def test_a_wheel_is_locked_once_and_downloaded(links_dir: Path, tmp_path: Path) -> None:
    locked = lock_python(WANTED, tmp_path / "cache")
    assert locked == LockedPython(
        name="Tiny",
        version="1.0",
        file=WHEEL,
        digest=Digest.of_file(links_dir / WHEEL),
        size_bytes=(links_dir / WHEEL).stat().st_size,
    )
    (tmp_path / "download").mkdir()
    file = download_python(locked, tmp_path / "download")
    assert Digest.of_file(file) == locked.digest
    (links_dir / WHEEL).unlink()
    assert lock_python(WANTED, tmp_path / "cache") == locked


@pytest.mark.subprocess
def test_another_wheel_is_refused(links_dir: Path, tmp_path: Path) -> None:
    locked = lock_python(WANTED, tmp_path / "cache")
    (tmp_path / "download").mkdir()
    with pytest.raises(IntegrityError, match="not the file that the lock names"):
        download_python(dataclasses.replace(locked, digest=Digest("0" * 64)), tmp_path / "download")


@pytest.mark.subprocess
def test_a_version_that_is_not_there(links_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"does not have Tiny==2\.0"):
        lock_python(dataclasses.replace(WANTED, version="2.0"), tmp_path / "cache")


def test_wheels_are_for_any_python_3_9() -> None:
    args = plan_pip("Tiny", PythonArtifact.WHEEL, Path("r.txt"), Path("out"))
    assert args[1:5] == ("-m", "pip", "download", "--quiet")
    assert "--no-deps" in args
    assert args[args.index("--only-binary") + 1] == ":all:"
    assert args[args.index("--python-version") + 1] == "3.9"
    sdist = plan_pip("Tiny", PythonArtifact.SDIST, Path("r.txt"), Path("out"))
    assert sdist[sdist.index("--no-binary") + 1] == "Tiny"


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", IntegrityError),
        ("ERROR: No matching distribution found for x==9", NotFoundError),
        (
            "WARNING: Retrying (Retry(total=4)) NewConnectionError\nERROR: No matching distribution",
            NetworkError,
        ),
        ("ReadTimeoutError: Read timed out.", NetworkError),
        ("ERROR: something else", CommandError),
    ],
)
def test_what_pip_means(stderr: str, kind: type[BuildError]) -> None:
    assert type(pip_error(stderr, "x==9")) is kind
