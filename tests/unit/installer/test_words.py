# SPDX-License-Identifier: Apache-2.0
"""What an operator reads is said in plain words: in errors, checks, phases, states and the configuration's fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

#: What stumbles those whose English is a second language, and the word to use in its place.
PLAIN = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again",
    r"all the same": "still",
    r"for good": "now and at each boot, permanently",
    r"lasting": "that survives a reboot",
    r"in turn": "in this order, one after the other",
    r"less (these|those|names)": "without",
    r"by the way": "only when you ask for it",
    r"(cannot be|be) had together": "conflict with each other",
    r"vouch(es|ed)?": "confirm, prove",
    r"to the letter": "exactly",
    r"prolonged": "extended",
    r"wherefore|whence|thence|hitherto|thereof|heretofore": "a shorter word",
}
PATTERN = re.compile(r"\b(" + "|".join(PLAIN) + r")\b", re.IGNORECASE)
TEXT_SUFFIXES = (".sls", ".j2", ".yaml", ".json")


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of what a module says: every string in it, docstrings too (``explain`` shows some)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def found_words(repository_dir: Path, part: str) -> list[str]:
    words = []
    for file in sorted((repository_dir / part).rglob("*")):
        if "vendor" in file.parts or "__pycache__" in file.parts:
            continue
        name = str(file.relative_to(repository_dir))
        if file.suffix == ".py":
            spoken = list(texts(file))
        elif file.suffix in TEXT_SUFFIXES:
            spoken = list(enumerate(file.read_text(encoding="utf-8").splitlines(), start=1))
        else:
            continue
        words += [
            f"{name}:{line}: {match.group()}"
            for line, text in spoken
            for match in PATTERN.finditer(" ".join(text.split()))
        ]
    return words


@pytest.mark.parametrize("part", ["installer", "salt"])
def test_messages_use_plain_words(repository_dir: Path, part: str) -> None:
    assert found_words(repository_dir, part) == []


@pytest.mark.parametrize("page", ["when-something-is-wrong", "install-on-a-host", "read-the-preflight-table"])
def test_pages_for_operators_use_plain_words(repository_dir: Path, page: str) -> None:
    text = (repository_dir / f"docs/how-to/{page}.md").read_text(encoding="utf-8")
    assert [match.group() for match in PATTERN.finditer(" ".join(text.split()))] == []


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("mend what is named", False),
        ("the file is mended", False),
        ("make it anew", False),
        ("recommended, amended, renewed", True),
        ("fix it and run it again", True),
        ("up all  the\nsame", False),
    ],
)
def test_what_is_found(text: str, *, is_plain: bool) -> None:
    assert (PATTERN.search(" ".join(text.split())) is None) == is_plain
