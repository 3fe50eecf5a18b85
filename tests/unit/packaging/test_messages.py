# SPDX-License-Identifier: Apache-2.0
"""Commands in the texts of errors can be typed as they stand there, in a fresh checkout."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# There is no doit on PATH, and Debian 12 has no python.
CANNOT_BE_TYPED = re.compile(r"(?<!/)\bdoit (?:[a-z]+|')|'doit'|(?<![\w/])python3? -m (?:build|lab)\b")


def resolutions(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every ``resolution=`` of a module; what is put into it at run time is left out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "resolution":
            parts = [
                part.value
                for part in ast.walk(node.value)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
            yield node.value.lineno, "".join(parts)


@pytest.mark.parametrize("part", ["build", "lab"])
def test_commands_can_be_typed(repository_dir: Path, part: str) -> None:
    texts = [
        (f"{file.relative_to(repository_dir)}:{line}", text)
        for file in sorted((repository_dir / part).rglob("*.py"))
        for line, text in resolutions(file)
    ]
    assert len(texts) > 20
    assert [item for item in texts if CANNOT_BE_TYPED.search(item[1])] == []


@pytest.mark.parametrize(
    ("text", "is_bad"),
    [
        ("run 'doit lock'", True),
        ("run './doit.sh lock'", False),
        ("then 'doit' again", True),
        ("see 'python -m lab node list'", True),
        ("see '.venv/bin/python -m lab node list'", False),
    ],
)
def test_what_cannot_be_typed(text: str, *, is_bad: bool) -> None:
    assert bool(CANNOT_BE_TYPED.search(text)) == is_bad
