# SPDX-License-Identifier: Apache-2.0
"""The lock files of the Python packages and the list of system packages are whole."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

LOCKS = ("requirements", "requirements-build")


def _entries(text: str) -> list[str]:
    """Return each logical line (continuations joined, comments dropped)."""
    return [line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")]


def _canonical(name: str) -> str:
    """Return a package name as the index compares it. Source: PyPA, "Names and normalization"."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_a_hash(repository_dir: Path, name: str) -> None:
    entries = _entries((repository_dir / f"{name}.txt").read_text())
    assert entries
    assert [
        e for e in entries if not re.match(r"[A-Za-z0-9._-]+==\S+( ; [^-]+)? +--hash=sha256:[0-9a-f]{64}", e)
    ] == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_answers_what_is_asked_for(repository_dir: Path, name: str) -> None:
    asked = {
        _canonical(re.split(r"[=<>\s#]", line, maxsplit=1)[0])
        for line in _entries((repository_dir / f"{name}.in").read_text())
    }
    locked = {_canonical(e.split("==")[0]) for e in _entries((repository_dir / f"{name}.txt").read_text())}
    assert asked <= locked


def test_both_locks_agree(repository_dir: Path) -> None:
    pins: dict[str, str] = {}
    for name in LOCKS:
        for entry in _entries((repository_dir / f"{name}.txt").read_text()):
            package, version = entry.split()[0].split("==")
            assert pins.setdefault(package, version) == version


def test_the_lock_names_no_index(repository_dir: Path) -> None:
    """Where the files come from is for the user's own pip configuration to say."""
    for name in LOCKS:
        text = (repository_dir / f"{name}.txt").read_text()
        assert "://" not in text
        assert not [e for e in _entries(text) if e.startswith("-")]


def test_system_packages_have_four_fields_of_known_groups(repository_dir: Path) -> None:
    entries = [line.split() for line in _entries((repository_dir / "system-packages.txt").read_text())]
    assert {len(entry) for entry in entries} == {4}
    assert {entry[0] for entry in entries} == {"python", "build", "check", "lab"}


def test_every_import_is_asked_for(repository_dir: Path) -> None:
    """What the sources import stands in requirements.in itself, not only behind something else."""
    ours = {"build", "dodo", "installer", "lab", "tests", "tools"}
    imported: dict[str, str] = {}
    files = [file for part in ours for file in sorted((repository_dir / part).rglob("*.py"))]
    for file in [*files, *repository_dir.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            imported.update((name.split(".")[0], str(file.relative_to(repository_dir))) for name in names)
    asked = {
        _canonical(re.split(r"[=<>\s#]", line, maxsplit=1)[0])
        for line in _entries((repository_dir / "requirements.in").read_text())
    }
    distributions = importlib.metadata.packages_distributions()
    missing = {
        name: where
        for name, where in imported.items()
        if name not in ours | sys.stdlib_module_names
        and not asked.intersection(map(_canonical, distributions.get(name, [name])))
    }
    assert not missing
