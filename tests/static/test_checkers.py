# SPDX-License-Identifier: Apache-2.0
"""Run the checkers of the source over all of it, each as one test: one summary closes the whole run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS_DIR = Path(sys.executable).parent
PYTHON_39_SOURCES = ("installer", "salt/_modules", "salt/_states")


def _check(repository_dir: Path, *command: str | Path) -> None:
    """Fail with the checker's own words when it finds something."""
    done = subprocess.run(
        command,
        cwd=repository_dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{Path(command[0]).name} found faults:\n{done.stdout}{done.stderr}", pytrace=False)


def _shell_scripts(repository_dir: Path) -> list[Path]:
    """Return the checked-in files that a shell reads: by their name or by their first line."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository_dir, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    scripts = []
    for file in (repository_dir / name for name in files if name):
        if not file.is_file() or file.is_symlink():
            continue
        with file.open("rb") as stream:
            first_line = stream.readline(80)
        if file.suffix == ".sh" or (first_line.startswith(b"#!") and first_line.rstrip().endswith(b"sh")):
            scripts.append(file)
    return scripts


def test_ruff_finds_nothing(repository_dir: Path) -> None:
    """Style, docstrings, likely bugs; in installer/ and salt/ also what Python 3.9 cannot parse."""
    _check(repository_dir, PROGRAMS_DIR / "ruff", "check", "--output-format=concise", ".")


def test_formatting_is_ruff_s(repository_dir: Path) -> None:
    """One form for all code, so that differences show what was meant."""
    _check(repository_dir, PROGRAMS_DIR / "ruff", "format", "--check", "--output-format=concise", ".")


def test_types_hold(repository_dir: Path) -> None:
    """Mypy in strict mode over everything that pyproject.toml lists."""
    _check(repository_dir, PROGRAMS_DIR / "mypy")


def test_types_hold_on_python_39(repository_dir: Path) -> None:
    """What runs on a target host or inside Salt, checked against that Python's standard library."""
    _check(repository_dir, PROGRAMS_DIR / "mypy", "--python-version", "3.9", *PYTHON_39_SOURCES)


def test_import_contracts_hold(repository_dir: Path) -> None:
    """Who may import whom: pyproject.toml, [tool.importlinter]."""
    _check(repository_dir, PROGRAMS_DIR / "lint-imports", "--no-cache")


def test_shell_scripts_are_clean_and_short(repository_dir: Path) -> None:
    """Shellcheck finds nothing, and no script has more than 80 lines: past that it becomes Python."""
    scripts = _shell_scripts(repository_dir)
    assert scripts
    too_long = {str(s): n for s in scripts if (n := len(s.read_text(encoding="utf-8").splitlines())) > 80}
    assert not too_long
    _check(repository_dir, "shellcheck", *scripts)


@pytest.mark.skipif(shutil.which("python3.9") is None and not list(Path.home().glob(".pyenv/versions/3.9*")),
                    reason="no Python 3.9 here: ruff and mypy check for it all the same")  # fmt: skip
def test_python_39_compiles_what_it_will_run(repository_dir: Path) -> None:
    """The real Python 3.9 parses each file that it will meet on a host."""
    python = next(iter(Path.home().glob(".pyenv/versions/3.9*/bin/python3.9")), Path("python3.9"))
    code = "import sys\nfor name in sys.argv[1:]:\n    compile(open(name).read(), name, 'exec')"
    files = [file for part in PYTHON_39_SOURCES for file in sorted((repository_dir / part).glob("*.py"))]
    assert files
    _check(repository_dir, python, "-I", "-c", code, *files)
