# SPDX-License-Identifier: Apache-2.0
"""The lock files of the Python packages and the list of system packages are whole."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

LOCKS = ("requirements", "requirements-sdist", "requirements-lab", "requirements-test")


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


def _asked(repository_dir: Path, *names: str) -> set[str]:
    """Return the names that pyproject.toml asks for, for some locks."""
    project = tomllib.loads((repository_dir / "pyproject.toml").read_text())
    asked: list[str] = []
    for name in names:
        _, _, group = name.partition("-")
        asked += project["dependency-groups"][group] if group else project["project"]["dependencies"]
    return {_canonical(re.split(r"[=<>\s]", line, maxsplit=1)[0]) for line in asked}


def _locked(repository_dir: Path, name: str) -> set[str]:
    return {_canonical(e.split("==")[0]) for e in _entries((repository_dir / f"{name}.txt").read_text())}


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_answers_what_is_asked_for(repository_dir: Path, name: str) -> None:
    assert _asked(repository_dir, name) <= _locked(repository_dir, name)


def test_every_group_has_a_lock(repository_dir: Path) -> None:
    project = tomllib.loads((repository_dir / "pyproject.toml").read_text())
    assert {f"requirements-{group}" for group in project["dependency-groups"]} == set(LOCKS[1:])
    assert {file.stem for file in repository_dir.glob("requirements*")} == set(LOCKS)


def test_a_production_build_needs_about_a_dozen_packages(repository_dir: Path) -> None:
    """And no compiler: none of them has an extension that is not published ready made."""
    locked = _locked(repository_dir, "requirements")
    assert len(locked) <= 16, sorted(locked)
    assert not locked & (_locked(repository_dir, "requirements-sdist") | {"salt", "cryptography"})


def test_all_locks_agree(repository_dir: Path) -> None:
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
    assert {entry[0] for entry in entries} == {"python", "headers", "build", "check", "lab"}


def _imported(repository_dir: Path, parts: Sequence[str]) -> dict[str, str]:
    """Return the top-level names of others that some folders import, and a file that does."""
    imported: dict[str, str] = {}
    for file in (file for part in parts for file in sorted((repository_dir / part).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            imported.update((name.split(".")[0], str(file.relative_to(repository_dir))) for name in names)
    ours = {"build", "console", "dodo", "installer", "lab", "tests", "tools"}
    return {name: where for name, where in imported.items() if name not in ours | sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (["build"], LOCKS[:1]),
        (["console"], ["requirements", "requirements-test"]),
        (["lab"], ["requirements", "requirements-lab"]),
        (["installer", "tests", "tools"], LOCKS),
    ],
)
def test_every_import_is_asked_for(repository_dir: Path, parts: Sequence[str], names: Sequence[str]) -> None:
    """What the sources import is asked for by name, not only there behind something else."""
    asked = _asked(repository_dir, *names)
    distributions = importlib.metadata.packages_distributions()
    missing = {
        name: where
        for name, where in _imported(repository_dir, parts).items()
        if not asked.intersection(map(_canonical, distributions.get(name, [name])))
    }
    assert not missing


def test_what_is_asked_for_a_build_is_imported(repository_dir: Path) -> None:
    """A dependency that nobody imports any more goes."""
    distributions = importlib.metadata.packages_distributions()
    used = {
        _canonical(distribution)
        for name in _imported(repository_dir, ["build"])
        for distribution in distributions.get(name, [name])
    }
    assert _asked(repository_dir, "requirements") <= used
