# SPDX-License-Identifier: Apache-2.0
"""bootstrap.sh, started for real with bash and the Python of this machine."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path, repository_dir: Path) -> Path:
    """Return a directory like the media's root, whose installer only says how it was started."""
    shutil.copy(repository_dir / "installer/bootstrap.sh", tmp_path / "bootstrap.sh")
    (tmp_path / "installer").mkdir()
    (tmp_path / "installer/__main__.py").write_text(
        "import sys\n"
        "print(sys.flags.isolated, sys.flags.no_site, sys.flags.dont_write_bytecode, sys.flags.utf8_mode)\n"
        "print(sys.argv[1:])\n"
    )
    return tmp_path


@pytest.mark.subprocess
def test_started_isolated_with_all_words_from_any_directory(tree: Path) -> None:
    (tree / "link").symlink_to("bootstrap.sh")
    words = ["check", "--config", "a b"]
    done = subprocess.run([tree / "link", *words], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 1 1 1", str(["--program", "bootstrap.sh", *words])]
    assert not list(tree.rglob("__pycache__"))


@pytest.mark.subprocess
@pytest.mark.skipif(Path("/usr/libexec/platform-python").exists(), reason="this host has a platform-python")
def test_no_python_that_is_new_enough(tree: Path) -> None:
    old = tree / "bin/python3"
    old.parent.mkdir()
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    for tool in ("bash", "dirname", "readlink"):
        (old.parent / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        [tree / "bootstrap.sh"], env={"PATH": str(old.parent)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 12
    assert "there is no Python 3.9 or newer" in done.stderr


@pytest.mark.subprocess
def test_the_installer_starts_from_its_directory(repository_dir: Path, tmp_path: Path) -> None:
    """As a directory given to Python, in isolated mode: nothing of the current directory is imported."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n")
    command = [sys.executable, "-I", "-B", str(repository_dir / "installer"), "explain", "exit-codes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "LockedError" in done.stdout


def test_the_script_is_executable_and_short(repository_dir: Path) -> None:
    file = repository_dir / "installer/bootstrap.sh"
    assert file.stat().st_mode & 0o111
    lines = file.read_text().splitlines()
    assert len(lines) < 80
    assert lines[-1] == 'main "$@"'
    assert "set -euo pipefail" in lines


def test_the_installer_is_python_3_9(repository_dir: Path) -> None:
    for file in sorted((repository_dir / "installer").glob("*.py")):
        ast.parse(file.read_text(encoding="utf-8"), filename=str(file), feature_version=(3, 9))
