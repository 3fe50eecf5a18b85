# SPDX-License-Identifier: Apache-2.0
"""Each trap that this layout has, with a test that it stays shut. CONTRIBUTING.md says what they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

SPDX_LINE = "SPDX-License-Identifier: Apache-2.0"
# Formats without comments, and files that are others' bytes or the licence itself.
WITHOUT_SPDX_SUFFIXES = frozenset({".json", ".sum", ".asc", ".gpg", ".pub", ".key", ".png", ".lock", ".rpm"})
WITHOUT_SPDX_NAMES = frozenset({"LICENSE"})
WITHOUT_SPDX_DIRS = frozenset({"golden", "keys", "vendor", "scenarios"})
LINE_BUDGETS = {"dodo.py": 60, "*.sls": 60, "*.sh": 80}


def _source_files(repository_dir: Path) -> list[Path]:
    """Return what a commit of everything would hold, relative to the root."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository_dir, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    return sorted(Path(name) for name in set(names) if name and (repository_dir / name).is_file())


def _is_ignored(repository_dir: Path, name: str) -> bool:
    command = ["git", "check-ignore", "--quiet", "--no-index", name]
    return subprocess.run(command, cwd=repository_dir, check=False).returncode == 0


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "name", ["build/new.py", "tests/unit/build/test_new.py", "lab/new.py", "installer/vendor.py"]
)
def test_git_does_not_ignore_sources(repository_dir: Path, name: str) -> None:
    """Stock ignore files have a line for build/: our sources would silently not be committed. Asks git."""
    assert not _is_ignored(repository_dir, name)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "name", ["_out/x.iso", ".venv/bin/python", ".doit.db.dat", "build/__pycache__/a.pyc"]
)
def test_git_ignores_what_is_made(repository_dir: Path, name: str) -> None:
    """Asks git."""
    assert _is_ignored(repository_dir, name)


def test_no_copy_of_the_sources_inside_them(repository_dir: Path) -> None:
    """A wheel made by setuptools leaves build/lib, which import and test runners then find."""
    assert not (repository_dir / "build" / "lib").exists()


def test_salt_tree_is_no_python_package(repository_dir: Path) -> None:
    """With an __init__.py, salt/ would stand in for the real Salt wherever the root is on the path."""
    assert not list((repository_dir / "salt").rglob("__init__.py"))


def test_pytest_visits_directories_named_build(repository_dir: Path) -> None:
    """Pytest's own norecursedirs has "build": tests/unit/build would never run."""
    options = tomllib.loads((repository_dir / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "build" not in options["norecursedirs"]


def test_the_version_stands_in_one_place(repository_dir: Path) -> None:
    """The wheel reads its version where the ISO does: versions.yaml."""
    project = tomllib.loads((repository_dir / "pyproject.toml").read_text())
    text = (repository_dir / "versions.yaml").read_text()
    found = re.search(project["tool"]["hatch"]["version"]["pattern"], text)
    assert found is not None
    assert found["version"] == yaml.safe_load(text)["versions"]["caisson"]
    assert project["project"]["dynamic"] == ["version"]


def test_dodo_knows_the_top_of_the_builder_only(repository_dir: Path) -> None:
    """An import contract in all but form: import-linter takes packages, not single files."""
    tree = ast.parse((repository_dir / "dodo.py").read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    ours = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours <= {"build.steps", "build.project"}


@pytest.mark.subprocess
def test_the_wheel_holds_our_build_package(repository_dir: Path, tmp_path: Path) -> None:
    """Makes the wheel, in a process of its own: ``-P`` keeps our build/ from standing in for another."""
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        cwd=repository_dir,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("caisson-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "build/inventory/model.py" in names
    assert "installer/config/bootstrap.schema.json" in names
    assert not [name for name in names if name.startswith(("build/lib/", "salt/"))]
    test_no_copy_of_the_sources_inside_them(repository_dir)


@pytest.mark.subprocess
def test_every_source_file_names_its_licence(repository_dir: Path) -> None:
    """In the first three lines: a shebang or a document type may stand before it. Asks git for the files."""
    missing = []
    for file in _source_files(repository_dir):
        if (
            file.suffix in WITHOUT_SPDX_SUFFIXES
            or file.name in WITHOUT_SPDX_NAMES
            or WITHOUT_SPDX_DIRS.intersection(file.parts[:-1])
        ):
            continue
        head = (repository_dir / file).read_text(encoding="utf-8").splitlines()[:3]
        if not any(SPDX_LINE in line for line in head):
            missing.append(str(file))
    assert not missing


@pytest.mark.subprocess
def test_no_file_is_over_its_budget(repository_dir: Path) -> None:
    """What is longer than this has logic in it that belongs into tested Python. Asks git for the files."""
    over = {
        str(file): lines
        for file in _source_files(repository_dir)
        for pattern, budget in LINE_BUDGETS.items()
        if file.match(pattern)
        and (lines := len((repository_dir / file).read_text(encoding="utf-8").splitlines())) > budget
    }
    assert not over


@pytest.mark.subprocess
def test_nothing_is_left_to_be_done_in_place(repository_dir: Path) -> None:
    """A note to self in the source is either an issue or a fault. Asks git for the files."""
    notes = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [
        f"{file}:{number}"
        for file in _source_files(repository_dir)
        if file.suffix in {".py", ".sls", ".j2", ".sh", ".md", ".yaml", ".toml"}
        for number, line in enumerate(
            (repository_dir / file).read_text(encoding="utf-8").splitlines(), start=1
        )
        if notes.search(line)
    ]
    assert not found


@pytest.mark.parametrize("program", ["build", "console", "installer"])
def test_every_folder_says_what_it_is_for_and_has_its_place(repository_dir: Path, program: str) -> None:
    """One sentence on the door, and a line in the contract of layers."""
    settings = tomllib.loads((repository_dir / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (item["layers"] for item in contracts if item.get("containers") == [program])
    places = {name for layer in layers for name in layer.split(" : ")}
    doors = sorted((repository_dir / program).glob("*/__init__.py"))
    assert doors
    for door in doors:
        sentence = (ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        assert 20 < len(sentence) <= 130, f"{door.parent}: {sentence!r}"
        assert sentence.endswith("."), f"{door.parent}: {sentence!r}"
        assert door.parent.name in places
