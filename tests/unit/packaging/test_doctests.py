# SPDX-License-Identifier: Apache-2.0
"""Examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY_DIR = Path(__file__).parents[3]
MODULES = [
    f"{part}.{file.stem}"
    for part in ("build", "console", "console.pages", "console.views", "installer", "lab", "tools")
    for file in sorted((REPOSITORY_DIR / part.replace(".", "/")).glob("*.py"))
    if not file.stem.startswith("__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    """In a unit test's walls: an example shows a value, and needs no other program and no network."""
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
